"""Layer importance: what an adapter loses without one layer, and what one layer does alone.

Each layer, the encoder, the decoder and each type of module is switched off, and switched on alone, in the bank
(ablation.py); the clips of the adapter's language are transcribed each time. With E the error rate:

    loss when off  = E(all but the group) - E(whole adapter)
    gain alone     = E(base) - E(the group alone)
    share          = either of them / (E(base) - E(whole adapter))

Shares and relative depth (0 the lowest, 1 the highest layer of its part) make adapters and bases comparable. Intervals
are 95 % percentile bootstrap over clips; differences are paired: both sides are drawn from the same clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.ablation import Condition, conditions, transcripts
from analysis.cache import Cache
from analysis.deltas import layer_order, relative_depth
from analysis.inputs import adapter_labels, checksums, test_set_hash
from analysis.result import Provenance, Row
from zoo.errors import DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from training.clips import Clips
    from zoo.interface import BaseModel

SCOPES = ("part", "layer", "module")
MEASURES = ("wer", "cer")


@dataclass(frozen=True)
class Importance:
    """Every adapter under every condition."""

    provenance: Provenance
    rows: tuple[Row, ...]
    """One an adapter and condition, see `_row`."""
    layers: tuple[str, ...]
    """All layers that any adapter touches, encoder first, bottom up."""
    labels: tuple[str, ...]
    """Adapters, in order."""
    _predictions: list[Row] = field(default_factory=list, repr=False)

    def tables(self) -> dict[str, list[Row]]:
        return {"conditions": list(self.rows), "depths": depths(self.rows), "predictions": self._predictions}

    def of(self, label: str, scope: str, how: str) -> dict[str, Row]:
        """Group -> row of one adapter."""
        return {
            row["group"]: row for row in self.rows if (row["adapter"], row["scope"], row["how"]) == (label, scope, how)
        }


def layer_importance(
    base: "BaseModel",
    adapters: "Sequence[StoredAdapter]",
    clips: "Clips",
    *,
    scopes: Sequence[str] = SCOPES,
    normaliser: str = "indic",
    cache: Cache | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_clips: int = 16,
    manifests: dict[str, str] | None = None,
    progress: bool = False,
) -> Importance:
    """Each adapter on the clips of its language. manifests: file name -> sha256, for provenance.

    Raises DataError where no adapter has a clip, AdapterError where an adapter is another base's.
    """
    from adapters.bank import Bank
    from router.fleet import check_base
    from training.evaluation.routing import writes

    if unknown := sorted(set(scopes) - set(SCOPES)):
        raise DataError(f"There is no scope {unknown[0]!r}", valid=", ".join(SCOPES))
    for stored in adapters:
        check_base(stored, base)
    spoken = {record.lang for record in clips.records}
    served = [stored for stored in adapters if stored.key.language in spoken and writes(base, stored.key.language)]
    if not served:
        raise DataError(
            f"The clips speak {', '.join(sorted(spoken))}; no adapter that is meant serves any of these",
            valid=", ".join(sorted({stored.key.language for stored in adapters})),
            remedy="name a manifest in these languages: -m MANIFEST",
        )
    notes = [
        f"{stored.name} was left out: no clip of its language, or the base cannot write it"
        for stored in adapters
        if stored not in served
    ]
    cache, bank, labels = cache or Cache(None), Bank(base), adapter_labels(served)
    every = sorted({site for stored in served for site in stored.record.update_norms})
    rows: list[Row] = []
    predictions: list[Row] = []
    known = [site.name for site in base.sites]  # depth is that of the base, also where an adapter leaves layers out
    for stored in served:
        wanted = conditions(list(stored.record.update_norms), scopes)
        positions = [i for i, record in enumerate(clips.records) if record.lang == stored.key.language]
        texts = transcripts(
            base, bank, stored, clips, positions, wanted, cache=cache, batch_clips=batch_clips, progress=progress
        )
        scored = _Scored(clips, positions, normaliser, bootstrap, seed)
        for condition in wanted:
            rows.append(
                {"base": base.card.name, "adapter": labels[stored.name], "language": stored.key.language}
                | _row(condition, texts, scored, relative_depth(known), stored)
            )
        predictions += [
            {"adapter": labels[stored.name], "condition": condition.name, "clip": clips.records[i].id, "text": text}
            for condition in wanted
            if condition.how in ("full", "base")
            for i, text in zip(positions, texts[condition.on], strict=True)
        ]
        for measure in MEASURES:
            gap = rows[-1][f"gap_{measure}"]
            if gap is not None and gap <= 0:
                notes.append(
                    f"{labels[stored.name]} is no better than the base in {measure.upper()} on these clips: "
                    "its shares are not given"
                )
    return Importance(
        Provenance(
            "layers",
            base.card.name,
            base.weights_sha256,
            checksums(served),
            manifests or {},
            test_set_hash(clips),
            seeds={"bootstrap": seed},
            counts={"adapters": len(served), "clips": len(clips), "conditions": len(rows), "resamples": bootstrap},
            options={"normaliser": normaliser, "decoding": "greedy", "scopes": list(scopes)},
            notes=tuple(notes),
        ),
        tuple(rows),
        tuple(layer_order(every)),
        tuple(labels[stored.name] for stored in served),
        predictions,
    )


class _Scored:
    """Error counts of texts against the references of some clips, and what can be said of them."""

    def __init__(self, clips: "Clips", positions: Sequence[int], name: str, bootstrap: int, seed: int):
        from training.evaluation.normalisers import normaliser

        records = [clips.records[i] for i in positions]
        self.references, self.languages = [r.text for r in records], [r.lang for r in records]
        self.normaliser = normaliser(name)
        draws = np.random.default_rng(seed)
        n = len(positions)
        self.weights = draws.multinomial(n, np.full(n, 1 / n), size=bootstrap).astype(float) if bootstrap else None

    def counts(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Measure -> float64 `[N, 2]`: errors and reference units of each clip."""
        from training.evaluation.metrics import align

        aligned = align(self.references, list(texts), self.languages, self.normaliser)
        return {
            name: np.stack([each[:, 1:].sum(1), each[:, :3].sum(1)], 1).astype(float)
            for name, each in (("wer", aligned.words), ("cer", aligned.characters))
        }

    def rate(self, counts: np.ndarray) -> tuple[float | None, float | None, float | None]:
        """Errors / units, with bounds."""
        return self._bounded(lambda w: _ratio(w @ counts[:, 0], w @ counts[:, 1]))

    def difference(self, one: np.ndarray, other: np.ndarray) -> tuple[float | None, float | None, float | None]:
        """one - other, on the same clips."""
        units = one[:, 1]
        return self._bounded(lambda w: _ratio(w @ (one[:, 0] - other[:, 0]), w @ units))

    def _bounded(self, value_of) -> tuple[float | None, float | None, float | None]:
        value = float(value_of(np.ones(len(self.references))))
        if not np.isfinite(value):
            return None, None, None
        if self.weights is None:
            return value, None, None
        drawn = value_of(self.weights)
        low, high = np.percentile(drawn[np.isfinite(drawn)], [2.5, 97.5])
        return value, float(low), float(high)


def _ratio(errors, units):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(units > 0, errors / np.where(units > 0, units, 1), np.nan)


def _row(
    condition: Condition,
    texts: dict[frozenset[str], list[str]],
    scored: _Scored,
    depth: dict[str, float],
    stored: "StoredAdapter",
) -> Row:
    """One condition of one adapter: error rates; `change`: against the whole adapter where a group is off, against the
    base where it is alone; `share`: of what the whole adapter gains."""
    own = scored.counts(texts[condition.on])
    whole = scored.counts(texts[frozenset(stored.record.update_norms)])
    none = scored.counts(texts[frozenset()])
    row: Row = {
        "how": condition.how,
        "scope": condition.scope,
        "group": condition.group,
        "depth": depth.get(condition.group) if condition.scope == "layer" else None,
        "sites": condition.size,
        "clips": len(scored.references),
        "words": int(own["wer"][:, 1].sum()),
    }
    for measure in MEASURES:
        row[measure], row[f"{measure}_low"], row[f"{measure}_high"] = scored.rate(own[measure])
        beside = none if condition.how == "only" else whole
        change = scored.difference(own[measure], beside[measure]) if condition.how in ("off", "only") else (None,) * 3
        row[f"{measure}_change"], row[f"{measure}_change_low"], row[f"{measure}_change_high"] = change
        gap = scored.difference(none[measure], whole[measure])[0]
        row[f"gap_{measure}"] = gap
        if change[0] is None or gap is None or gap <= 0:
            row[f"{measure}_share"] = None
        else:
            row[f"{measure}_share"] = (change[0] if condition.how == "off" else -change[0]) / gap
    return row


def depths(rows: Sequence[Row]) -> list[Row]:
    """Layers by relative depth, over the adapters that gain anything: what bases are compared by."""
    found: list[Row] = []
    keys = dict.fromkeys(
        (row["base"], row["how"], row["group"], row["depth"]) for row in rows if row["scope"] == "layer"
    )
    for base, how, group, depth in keys:
        members = [row for row in rows if (row["base"], row["how"], row["group"]) == (base, how, group)]
        line: Row = {"base": base, "how": how, "part": group.split()[0], "layer": group, "depth": depth}
        for measure in MEASURES:
            shares = [row[f"{measure}_share"] for row in members if row[f"{measure}_share"] is not None]
            line[f"{measure}_share"] = float(np.mean(shares)) if shares else None
            line[f"{measure}_share_least"] = min(shares, default=None)
            line[f"{measure}_share_most"] = max(shares, default=None)
        found.append(line | {"adapters": len(members)})
    return found


def compare_depths(one: Sequence[Row], other: Sequence[Row], measure: str = "cer") -> list[Row]:
    """Do the layers of two bases matter alike? For each part and way of switching: Pearson's correlation of the shares
    along relative depth, both interpolated at 11 depths. None with fewer than three layers on a side.

    one, other: rows of the table `depths`."""
    found = []
    grid = np.linspace(0, 1, 11)
    for part in ("encoder", "decoder"):
        for how in ("off", "only"):
            curves = []
            for rows in (one, other):
                points = sorted(
                    (row["depth"], row[f"{measure}_share"])
                    for row in rows
                    if (row["part"], row["how"]) == (part, how) and row[f"{measure}_share"] is not None
                )
                x, y = np.array(points, dtype=float).reshape(-1, 2).T
                curves.append(np.interp(grid, x, y) if len(x) >= 3 and np.ptp(y) > 0 else None)
            known = all(curve is not None for curve in curves)
            correlation = float(np.corrcoef(np.stack(curves))[0, 1]) if known else None  # type: ignore[arg-type]
            found.append({"part": part, "how": how, "measure": measure, "correlation": correlation})
    return found
