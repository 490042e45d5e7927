"""Spectra of what adapters add: how many directions they use, how strongly, and how strange they are to the base.

Singular values come from r x r algebra (deltas.py). With s the singular values of one update and p = s / sum(s):

    effective rank = exp(-sum p log p)           Roy and Vetterli 2007
    stable rank    = sum(s^2) / max(s)^2         Rudelson and Vershynin 2007
    energy of k    = sum of the k largest s^2 / sum(s^2)
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.peft_files import LoraSite, read_some
from analysis.cache import Cache
from analysis.deltas import Adapters, layer_order, place, relative_depth, singular_values
from analysis.intruders import EPSILON, EPSILONS, LEADING, base_weight, intruders
from analysis.progress import steps
from analysis.result import Provenance, Row
from zoo.threads import thread_count

if TYPE_CHECKING:
    from zoo.interface import BaseModel

KIND = "spectrum-1"
DETAILED = 64  # adapters up to which every site is a row
FEWEST = 4  # adapters below which a correlation says nothing
MEASURES = ("effective_rank_share", "stable_rank_share", "relative_norm", "norm", "intruders")


@dataclass(frozen=True)
class SiteSpectrum:
    """One update at one site."""

    site: str
    s: np.ndarray
    """fp64 `[r]`, descending."""
    base_norm: float | None
    """Frobenius norm of the base's weight; None where no base was loaded or it is quantised."""
    resemblance: np.ndarray | None
    """`[k]`: see intruders.py."""

    @property
    def norm(self) -> float:
        return float(np.sqrt((self.s**2).sum()))

    @property
    def relative_norm(self) -> float | None:
        return self.norm / self.base_norm if self.base_norm else None

    @property
    def effective_rank(self) -> float:
        return effective_rank(self.s)

    @property
    def stable_rank(self) -> float:
        return stable_rank(self.s)

    @property
    def energy(self) -> np.ndarray:
        """`[r]` share of the energy in the 1, 2, ... strongest directions."""
        return energy(self.s)

    def intruders(self, epsilon: float = EPSILON) -> int | None:
        return None if self.resemblance is None else int((self.resemblance < epsilon).sum())


def effective_rank(s: np.ndarray) -> float:
    """exp of the entropy of s / sum(s); 0 for an update of zero."""
    total = s.sum()
    if total <= 0:
        return 0.0
    p = s[s > 0] / total
    return float(np.exp(-(p * np.log(p)).sum()))


def stable_rank(s: np.ndarray) -> float:
    return float((s**2).sum() / s.max() ** 2) if s.size and s.max() > 0 else 0.0


def energy(s: np.ndarray) -> np.ndarray:
    total = (s**2).sum()
    return np.cumsum(s**2) / total if total > 0 else np.zeros_like(s)


@dataclass(frozen=True)
class Spectrum:
    """All updates of all adapters."""

    provenance: Provenance
    adapters: Adapters
    sites: dict[str, tuple[SiteSpectrum, ...]]
    """Adapter's name -> its sites, in the order of the base's layers."""
    layers: tuple[str, ...]
    _rows: dict[str, list[Row]] = field(default_factory=dict, repr=False)

    def tables(self) -> dict[str, list[Row]]:
        return self._rows

    def by_layer(self, name: str) -> dict[str, list[SiteSpectrum]]:
        """Layer -> the sites of adapter `name` in it."""
        found: dict[str, list[SiteSpectrum]] = defaultdict(list)
        for each in self.sites[name]:
            found[place(each.site).layer_name].append(each)
        return found


def spectrum(
    adapters: Adapters,
    base: "BaseModel | None" = None,
    *,
    cache: Cache | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Spectrum:
    """Every site of every adapter, also those that not all have. base: for norms beside W and intruder dimensions.

    Raises AdapterError where the base's weights are not those that the adapters name.
    """
    from router.fleet import check_base

    cache = cache or Cache(None)
    notes = [note for note in adapters.notes if "taken on trust" in note]
    norms: dict[str, float | None] = {}
    strange: dict[str, dict[str, np.ndarray]] = {}
    if base is None:
        notes.append("no base was loaded: norms stand alone, intruder dimensions were not looked for")
    else:
        for stored in adapters.stored:
            check_base(stored, base)
        every = {site for stored in adapters.stored for site in stored.record.update_norms}
        for site in sorted(every):
            weight = base_weight(base, site)
            norms[site] = None if weight is None else float(np.linalg.norm(weight))
        if None in norms.values():
            notes.append("weights that the base holds quantised have no norm and no singular vectors to compare with")
        strange = intruders(adapters, base, cache=cache, progress=progress)
    values = _values(adapters, cache, progress)
    sites = {
        name: tuple(
            SiteSpectrum(site, values[name][site], norms.get(site), strange.get(site, {}).get(name))
            for site in _ordered(values[name])
        )
        for name in adapters.names
    }
    found = Spectrum(
        Provenance(
            "spectrum",
            adapters.base,
            adapters.base_sha256,
            adapters.checksums,
            seeds={"permutations": seed},
            counts={"adapters": len(sites), "sites": sum(map(len, sites.values()))},
            options={"intruders": {"leading vectors": LEADING, "epsilon": EPSILON}} if base is not None else {},
            notes=tuple(notes),
        ),
        adapters,
        sites,
        tuple(layer_order(_ordered({site: 0 for name in sites for site in values[name]}))),
    )
    tables, more = _tables(found, seed)
    found._rows.update(tables)
    if more:
        from dataclasses import replace

        found = replace(found, provenance=replace(found.provenance, notes=(*notes, *more)))
    return found


def _ordered(sites) -> list[str]:
    return sorted(sites, key=lambda site: (place(site).part == "decoder", place(site).layer, site))


def _values(adapters: Adapters, cache: Cache, progress: bool) -> dict[str, dict[str, np.ndarray]]:
    """Adapter's name -> site -> singular values. Adapters run side by side, each on one thread."""
    import torch

    def one(i: int) -> dict[str, np.ndarray]:
        stored = adapters.stored[i]
        item = cache.item(
            KIND,
            {"adapter": adapters.contents[i]},
            lambda: _of_pairs(read_some(stored.folder, list(stored.record.update_norms), stored.name)),
        )
        return item

    with (
        thread_count() as threads,
        ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        found = pool.map(one, range(len(adapters.stored)))
        return dict(zip(adapters.names, steps("spectra", found, len(adapters.stored), show=progress), strict=True))


def _of_pairs(pairs: dict[str, LoraSite]) -> dict[str, Any]:
    """Site -> singular values; sites of one shape and rank are taken together."""
    groups: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for site, pair in pairs.items():
        groups[pair.rank, pair.A.shape[1], pair.B.shape[0]].append(site)
    found: dict[str, Any] = {}
    for members in groups.values():
        values = singular_values([pairs[site] for site in members]).numpy()
        found.update(zip(members, values, strict=True))
    return found


def _tables(found: Spectrum, seed: int) -> tuple[dict[str, list[Row]], list[str]]:
    labels, depth = found.adapters.labels, relative_depth([e.site for each in found.sites.values() for e in each])
    tables: dict[str, list[Row]] = defaultdict(list)
    if len(found.sites) <= DETAILED:
        tables["sites"] = [
            {
                "adapter": labels[name],
                "site": each.site,
                "layer": place(each.site).layer_name,
                "module": place(each.site).module,
                "rank": len(each.s),
                **_measures([each]),
                "largest": float(each.s.max()),
                "singular_values": [float(v) for v in each.s],
            }
            for name, sites in found.sites.items()
            for each in sites
        ]
    for name in found.sites:
        for layer, sites in found.by_layer(name).items():
            tables["layers"].append(
                {"adapter": labels[name], "layer": layer, "depth": depth[layer], "sites": len(sites)} | _measures(sites)
            )
    for stored in found.adapters.stored:
        own = found.sites[stored.name]
        hours = stored.record.data.get("hours")
        tables["adapters"].append(
            {
                "adapter": labels[stored.name],
                "language": stored.key.language,
                "rank": stored.key.rank,
                "variant": stored.key.variant,
                "hours": float(hours) if isinstance(hours, int | float) else None,
                "sites": len(own),
            }
            | _measures(own)
        )
        for part in ("", "encoder", "decoder"):
            members = [each for each in own if place(each.site).part == part or not part]
            if members:
                tables["energy"] += _energy_rows(labels[stored.name], part or "all", members)
        if own[0].resemblance is not None:
            for epsilon in EPSILONS:
                counts = [each.intruders(epsilon) for each in own]
                tables["intruders"].append(
                    {
                        "adapter": labels[stored.name],
                        "epsilon": epsilon,
                        "intruders": sum(c for c in counts if c is not None),
                        "vectors": sum(len(each.resemblance) for each in own if each.resemblance is not None),
                    }
                )
    resources, notes = _resources(tables["adapters"], seed)
    tables["resources"] = resources
    return {name: rows for name, rows in tables.items() if rows}, notes


def _measures(sites: Sequence[SiteSpectrum]) -> Row:
    """Of one site, or over several: norms add up as squares, ranks are means."""
    norm = float(np.sqrt(sum(each.norm**2 for each in sites)))
    known = [each for each in sites if each.base_norm]
    beside = float(np.sqrt(sum((each.base_norm or 0.0) ** 2 for each in known)))
    counted = [c for each in sites if (c := each.intruders()) is not None]
    return {
        "norm": norm,
        "relative_norm": norm / beside if len(known) == len(sites) and beside else None,
        "effective_rank": float(np.mean([each.effective_rank for each in sites])),
        "effective_rank_share": float(np.mean([each.effective_rank / len(each.s) for each in sites])),
        "stable_rank": float(np.mean([each.stable_rank for each in sites])),
        "stable_rank_share": float(np.mean([each.stable_rank / len(each.s) for each in sites])),
        "components_for_90_percent": float(np.mean([np.searchsorted(each.energy, 0.9) + 1 for each in sites])),
        "intruders": sum(counted) if counted else None,
        "intruders_per_site": float(np.mean(counted)) if counted else None,
    }


def _energy_rows(label: str, part: str, sites: Sequence[SiteSpectrum]) -> list[Row]:
    """Mean energy curve over sites; shorter spectra stay at 1."""
    longest = max(len(each.s) for each in sites)
    curves = np.stack([np.pad(each.energy, (0, longest - len(each.s)), constant_values=1.0) for each in sites])
    return [
        {"adapter": label, "part": part, "components": k + 1, "energy": float(value)}
        for k, value in enumerate(curves.mean(0))
    ]


def _resources(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[str]]:
    """Do adapters of more data look otherwise? Spearman's correlation of hours with each measure, p by permutation, over
    the adapters of the most frequent rank and number of sites, since both change every measure by themselves."""
    known = [row for row in rows if row["hours"] is not None]
    if not known:
        return [], ["no record says how much data its adapter was trained on: high- and low-resource are not compared"]
    kinds: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in known:
        kinds[row["rank"], row["sites"]].append(row)
    (rank, sites), members = max(kinds.items(), key=lambda item: len(item[1]))
    hours = np.array([row["hours"] for row in members])
    if len(members) < FEWEST or len(set(hours)) < 2:
        return [], [
            f"{len(members)} adapters of rank {rank} with {sites} sites name their hours of data: too few, or too alike, "
            f"to tell high- from low-resource (it takes {FEWEST})"
        ]
    middle = float(np.median(hours))
    found: list[Row] = []
    for measure in MEASURES:
        values = [row[measure] for row in members]
        if None in values:
            continue
        rho, p = _spearman(hours, np.array(values, dtype=float), seed)
        if rho is None:  # the measure is the same for all: intruders are often none at all
            continue
        low = [v for v, h in zip(values, hours, strict=True) if h <= middle]
        high = [v for v, h in zip(values, hours, strict=True) if h > middle]
        found.append(
            {
                "measure": measure,
                "rank": rank,
                "adapters": len(members),
                "spearman_with_hours": rho,
                "p": p,
                "median_hours": middle,
                "mean_up_to_median": float(np.mean(low)),
                "mean_above_median": float(np.mean(high)) if high else None,
            }
        )
    return found, []


def _spearman(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    """Correlation of ranks and its two-sided permutation p; None where one of them does not vary."""
    from scipy.stats import permutation_test, rankdata

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None, None
    a, b = rankdata(x), rankdata(y)
    a, b = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    test = permutation_test(
        (a,), lambda v: float(v @ b / len(b)), permutation_type="pairings", n_resamples=9999,
        vectorized=False, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(a @ b / len(b)), float(test.pvalue)
