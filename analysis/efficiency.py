"""What an error rate costs: parameters that were trained, bytes on disk and in memory, seconds a clip.

Every adapter of the store (all ranks and variants) is measured on the clips of its language, beside the base alone;
scores that the records bring along are listed too, under their own test sets. Latency is that of clips that come alone,
told their language, after one that warms up; it holds for the machine named in the provenance and for nothing else.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.hearing import Listener
from analysis.inputs import checksums, manifest_checksums, test_set_hash
from analysis.progress import steps
from analysis.result import Provenance, Row
from zoo.errors import DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from training.clips import Clips

NORMALISER = "indic"


@dataclass(frozen=True)
class Cost:
    """One adapter, or the base alone, on one language."""

    language: str
    system: str
    """`base` or `adapter`."""
    adapter: str
    rank: int | None
    variant: str
    trained_parameters: int
    share_of_base: float
    """Trained parameters / parameters of the base."""
    adapter_bytes: int
    """Of the weights' file."""
    wer: float | None
    wer_low: float | None
    wer_high: float | None
    cer: float | None
    clips: int
    latency_p50_s: float | None
    latency_p95_s: float | None
    real_time_factor: float | None
    """Seconds of work per second of speech; below 1 is faster than it is spoken."""
    timed_clips: int = 0


@dataclass(frozen=True)
class EfficiencyResult:
    provenance: Provenance
    costs: tuple[Cost, ...]
    recorded: tuple[Row, ...]
    """Scores that the adapters' records bring along; only equal `test_set` and `decoding` are comparable."""
    base_parameters: int
    base_bytes: int

    def tables(self) -> dict[str, list[Row]]:
        return {
            "costs": [asdict(cost) for cost in self.costs],
            "recorded": list(self.recorded),
            "base": [{"parameters": self.base_parameters, "bytes": self.base_bytes}],
        }


def efficiency(
    listener: Listener,
    clips: "Clips",
    *,
    latency_clips: int = 8,
    manifests: Sequence[Any] = (),
    bootstrap: int = 1000,
    seed: int = 0,
    show: bool = False,
) -> EfficiencyResult:
    """latency_clips: clips per language that are timed alone; 0: none. Raises DataError where no adapter has a clip."""
    from training.evaluation.routing import writes

    spoken = {record.lang for record in clips.records}
    every = [s for s in listener.every if s.key.language in spoken and writes(listener.base, s.key.language)]
    if not every:
        there = ", ".join(sorted({stored.key.language for stored in listener.every}))
        raise DataError(f"The clips speak {', '.join(sorted(spoken))}; no adapter serves any of these", valid=there)
    parameters = list(listener.base.module.parameters())
    total = sum(p.numel() for p in parameters)
    jobs: list[tuple[str, StoredAdapter | None]] = []
    for language in sorted({stored.key.language for stored in every}):
        jobs += [(language, None), *((language, s) for s in every if s.key.language == language)]
    costs = [
        _cost(listener, clips, language, stored, total, latency_clips, bootstrap, seed)
        for language, stored in steps("efficiency", jobs, show=show)
    ]
    recorded = [
        {"language": stored.key.language, "adapter": stored.name, "rank": stored.key.rank,
         "variant": stored.key.variant, "trained_parameters": stored.record.parameters, **asdict(score)}
        for stored in listener.every
        for score in stored.record.scores
    ]  # fmt: skip
    provenance = Provenance(
        "efficiency",
        base=listener.base.card.name,
        base_sha256=listener.base.weights_sha256,
        adapters=checksums(every),
        manifests=manifest_checksums(manifests),
        test_set=test_set_hash(clips),
        seeds={"bootstrap": seed},
        counts={"adapters": len(every), "clips": len(clips), "resamples": bootstrap},
        options={"device": str(listener.base.device), "latency_clips": latency_clips, "normaliser": NORMALISER},
        notes=("Latency was measured on the machine named here, beside whatever else ran on it.",),
    )
    size = sum(p.numel() * p.element_size() for p in parameters)
    return EfficiencyResult(provenance, tuple(costs), tuple(recorded), total, size)


def _cost(listener, clips, language, stored, total: int, latency_clips: int, bootstrap: int, seed: int) -> Cost:
    from adapters.peft_files import WEIGHTS
    from training.evaluation.metrics import align, summarise
    from training.evaluation.normalisers import normaliser
    from training.evaluation.systems import time_alone
    from training.validation import spread

    system = listener.hear(stored, clips, language, "adapter" if stored else "base")
    members = sorted(system.heard)
    records = [clips.records[i] for i in members]
    texts = [system.heard[i].text for i in members]
    aligned = align([r.text for r in records], texts, [r.lang for r in records], normaliser(NORMALISER))
    scores = summarise(aligned, bootstrap=bootstrap, seed=seed)
    timed = [members[k] for k in spread(latency_clips, [language] * len(members))] if latency_clips else []
    fleet = {language: stored} if stored else {}
    spent = [s["total"] for s in time_alone(listener.router.sharing(fleet=fleet), clips, timed, tell=True)]
    spoken_s = sum(float(clips.lengths[i]) for i in timed) / 16_000
    trained = stored.record.parameters if stored else 0
    return Cost(
        language=language,
        system=system.name,
        adapter=stored.name if stored else "",
        rank=stored.key.rank if stored else None,
        variant=stored.key.variant if stored else "",
        trained_parameters=trained,
        share_of_base=trained / total,
        adapter_bytes=(stored.folder / WEIGHTS).stat().st_size if stored else 0,
        wer=scores.wer.value,
        wer_low=scores.wer.low,
        wer_high=scores.wer.high,
        cer=scores.cer.value,
        clips=len(members),
        latency_p50_s=float(np.percentile(spent, 50)) if spent else None,
        latency_p95_s=float(np.percentile(spent, 95)) if spent else None,
        real_time_factor=sum(spent) / spoken_s if spent else None,
        timed_clips=len(timed),
    )
