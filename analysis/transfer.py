"""Does one language's adapter help another? Error rates of every adapter on every language, and what goes with them.

Zero-shot: the adapter of language A transcribes the clips of language B, which are decoded under B's language token, and
is held against the base alone on the very same clips. *Gain* is the relative reduction of the error rate,

    gain(A, B) = (errors of the base on B - errors of A's adapter on B) / errors of the base on B,

with a paired bootstrap over utterances. Forgetting is the gain on a language the base knows (English) and on the
languages of other adapters: below zero the adapter has cost something.

Gains are then correlated with how alike the adapters' updates and the languages are, by Mantel's permutation test
(analysis/mantel.py). Character errors are used there: they move before whole words come right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.hearing import Listener
from analysis.inputs import checksums, manifest_checksums, test_set_hash
from analysis.mantel import FEWEST, Mantel, mantel
from analysis.progress import steps
from analysis.result import Provenance, Row
from zoo.errors import DataError

if TYPE_CHECKING:
    from analysis.few_shot import FewShot
    from training.clips import Clips
    from training.evaluation.systems import Scored, System

NORMALISERS = ("indic", "raw", "whisper")
CORRELATED = ("cer", "indic")  # metric and normaliser that the correlations are over


@dataclass(frozen=True)
class Cell:
    """One adapter on one language."""

    source: str
    """Language of the adapter; `base` for the base alone."""
    target: str
    """Language of the clips."""
    adapter: str
    metric: str
    """wer, cer"""
    normaliser: str
    value: float | None
    low: float | None
    high: float | None
    count: int
    """Reference words or characters."""
    clips: int
    gain: float | None = None
    """Relative reduction against the base alone; below zero it got worse."""
    gain_low: float | None = None
    gain_high: float | None = None
    probability_better: float | None = None
    """Share of resamples in which the adapter makes fewer errors than the base."""


@dataclass(frozen=True)
class Correlation:
    """How one matrix between languages goes with another."""

    what: str
    against: str
    metric: str
    test: Mantel | None
    reason: str = ""
    """Why there is none."""

    def row(self) -> Row:
        numbers = asdict(self.test) if self.test else dict.fromkeys(Mantel.__dataclass_fields__)
        return {"what": self.what, "against": self.against, "metric": self.metric, **numbers, "reason": self.reason}


@dataclass(frozen=True)
class TransferResult:
    provenance: Provenance
    cells: tuple[Cell, ...]
    correlations: tuple[Correlation, ...]
    distances: tuple[Row, ...]
    """One row for a pair of languages: each kind of distance, and the similarity of their updates."""
    few_shot: "FewShot | None" = None

    def tables(self) -> dict[str, list[Row]]:
        found = {
            "zero_shot": [asdict(cell) for cell in self.cells],
            "correlations": [correlation.row() for correlation in self.correlations],
            "distances": list(self.distances),
        }
        if self.few_shot is not None:
            found |= self.few_shot.tables()
        return found

    def matrix(self, field: str, metric: str = "cer", normaliser: str = "indic") -> tuple[list[str], list[str], Any]:
        """(sources, targets, float64 `[S, T]`) of one field of the cells; NaN where there is none."""
        chosen = [c for c in self.cells if (c.metric, c.normaliser) == (metric, normaliser)]
        sources = [s for s in dict.fromkeys(c.source for c in chosen) if field != "gain" or s != "base"]
        targets = list(dict.fromkeys(c.target for c in chosen))
        values = np.full((len(sources), len(targets)), np.nan)
        for c in chosen:
            if c.source in sources and getattr(c, field) is not None:
                values[sources.index(c.source), targets.index(c.target)] = getattr(c, field)
        return sources, targets, values


def transfer(
    listener: Listener,
    clips: "Clips",
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    manifests: Sequence[Any] = (),
    few_shot: bool = True,
    similarity: bool = True,
    bootstrap: int = 1000,
    seed: int = 0,
    show: bool = False,
) -> TransferResult:
    """Every adapter (of `sources`) on the clips of every language (of `targets`), and the correlations.

    similarity: also correlate with the cosine of the updates. few_shot: also score the adapters trained on a share of
    the data. Raises DataError where no clip is in a language the base can write, or a named language has none.
    """
    from analysis.few_shot import score_few_shot
    from training.evaluation.routing import decoding_of, writes
    from training.evaluation.systems import Scored

    spoken = sorted({record.lang for record in clips.records})
    known = [language for language in spoken if writes(listener.base, language)]
    adapters = {stored.key.language: stored for stored in listener.adapters}
    _require("--source", sources, adapters)
    _require("--target", targets, known)
    targets = [language for language in known if not targets or language in targets]
    sources = [language for language in adapters if not sources or language in sources]
    if not targets:
        raise DataError(
            f"The clips speak {', '.join(spoken)}; {listener.base.card.name} writes none of these",
            valid=", ".join(listener.base.languages[:20]),
            remedy="another --manifest",
        )
    if not sources:
        raise DataError("The store has no adapter that is trained on all of its data", remedy="boli adapters list")
    scored = Scored(clips, decoding_of(listener.router))
    cells: list[Cell] = []
    pairs = [(source, target) for target in targets for source in ("", *sources)]
    systems: dict[tuple[str, str], System] = {}
    for source, target in steps("transfer", pairs, show=show):
        stored = adapters.get(source)
        systems[source, target] = listener.hear(stored, clips, target, source or "base")
        cells += _cells(scored, systems["", target], systems[source, target], target, bootstrap, seed)
    notes = _notes(listener, spoken, known, adapters)
    correlations, distances, more = _correlate(listener, cells, [s for s in sources if s in adapters], similarity, seed)
    few = score_few_shot(listener, clips, bootstrap=bootstrap, seed=seed, show=show) if few_shot else None
    provenance = Provenance(
        "transfer",
        base=listener.base.card.name,
        base_sha256=listener.base.weights_sha256,
        adapters=checksums([adapters[s] for s in sources] + ([stored for stored in listener.few] if few else [])),
        manifests=manifest_checksums(manifests),
        test_set=test_set_hash(clips),
        seeds={"bootstrap": seed, "permutations": seed},
        counts={"adapters": len(sources), "languages": len(targets), "clips": len(clips), "resamples": bootstrap},
        options={"decoding": decoding_of(listener.router), "context": listener.base.context},
        notes=(*notes, *more, *(few.notes if few else ())),
    )
    return TransferResult(provenance, tuple(cells), tuple(correlations), tuple(distances), few)


def _require(option: str, wanted: Sequence[str], there: Sequence[str] | Mapping[str, Any]) -> None:
    if missing := [language for language in wanted if language not in there]:
        raise DataError(f"{option} {missing[0]}: there is none", valid=", ".join(there) or "nothing")


def _cells(scored: "Scored", base: "System", system: "System", target: str, bootstrap: int, seed: int) -> list[Cell]:
    from training.evaluation.metrics import relative_reduction, summarise

    members = sorted(system.heard)
    found = []
    for name in NORMALISERS:
        aligned, rows = scored.alignment(system, name)
        before, rows_before = scored.alignment(base, name)
        scores = summarise(aligned, bootstrap=bootstrap, seed=seed)
        for metric, rate in (("wer", scores.wer), ("cer", scores.cer)):
            ours, theirs = (a.words if metric == "wer" else a.characters for a in (aligned, before))
            gain = None
            if system is not base and bootstrap and theirs[:, 1:].sum():
                ours, theirs = ours[[rows[i] for i in members]], theirs[[rows_before[i] for i in members]]
                gain = relative_reduction(theirs, ours, bootstrap=bootstrap, seed=seed)
            found.append(
                Cell(
                    system.name, target, system.conditions.get("adapter", ""), metric, name,
                    rate.value, rate.low, rate.high, rate.reference, len(members),
                    *((gain.relative, gain.low, gain.high, gain.probability_better) if gain else ()),
                )
            )  # fmt: skip
    return found


def _correlate(listener: Listener, cells: Sequence[Cell], languages: Sequence[str], similarity: bool, seed: int):
    """Gains between the languages that have both an adapter and clips, against distances and against similarity."""
    from analysis.distances import KINDS, between

    metric, normaliser = CORRELATED
    gains = {
        (c.source, c.target): c.gain
        for c in cells
        if (c.metric, c.normaliser) == CORRELATED and c.source != "base" and c.gain is not None
    }
    both = [language for language in languages if (language, language) in gains]
    notes: list[str] = []
    matrices: dict[str, np.ndarray] = {kind: between(both, kind) for kind in KINDS}
    if similarity and len(both) > 1:
        matrices["similarity of updates"] = update_similarity(listener, both)
    rows: list[Row] = []
    for i, a in enumerate(both):
        for j, b in enumerate(both):
            if i != j:
                row: Row = {"source": a, "target": b, "gain": gains.get((a, b))}
                rows.append(row | {kind: _finite(matrix[i, j]) for kind, matrix in matrices.items()})
    gain = np.full((len(both), len(both)), np.nan)
    for i, a in enumerate(both):
        for j, b in enumerate(both):
            gain[i, j] = gains.get((a, b), np.nan)
    pairs = [("gain", kind, gain, matrix) for kind, matrix in matrices.items()]
    if "similarity of updates" in matrices:
        alike = matrices["similarity of updates"]
        pairs += [("similarity of updates", kind, alike, matrices[kind]) for kind in KINDS]
    found = []
    for what, against, first, second in pairs:
        label = f"{metric} {normaliser}" if what == "gain" else ""
        try:
            found.append(Correlation(what, against, label, mantel(first, second, seed=seed)))
        except DataError as error:
            found.append(Correlation(what, against, label, None, error.what))
    if len(both) < FEWEST:
        notes.append(
            f"{len(both)} languages have both an adapter and clips: a permutation test needs {FEWEST}, better 6 or more."
        )
    elif tests := [correlation.test for correlation in found if correlation.test]:
        notes.append(
            f"With {len(both)} languages a permutation test can give no p below {max(t.least_p for t in tests):.3g}."
        )
    return found, rows, notes


def update_similarity(listener: Listener, languages: Sequence[str]) -> np.ndarray:
    """float64 `[n, n]`: cosine of the whole updates, all sites together (analysis/similarity.py)."""
    from analysis.deltas import of_stored
    from analysis.similarity import similarity

    adapters = {stored.key.language: stored for stored in listener.adapters}
    return similarity(of_stored([adapters[language] for language in languages]), cache=listener.cache).cosine


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _notes(listener: Listener, spoken, known, adapters) -> list[str]:
    notes = []
    if left := [language for language in spoken if language not in known]:
        notes.append(f"{listener.base.card.name} cannot write {', '.join(left)}: left out.")
    if missing := [language for language in adapters if language not in spoken]:
        notes.append(f"No clips in {', '.join(missing)}: their adapters are scored on the other languages only.")
    if "en" not in spoken:
        notes.append("No English clips: what the adapters cost in English was not measured.")
    return notes
