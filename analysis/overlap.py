"""Every pair of K updates at one site: inner product of the dense updates, and overlap of their subspaces.

With delta W_i = U_i diag(s_i) V_i^T, two small products per pair give all three (the trace trick: nothing is dense):

    <delta W_i, delta W_j> = tr(delta W_i^T delta W_j) = sum_ab s_ia s_jb (U_i^T U_j)_ab (V_i^T V_j)_ab
    left overlap  = ||U_i^T U_j||_F^2 / min(r_i, r_j)      the mean squared cosine of the principal angles
    right overlap = ||V_i^T V_j||_F^2 / min(r_i, r_j)      (Bjorck and Golub 1973)

Against chance: for random subspaces of dimensions r, s of R^d, ||U^T U'||_F^2 is the trace of a product of two
projections; its mean is r s / d and its variance 2 r s (d-r)(d-s) / (d^2 (d-1)(d+2)) (moments of uniform projections,
Collins and Sniady 2006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adapters.peft_files import LoraSite
from analysis.deltas import Compact, compact

if TYPE_CHECKING:
    import torch

TILE_BYTES = 600_000  # of one product, so that a tile stays in the processor's cache


@dataclass(frozen=True)
class SitePairs:
    """K updates at one site, all pairs. fp32, so that 500 adapters at 72 sites fit into memory."""

    inner: np.ndarray
    """`[K, K]`"""
    left: np.ndarray
    """`[K, K]`, 0 to 1; the output side."""
    right: np.ndarray
    """`[K, K]`; the input side."""
    ranks: np.ndarray
    """int64 `[K]`: numerical ranks."""


def all_pairs(pairs: Sequence[LoraSite]) -> SitePairs:
    """Ranks may differ; an update of zero has overlap 0 with all."""
    import torch

    K = len(pairs)
    inner, left, right = (torch.zeros(K, K) for _ in range(3))
    ranks = np.zeros(K, dtype=np.int64)
    groups: list[tuple[list[int], Compact]] = []
    for rank in sorted({pair.rank for pair in pairs}):
        members = [k for k, pair in enumerate(pairs) if pair.rank == rank]
        found = compact([pairs[k] for k in members])
        ranks[members] = (found.s > 0).sum(1).numpy()
        groups.append((members, found))
    for g, (members, one) in enumerate(groups):
        for h in range(g, len(groups)):
            others, two = groups[h]
            columns = torch.tensor(others)
            Uj, Vj, sj = two.U.permute(2, 1, 0).contiguous(), two.V.permute(2, 1, 0).contiguous(), two.s.T.float()
            r = one.s.shape[1]
            size = max(1, TILE_BYTES // (4 * r * len(others)))
            for start in range(0, len(members), size):
                tile = slice(start, min(start + size, len(members)))
                first = start if g == h else 0
                rows = torch.tensor(members[tile])
                part = _tile(one, tile, Uj[:, :, first:], Vj[:, :, first:], sj[:, first:])
                for whole, values in zip((inner, left, right), part, strict=True):
                    whole[rows[:, None], columns[first:]] = values
                    whole[columns[first:, None], rows] = values.T
    least = np.maximum(np.minimum.outer(ranks, ranks), 1)
    return SitePairs(inner.numpy(), left.numpy() / least, right.numpy() / least, ranks)


def _tile(one: Compact, tile: slice, Uj: "torch.Tensor", Vj: "torch.Tensor", sj: "torch.Tensor"):
    """inner, left sum and right sum `[a, b]` of the adapters of `tile` against all of j: `[s, out, b]`, `[s, in, b]`,
    `[s, b]`. One component of j at a time, so that no product is larger than the processor's cache."""
    import torch

    Ui, Vi = (X[tile].permute(2, 0, 1).flatten(0, 1) for X in (one.U, one.V))
    si = one.s[tile].T.float()
    (r, a), b = si.shape, sj.shape[1]
    inner, left, right = (torch.zeros(r * a, b) for _ in range(3))
    for U, V, s in zip(Uj, Vj, sj, strict=True):
        GU, GV = Ui @ U, Vi @ V
        left.addcmul_(GU, GU)
        right.addcmul_(GV, GV)
        inner.add_(GU.mul_(GV).mul_(s))
    return (inner.view(r, a, b) * si.unsqueeze(2)).sum(0), left.view(r, a, b).sum(0), right.view(r, a, b).sum(0)


def null_overlap(r: np.ndarray, s: np.ndarray, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the overlap of random subspaces of R^d of dimensions r and s (broadcast)."""
    r, s = np.asarray(r, dtype=float), np.asarray(s, dtype=float)
    least = np.maximum(np.minimum(r, s), 1)
    variance = 2 * r * s * (d - r) * (d - s) / (d**2 * max(d - 1, 1) * (d + 2))
    return r * s / d / least, np.sqrt(np.maximum(variance, 0)) / least


def cosines_of(products: "torch.Tensor") -> "torch.Tensor":
    """Cosines of the principal angles `[..., min(r, s)]`, descending, from the products Q^T Q' `[..., r, s]` of
    orthonormal bases (Bjorck and Golub 1973)."""
    import torch

    return torch.linalg.svdvals(products).clamp(max=1.0)


def null_largest_cosine(r: int, s: int, d: int, draws: int, seed: int) -> np.ndarray:
    """Largest principal cosine of `draws` pairs of random subspaces of R^d of dimensions r and s, sorted; fp64 `[draws]`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    # one of the two may be held fixed: only their relative position counts
    X, _ = torch.linalg.qr(torch.randn(draws, d, r, generator=generator, dtype=torch.float64))
    return np.sort(torch.linalg.matrix_norm(X[:, :s], ord=2).clamp(max=1.0).numpy())


def normal_p(z: float) -> float:
    """One-sided p of a standard normal z."""
    return 0.5 * math.erfc(z / math.sqrt(2))
