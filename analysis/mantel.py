"""Does one matrix between languages follow another? The permutation test of Mantel (1967).

The entries of a matrix between n languages are not independent (each language is in n - 1 of them), so the correlation
is held against what it becomes when the languages of one matrix are renamed: rows and columns permuted together. A
matrix may be asymmetric (transfer from A to B is not transfer from B to A); then all n (n - 1) entries off the diagonal
count, else the two halves hold the same entries and change nothing.

Up to 8 languages every one of the n! renamings is taken, so p is exact and never below 1/n!; for three languages that
is 1/6 and nothing can be found. For more, `permutations` random ones; p = (1 + as extreme) / (1 + permutations)
(Phipson & Smyth 2010).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError

EXACT = 8  # languages up to which every permutation is taken: 8! = 40,320
FEWEST = 3  # below that a matrix has nothing to be permuted


@dataclass(frozen=True)
class Mantel:
    """A correlation between two matrices, and how often chance does as well."""

    correlation: float
    """Spearman's (or Pearson's) over the pairs of languages."""
    p: float
    """Two-sided: the share of renamings whose correlation is at least as far from zero."""
    languages: int
    pairs: int
    """Entries the correlation is over."""
    permutations: int
    """Renamings tried, the true one included where all were."""
    exact: bool
    least_p: float
    """The smallest p this many languages and permutations can give."""


def mantel(
    first: np.ndarray, second: np.ndarray, *, method: str = "spearman", permutations: int = 9999, seed: int = 0
) -> Mantel:
    """first, second: `[n, n]`, the same languages in the same order; the diagonal is ignored. A pair that is NaN in
    either is left out.

    Raises DataError for other shapes, fewer than 3 languages, or a matrix that is constant off its diagonal.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n = first.shape[0]
    if first.shape != (n, n) or second.shape != (n, n):
        raise DataError(f"Matrices of shapes {first.shape} and {second.shape}", valid="two square ones of equal size")
    if n < FEWEST:
        raise DataError(f"A permutation test of {n} languages says nothing", valid=f"{FEWEST} languages or more")
    if method not in ("spearman", "pearson"):
        raise DataError(f"Correlation {method!r} is unknown", valid="spearman, pearson")
    off = ~np.eye(n, dtype=bool)
    for name, matrix in (("first", first), ("second", second)):
        known = matrix[off & np.isfinite(matrix)]
        if len(known) < FEWEST or np.ptp(known) == 0:
            raise DataError(
                f"The {name} matrix has {len(known)} pairs that are all alike or too few",
                valid="values that differ between languages",
            )
    off &= np.isfinite(first) & np.isfinite(second)
    rows, columns = np.nonzero(off)
    exact = n <= EXACT
    if exact:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        random = np.random.default_rng(seed)
        orders = np.stack([random.permutation(n) for _ in range(permutations)])
    truth = _correlations(first, second, rows, columns, np.arange(n)[None], method)[0]
    values = _correlations(first, second, rows, columns, orders, method)
    extreme = int((np.abs(values) >= abs(truth) - 1e-12).sum())
    total = len(orders)
    p = extreme / total if exact else (1 + extreme) / (1 + total)
    least = 1 / math.factorial(n) if exact else 1 / (1 + total)
    return Mantel(float(truth), float(p), n, len(rows), total, exact, least)


def _correlations(first, second, rows, columns, orders, method) -> np.ndarray:
    """float64 `[P]`: the correlation of `first` with `second` under each renaming of the languages of `second`.

    A renaming may move a NaN of `second` onto a pair; that pair is left out there.
    """
    from scipy.stats import rankdata

    x = first[rows, columns]
    y = second[orders[:, rows], orders[:, columns]]
    if method == "spearman" and np.isfinite(y).all():
        x, y = rankdata(x), rankdata(y, axis=1)
    elif not np.isfinite(y).all():
        return np.array([_one(x, row, method) for row in y])
    x = x - x.mean()
    y = y - y.mean(axis=1, keepdims=True)
    norms = np.sqrt((x**2).sum() * (y**2).sum(axis=1))
    return np.divide(y @ x, norms, out=np.zeros(len(y)), where=norms > 0)


def _one(x: np.ndarray, y: np.ndarray, method: str) -> float:
    from scipy.stats import rankdata

    known = np.isfinite(y)
    if known.sum() < FEWEST:
        return 0.0
    x, y = x[known], y[known]
    if method == "spearman":
        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt((x**2).sum() * (y**2).sum())
    return float(x @ y / norm) if norm > 0 else 0.0
