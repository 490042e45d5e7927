"""How alike adapters are: cosines of what they add to the base, and the angles between their subspaces.

Everything is computed from delta W = scale B A, so nothing depends on how B and A share it (see deltas.py). "Alike" has
two rulers: chance, the overlap of random subspaces; and the ceiling, two adapters of one language that differ in their
seed alone. Whoever is no closer than chance shares nothing; nobody is closer than the ceiling.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.cache import Cache
from analysis.deltas import Adapters, Compact, compact, layer_order, place, relative_depth
from analysis.embedding import Layout, of_distances
from analysis.overlap import SitePairs, all_pairs, cosines_of, null_largest_cosine, null_overlap
from analysis.progress import steps
from analysis.result import Provenance, Row
from analysis.similarity_tables import tables_of
from zoo.threads import thread_count

if TYPE_CHECKING:
    import torch

    from adapters.store import StoredAdapter

KIND = "similarity-1"
ANGLE_BUDGET = 3e8  # pairs * sites * rank^3 up to which every principal angle is computed: about 15 seconds
NULL_DRAWS = 400


@dataclass(frozen=True)
class Similarity:
    """All pairs of K adapters."""

    provenance: Provenance
    adapters: Adapters
    cosine: np.ndarray
    """`[K, K]` of the whole updates, over the common sites."""
    layers: tuple[str, ...]
    """Names of L layers, encoder first, bottom up."""
    depths: tuple[float, ...]
    layer_cosine: np.ndarray
    """`[L, K, K]`; NaN where an update is zero."""
    site_cosine: np.ndarray
    """`[S, K, K]`"""
    left: np.ndarray
    """`[K, K]` mean over the sites of the overlap of output subspaces."""
    right: np.ndarray
    left_above: np.ndarray
    """`[K, K]` the same between chance, 0, and one subspace inside the other, 1; NaN where chance is 1 already. Overlaps
    of adapters of different ranks compare only so."""
    right_above: np.ndarray
    left_z: np.ndarray
    """`[K, K]` standard deviations above chance."""
    right_z: np.ndarray
    layer_left: np.ndarray
    """`[L, K, K]`"""
    layer_right: np.ndarray
    angles: tuple[Row, ...]
    """Principal angles of each pair; empty where there are too many pairs."""
    ceiling: float | None
    """Mean cosine of two seeds of one language; None where no language has two."""
    merges: np.ndarray
    """scipy's linkage `[K - 1, 4]` by average of 1 - cosine."""
    order: tuple[int, ...]
    """Adapters as the dendrogram orders them."""
    layout: Layout
    _rows: dict[str, list[Row]] = field(default_factory=dict, repr=False)

    def tables(self) -> dict[str, list[Row]]:
        return self._rows


def similarity(
    adapters: Adapters, *, cache: Cache | None = None, seed: int = 0, layout: bool = True, progress: bool = False
) -> Similarity:
    """All pairs of `adapters` at their common sites. seed: of the layout and of the random subspaces. layout: lay them out
    in the plane, too (UMAP alone takes as long as 100 adapters).

    One adapter alone gives its own cosine of 1 and a note. Raises AdapterError where shapes differ.
    """
    sites, K = adapters.common, len(adapters.stored)
    found = _pairs_of_sites(adapters, cache or Cache(None), progress)
    layers = layer_order(sites)
    where = {site: layers.index(place(site).layer_name) for site in sites}
    inner = np.zeros((len(layers), K, K))
    left, right = np.zeros((len(layers), K, K)), np.zeros((len(layers), K, K))
    site_cosine = np.empty((len(sites), K, K), dtype=np.float32)
    counts = np.zeros(len(layers))
    chance = {"left": np.zeros((K, K)), "right": np.zeros((K, K))}
    z: dict[str, np.ndarray] = {"left": np.zeros((K, K)), "right": np.zeros((K, K))}
    variance = {"left": np.zeros((K, K)), "right": np.zeros((K, K))}
    for i, site in enumerate(sites):
        pairs, (out, wide) = found[site]
        layer = where[site]
        site_cosine[i] = _cosines(pairs.inner.astype(np.float64))
        inner[layer] += pairs.inner
        left[layer] += pairs.left
        right[layer] += pairs.right
        counts[layer] += 1
        for side, values, d in (("left", pairs.left, out), ("right", pairs.right, wide)):
            mean, deviation = null_overlap(pairs.ranks[:, None], pairs.ranks[None, :], d)
            z[side] += values - mean
            chance[side] += mean / len(sites)
            variance[side] += deviation**2
    cosine = _cosines(inner.sum(0))
    for side in z:
        z[side] /= np.sqrt(np.maximum(variance[side], 1e-30))
    angles, skipped = _angles(adapters, seed, progress)
    merges, order = _dendrogram(cosine)
    distances = np.clip(1 - np.nan_to_num(cosine), 0, 2) * (1 - np.eye(K))
    plane = of_distances(distances, seed) if layout else Layout(np.zeros((K, 2)), "none", "no layout was asked for")
    twins = two_seeds_of(adapters.stored)
    ceiling = float(np.mean([cosine[i, j] for i, j in twins])) if twins else None
    depth = relative_depth(sites)
    result = Similarity(
        provenance=Provenance(
            "similarity",
            adapters.base,
            adapters.base_sha256,
            adapters.checksums,
            seeds={"layout": seed, "random subspaces": seed},
            counts={"adapters": K, "sites": len(sites), "layers": len(layers), "pairs": K * (K - 1) // 2},
            options={"layout": plane.method, "linkage": "average of 1 - cosine"},
            notes=(*adapters.notes, *_notes(adapters, twins, plane, skipped)),
        ),
        adapters=adapters,
        cosine=cosine,
        layers=tuple(layers),
        depths=tuple(depth[name] for name in layers),
        layer_cosine=np.stack([_cosines(each) for each in inner]),
        site_cosine=site_cosine,
        left=left.sum(0) / len(sites),
        right=right.sum(0) / len(sites),
        left_above=_above(left.sum(0) / len(sites), chance["left"]),
        right_above=_above(right.sum(0) / len(sites), chance["right"]),
        left_z=z["left"],
        right_z=z["right"],
        layer_left=left / counts[:, None, None],
        layer_right=right / counts[:, None, None],
        angles=tuple(angles),
        ceiling=ceiling,
        merges=merges,
        order=order,
        layout=plane,
    )
    result._rows.update(tables_of(result, twins))
    return result


def _pairs_of_sites(adapters: Adapters, cache: Cache, progress: bool) -> dict[str, tuple[SitePairs, tuple[int, int]]]:
    """Site -> its pairs and (out, in). Blocks of sites run side by side, each on one thread."""
    import torch

    def block(sites: tuple[str, ...]) -> dict[str, tuple[SitePairs, tuple[int, int]]]:
        held: list[dict[str, Any]] = []

        def compute(site: str) -> dict[str, Any]:
            if not held:
                held.extend(adapters.read(sites))
            pairs = [each.pop(site) for each in held]
            adapters.check_shapes(site, pairs)
            made = all_pairs(pairs)
            shape = np.array([pairs[0].B.shape[0], pairs[0].A.shape[1]])
            return {"inner": made.inner, "left": made.left, "right": made.right, "ranks": made.ranks, "shape": shape}

        found = {}
        for site in sites:
            item = cache.item(KIND, {"adapters": adapters.contents, "site": site}, partial(compute, site))
            made = SitePairs(item["inner"], item["left"], item["right"], item["ranks"])
            found[site] = made, (int(item["shape"][0]), int(item["shape"][1]))
        return found

    blocks, found = adapters.blocks(), {}
    with (
        thread_count() as threads,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        for part in steps("similarity", pool.map(block, blocks), len(blocks), show=progress):
            found.update(part)
    return found


def _cosines(inner: np.ndarray) -> np.ndarray:
    """Inner products `[K, K]` -> cosines; NaN where an update is zero."""
    norm = np.sqrt(np.maximum(np.diagonal(inner), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = inner / (norm[:, None] * norm[None, :])
    cosine[np.diag_indices_from(cosine)] = np.where(norm > 0, 1.0, np.nan)
    return np.where(np.isfinite(cosine), np.clip(cosine, -1, 1), np.nan)


def _above(overlap: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(overlap - chance) / (1 - chance)"""
    room = 1 - chance
    return np.where(room > 1e-9, (overlap - chance) / np.where(room > 1e-9, room, 1), np.nan)


def two_seeds_of(adapters: "Sequence[StoredAdapter]") -> list[tuple[int, int]]:
    """Pairs of one language and rank with the same sites that were trained with different seeds (or, where the records
    do not say, as different variants): the ceiling of every similarity."""
    found = []
    for i, j in combinations(range(len(adapters)), 2):
        a, b = adapters[i], adapters[j]
        if (a.key.language, a.key.rank) != (b.key.language, b.key.rank):
            continue
        if set(a.record.update_norms) != set(b.record.update_norms):
            continue
        seeds = (a.record.seed, b.record.seed)
        if (seeds[0] != seeds[1]) if None not in seeds else (a.key.variant != b.key.variant):
            found.append((i, j))
    return found


def _angles(adapters: Adapters, seed: int, progress: bool) -> tuple[list[Row], str]:
    """Principal angles of every pair, averaged over the sites; and why there are none, where there are too many."""
    import torch

    K = len(adapters.stored)
    ranks = [stored.key.rank for stored in adapters.stored]
    cost = len(adapters.common) * sum(r * s * min(r, s) for r, s in combinations(ranks, 2))
    if K < 2:
        return [], ""
    if cost > ANGLE_BUDGET:
        return (
            [],
            f"single principal angles of {K * (K - 1) // 2} pairs are not computed, only their mean squared cosine",
        )
    sums: dict[tuple[int, int, str], list[tuple[float, float, float]]] = defaultdict(list)
    nulls: dict[tuple[int, int, int], np.ndarray] = {}
    for _, pairs in steps("angles", adapters.by_site(), len(adapters.common), show=progress):
        found = [compact([pair]) for pair in pairs]
        for side in ("left", "right"):
            bases = [_basis(each, side) for each in found]
            joined = torch.cat(bases, 1).double()
            gram = joined.T @ joined
            spans = np.cumsum([0, *(basis.shape[1] for basis in bases)])
            for (r, s), members in _by_ranks(bases).items():
                d = bases[members[0][0]].shape[0]
                least, most = sorted((r, s))
                if (least, most, d) not in nulls:
                    nulls[least, most, d] = null_largest_cosine(most, least, d, NULL_DRAWS, seed)
                null = nulls[least, most, d]
                cosines = cosines_of(
                    torch.stack([gram[spans[i] : spans[i] + r, spans[j] : spans[j] + s] for i, j in members])
                ).numpy()
                above = len(null) - np.searchsorted(null, cosines[:, 0], side="left")
                degrees = np.degrees(np.arccos(cosines)).mean(1)
                for n, (i, j) in enumerate(members):
                    p = (1 + above[n]) / (1 + len(null))
                    sums[min(i, j), max(i, j), side].append((cosines[n, 0], degrees[n], p))
    rows = []
    for (i, j, side), values in sums.items():
        largest, degrees, above = np.array(values).T
        rows.append(
            {
                "adapter": adapters.labels[adapters.names[i]],
                "other": adapters.labels[adapters.names[j]],
                "side": {"left": "output", "right": "input"}[side],
                "largest_cosine": float(largest.mean()),
                "mean_angle_degrees": float(degrees.mean()),
                "sites_above_chance": float((above < 0.05).mean()),
                "sites": len(values),
            }
        )
    return rows, ""


def _basis(found: Compact, side: str):
    """Orthonormal `[d, numerical rank]`"""
    values = found.U if side == "left" else found.V
    return values[0][:, found.s[0] > 0]


def _by_ranks(bases: "Sequence[torch.Tensor]") -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(r, s) -> pairs whose subspaces have these dimensions, those of no dimension left out."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for i, j in combinations(range(len(bases)), 2):
        if bases[i].shape[1] > bases[j].shape[1]:
            i, j = j, i
        if bases[i].shape[1]:
            found[bases[i].shape[1], bases[j].shape[1]].append((i, j))
    return found


def _dendrogram(cosine: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    from scipy.cluster.hierarchy import leaves_list, linkage

    K = len(cosine)
    if K < 2:
        return np.zeros((0, 4)), tuple(range(K))
    distances = np.clip(1 - np.nan_to_num(cosine), 0, 2)[np.triu_indices(K, 1)]
    merges = linkage(distances, method="average")
    return merges, tuple(int(i) for i in leaves_list(merges))


def _notes(adapters: Adapters, twins: Sequence[tuple[int, int]], layout: Layout, skipped: str) -> list[str]:
    notes = [text for text in (layout.note, skipped) if text]
    K = len(adapters.stored)
    if K == 1:
        notes.append("one adapter alone: there is nothing to compare it with")
    elif not twins:
        notes.append("no language has two seeds of one rank: there is no ceiling to hold similarities against")
    seeds = [(stored.key.rank, stored.record.seed) for stored in adapters.stored if stored.record.seed is not None]
    if len(seeds) > len(set(seeds)):
        notes.append(
            "adapters trained from one seed at one rank usually start from the same A: part of what their input "
            "subspaces share was there before training"
        )
    return notes
