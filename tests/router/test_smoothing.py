"""Spans from hand-made posteriors, held to sums by hand and to trying every labelling."""

from itertools import pairwise, product

import numpy as np
import pytest

from router.smoothing import Path, Smoothing, Span, parameters, smooth, viterbi
from zoo.errors import ModelError

RATE = 10.0  # frames per second: a frame is 0.1 s


def posteriors(labels: str, p: float = 0.9, languages: str = "abc") -> np.ndarray:
    """Log-probabilities `[T, 3]`: `p` for the letter's language, the rest shared."""
    rows = np.full((len(labels), len(languages)), (1 - p) / (len(languages) - 1))
    for t, letter in enumerate(labels):
        rows[t, languages.index(letter)] = p
    return np.log(rows)


def spans(labels: str, **options) -> list[tuple[int, int, int]]:
    path = smooth(posteriors(labels), RATE, Smoothing(**{"cost": 0.5, "shortest_s": 0.3, **options}))
    return [(span.start, span.end, span.language) for span in path.spans]


def test_a_change_pays_where_its_lead_is_larger_than_its_cost():
    # A frame leads by ln(0.9 / 0.05) * 0.1 s = 0.289 nat-seconds. Two frames of b in the middle, 0.578 together, would
    # have to pay for two changes; at the end for one, but only if they are worth it.
    assert np.log(0.9 / 0.05) * 0.1 == pytest.approx(0.289, abs=1e-3)
    assert spans("aaaaabbaaaaa", shortest_s=0.1) == [(0, 12, 0)]
    assert spans("aaaaabbbbaaaaa", shortest_s=0.1) == [(0, 5, 0), (5, 9, 1), (9, 14, 0)]
    assert spans("aaaaaaabb") == [(0, 7, 0), (7, 9, 1)]
    assert spans("aaaaaaab") == [(0, 8, 0)]
    assert spans("aaaaaaab", cost=0.2) == [(0, 7, 0), (7, 8, 1)]


def test_the_gain_is_what_the_changes_are_worth():
    path = smooth(posteriors("aaaaaabbbb"), RATE, Smoothing(cost=0.5))
    assert path.gain == pytest.approx(4 * 0.1 * np.log(0.9 / 0.05))
    assert smooth(posteriors("aaaaaa"), RATE, Smoothing()).gain == 0.0


def test_a_span_lasts_but_for_those_that_the_ends_cut():
    assert spans("aaaaabbbaaaaa", shortest_s=0.3, cost=0.4) == [(0, 5, 0), (5, 8, 1), (8, 13, 0)]
    assert spans("aaaaabbbaaaaa", shortest_s=0.6, cost=0.1) == [(0, 13, 0)]
    assert spans("bbaaaaaaa", shortest_s=0.6) == [(0, 2, 1), (2, 9, 0)]
    # a switch in the last 0.3 s
    assert spans("aaaaaaaaaaaabbb", shortest_s=0.6) == [(0, 12, 0), (12, 15, 1)]


def test_one_language_is_one_span():
    assert spans("c" * 100) == [(0, 100, 2)]
    assert smooth(np.zeros((0, 3)), RATE, Smoothing()) == Path((), 0.0)
    assert smooth(np.zeros((1, 3)), RATE, Smoothing()).spans == (Span(0, 1, 0),)


def test_no_single_frame_is_surer_than_the_floor():
    rows = posteriors("a" * 20, 0.6)
    rows[10] = np.log([1e-30, 1 - 2e-30, 1e-30])
    assert len(smooth(rows, RATE, Smoothing(cost=0.5, shortest_s=0.1, floor=-4.0)).spans) == 1
    assert len(smooth(rows, RATE, Smoothing(cost=0.5, shortest_s=0.1, floor=-80.0)).spans) == 3


def test_fifty_switches_in_a_minute():
    labels = "".join("ab"[i % 2] * 59 for i in range(51))  # at 50 frames a second, 1.18 s each
    path = smooth(posteriors(labels, 0.7), 50.0, Smoothing(cost=0.3, shortest_s=0.3))
    assert [span.start for span in path.spans] == [59 * i for i in range(51)]
    assert [span.language for span in path.spans] == [i % 2 for i in range(51)]


@pytest.mark.parametrize("seed", range(12))
def test_no_labelling_is_better(seed):
    """Against all labellings of a short clip whose inner spans are long enough."""
    random = np.random.default_rng(seed)
    T, L, shortest, cost = 8, 3, int(random.integers(1, 4)), float(random.uniform(0.1, 1.0))
    evidence = np.log(random.dirichlet(np.ones(L), T))

    def worth(labels) -> float | None:
        edges = [0, *[t for t in range(1, T) if labels[t] != labels[t - 1]], T]
        if any(b - a < shortest for a, b in pairwise(edges[1:-1])):
            return None
        return sum(evidence[t, k] for t, k in enumerate(labels)) - cost * (len(edges) - 2)

    best = max((labels for labels in product(range(L), repeat=T) if worth(labels) is not None), key=worth)
    found = viterbi(np.concatenate([np.zeros((1, L)), evidence.cumsum(axis=0)]), cost, shortest)
    labels = [span.language for span in found for _ in range(span.end - span.start)]
    assert worth(labels) == pytest.approx(worth(best))


def test_impossible_parameters_are_refused():
    with pytest.raises(ModelError, match="switching cost is -1"):
        Smoothing(cost=-1)
    with pytest.raises(ModelError, match="floor is 1"):
        Smoothing(floor=1)
    with pytest.raises(ModelError, match=r"unknown keys \['costs'\].*cost, .*boli train switching"):
        parameters(Smoothing, {"costs": 1})
