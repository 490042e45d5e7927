"""Intruder dimensions: singular vectors of W + delta W that no singular vector of W resembles.

Shuttleworth et al. 2024 ("LoRA vs Full Fine-tuning: An Illusion of Equivalence", algorithm 1): the k leading left
singular vectors y_j of the adapted weight; y_j is an intruder where max_i |cos(y_j, x_i)| < epsilon over all left
singular vectors x_i of W. The leading vectors are found by Lanczos iterations that only multiply by W, B and A; the
adapted weight is never formed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.peft_files import LoraSite
from analysis.cache import Cache
from analysis.deltas import Adapters
from analysis.progress import steps

if TYPE_CHECKING:
    from zoo.interface import BaseModel

KIND = "intruders-1"
LEADING = 10  # the paper's k
EPSILON = 0.5
EPSILONS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def base_weight(base: "BaseModel", site: str) -> np.ndarray | None:
    """fp64 `[out, in]`; None where the base holds it quantised."""
    weight = getattr(base.module.get_submodule(site), "weight", None)
    if weight is None or not weight.is_floating_point() or weight.ndim != 2:
        return None
    return weight.detach().cpu().double().numpy()


def resemblances(weight: np.ndarray, pairs: Sequence[LoraSite | None], leading: int = LEADING) -> np.ndarray:
    """`[K, k]`: for each update, for each of the k leading left singular vectors of W + delta W, strongest first, the
    largest |cosine| with any left singular vector of W. NaN for None. k: `leading`, fewer where W is small."""
    k = min(leading, min(weight.shape) - 1)
    left, _, _ = np.linalg.svd(weight, full_matrices=False)
    found = np.full((len(pairs), max(k, 1)), np.nan)
    for n, pair in enumerate(pairs):
        if pair is not None and k > 0:
            found[n] = np.abs(left.T @ _leading(weight, pair, k)).max(0)
    return found


def _leading(weight: np.ndarray, pair: LoraSite, k: int) -> np.ndarray:
    """The k leading left singular vectors of W + scale B A, `[out, k]`."""
    from scipy.sparse.linalg import ArpackError, LinearOperator, svds

    A, B = pair.A.double().numpy(), pair.scale * pair.B.double().numpy()
    operator = LinearOperator(
        weight.shape,
        matvec=lambda x: weight @ x + B @ (A @ x),
        rmatvec=lambda y: weight.T @ y + A.T @ (B.T @ y),
        dtype=np.float64,
    )
    start = np.random.default_rng(0).standard_normal(min(weight.shape))
    try:
        U, s, _ = svds(operator, k=k, v0=start, solver="arpack")
    except ArpackError:  # equal singular values: Lanczos does not settle
        U, s, _ = np.linalg.svd(weight + B @ A, full_matrices=False)
    return U[:, np.argsort(s)[::-1][:k]]


def intruders(
    adapters: Adapters, base: "BaseModel", *, cache: Cache, progress: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """Site -> adapter's name -> resemblances `[k]`, for every site of every adapter whose weight can be read."""
    names = {stored.name: set(stored.record.update_norms) for stored in adapters.stored}
    every = list(dict.fromkeys(site for sites in names.values() for site in sites))
    found: dict[str, dict[str, np.ndarray]] = {}
    for site in steps("intruder dimensions", every, show=progress):
        members = [i for i, stored in enumerate(adapters.stored) if site in names[stored.name]]
        key = {
            "base": base.weights_sha256,
            "adapters": [adapters.contents[i] for i in members],
            "site": site,
            "leading": LEADING,
        }

        def compute(site: str = site, members: list[int] = members) -> dict[str, Any]:
            weight = base_weight(base, site)
            if weight is None:
                return {"cosines": np.zeros((0, 0))}
            chosen = Adapters(tuple(adapters.stored[i] for i in members), adapters.base, adapters.base_sha256, (site,))
            return {"cosines": resemblances(weight, [pairs[site] for pairs in chosen.read([site])])}

        cosines = cache.item(KIND, key, compute)["cosines"]
        if cosines.size:
            found[site] = {adapters.names[i]: row for i, row in zip(members, cosines, strict=True)}
    return found
