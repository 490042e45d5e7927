"""Linear, debiased CKA: how alike two sets of vectors are, whatever their axes and their size.

Centred kernel alignment (Kornblith et al. 2019) of linear kernels K = X X^T and L = Y Y^T over the same n examples, with
the unbiased estimate of HSIC (Song et al. 2012): without it CKA rises towards 1 as n falls below the number of
dimensions, whatever the data. The estimate is the inner product of U-centred kernels (Szekely and Rizzo 2014):

    K~_ij = K_ij - sum_k K_ik/(n-2) - sum_k K_kj/(n-2) + sum_kl K_kl/((n-1)(n-2)),  K_ii taken as 0,  K~_ii = 0
    HSIC_1(K, L) = <K~, L~> / (n (n - 3))          CKA = HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L))

It is 1 for vectors that are equal up to rotation and scale, 0 in expectation for unrelated ones, and may fall below 0.
"""

from collections.abc import Sequence

import numpy as np

from zoo.errors import DataError

FEWEST = 4  # examples that the estimate takes


def u_centred(X: np.ndarray) -> np.ndarray:
    """The U-centred linear kernel fp64 `[n, n]` of X `[n, d]`. Raises DataError for fewer than 4 examples."""
    n = len(X)
    if n < FEWEST:
        raise DataError(f"CKA of {n} vectors cannot be estimated", valid=f"{FEWEST} or more", remedy="take more clips")
    X = np.asarray(X, dtype=np.float64)
    X = X - X.mean(0)  # changes nothing but the rounding
    kernel = X @ X.T
    np.fill_diagonal(kernel, 0.0)
    sums = kernel.sum(0)
    kernel -= (sums[:, None] + sums[None, :]) / (n - 2)
    kernel += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def cka(X: np.ndarray, Y: np.ndarray) -> float:
    """Debiased linear CKA of X `[n, d]` and Y `[n, e]`; NaN where one of them does not vary."""
    return float(all_cka([X, Y])[0, 1])


def all_cka(sets: Sequence[np.ndarray]) -> np.ndarray:
    """`[S, S]` of S sets of vectors over the same n examples."""
    kernels = np.stack([u_centred(each).ravel() for each in sets])
    inner = kernels @ kernels.T
    scale = np.diagonal(inner).copy()
    scale[scale <= 1e-24 * max(float(scale.max(initial=0.0)), 1e-300)] = np.nan
    return inner / np.sqrt(scale[:, None] * scale[None, :])
