"""The permutation test finds a planted structure and does not find an absent one."""

import itertools

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from analysis.mantel import mantel
from zoo.errors import DataError


def distances(n: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


@pytest.mark.parametrize("n", [6, 12])
def test_planted_structure_is_found(n):
    first = distances(n, 0)
    noise = np.random.default_rng(1).normal(scale=0.1, size=(n, n))
    result = mantel(first, -first + noise)
    assert result.correlation < -0.8
    assert result.p <= 0.01
    assert result.exact == (n <= 8)


def test_absent_structure_is_not_found_more_often_than_chance():
    found = [mantel(distances(6, seed), distances(6, 1000 + seed)).p <= 0.05 for seed in range(60)]
    assert sum(found) <= 8  # binomial(60, 0.05): more than 8 has probability 0.003


@pytest.mark.parametrize(("method", "reference"), [("spearman", spearmanr), ("pearson", pearsonr)])
def test_correlation_is_scipys_over_the_off_diagonal(method, reference):
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(5, 5)), rng.normal(size=(5, 5))
    off = ~np.eye(5, dtype=bool)
    result = mantel(first, second, method=method)
    assert result.correlation == pytest.approx(reference(first[off], second[off]).statistic, abs=1e-12)
    assert result.pairs == 20
    assert result.permutations == 120


def test_exact_p_is_the_share_of_all_renamings():
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    off = ~np.eye(4, dtype=bool)
    values = [
        pearsonr(first[off], second[np.ix_(order, order)][off]).statistic for order in itertools.permutations(range(4))
    ]
    expected = np.mean(np.abs(values) >= abs(values[0]) - 1e-12)
    assert mantel(first, second, method="pearson").p == pytest.approx(expected)


def test_a_missing_pair_is_left_out():
    first, second = distances(5, 0), distances(5, 0)
    second[0, 1] = np.nan
    result = mantel(first, second)
    assert result.pairs == 19
    assert result.correlation == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 2)), "3 languages or more"),
        (np.zeros((3, 3)), np.zeros((4, 4)), "two square ones"),
        (np.ones((4, 4)), distances(4, 0), "all alike"),
    ],
)
def test_what_cannot_be_tested_is_refused(first, second, message):
    with pytest.raises(DataError, match=message):
        mantel(first, second)
