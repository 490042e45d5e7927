"""The ways in which clips that change language are written, and what was made of every clip."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clips import Clips
from training.data.codeswitch import KINDS
from training.data.manifest import Record, Segment
from training.evaluation.following import Followed, hop_cost
from training.evaluation.measurements import Measurement
from training.evaluation.routing import writes
from training.evaluation.switched_words import parts_of
from training.evaluation.switches import (
    Found,
    Tally,
    decided_switches,
    match_decisions,
    spoken_switches,
    tally,
)
from training.evaluation.systems import Heard, System, speech_of
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from router.causal import Change
    from router.router import Router
    from router.transcript import Transcript

SEVERAL = "mul"  # ISO 639-2 for several languages: the normaliser of no single one
BY_ITSELF = "by-itself"
"""The system that nobody tells whether a clip switches."""
SYNTHESISERS = ("espeak", "festival")
THRESHOLDS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)  # of the chosen one: the curve of delay against false alarms


@dataclass
class Run:
    """One way of writing all clips."""

    system: System
    transcripts: "dict[int, Transcript]" = field(default_factory=dict)
    parts: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    """(text, language) of each clip's segments, or pieces."""


@dataclass
class CodeSwitchReport:
    """Everything that was found."""

    clips: Clips
    switched: list[int]
    """Positions of clips in several languages."""
    controls: list[int]
    """Of clips in one language: every switch there is a false alarm."""
    runs: list[Run] = field(default_factory=list)
    changes: "dict[int, list[Change]]" = field(default_factory=dict)
    """What the causal decision said of each clip."""
    measurements: list[Measurement] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)
    """Causally, by threshold: false alarms a minute, recall, delays."""
    offsets: list[float] = field(default_factory=list)
    """Offline: seconds between the switches found and those spoken."""

    @property
    def systems(self) -> list[System]:
        return [run.system for run in self.runs]


def kind_of(record: Record) -> str:
    """`intra different`, `rapid_one_voice`, `speaker-change`, `one language`, ..."""
    kind = str(record.extra.get("kind", ""))
    if kind in KINDS:
        voices = str(record.extra.get("voices", ""))
        return kind if kind in ("speaker-change", "splice") else f"{kind} {voices}".strip()
    return "one language" if len(record.languages) == 1 else record.subset or "switched"


def speech_kind(record: Record) -> str:
    """`human`, `synthetic`, or empty where the manifest does not say."""
    extra = {key: value for key, value in record.extra.items() if key != "kind" or value not in KINDS}
    said = speech_of(replace(record, extra=extra))
    if not said and str(record.extra.get("corpus", "")) in SYNTHESISERS:
        return "synthetic"
    return said


def scorable_clip(router: "Router", record: Record) -> bool:
    told = all(segment.text.strip() for segment in record.segments)
    return told and all(writes(router.base, segment.lang) for segment in record.segments)


def cuts_of(record: Record, samples: int) -> list[tuple[Segment, tuple[int, int]]]:
    """Each segment and the samples that are its: cut half-way between two, so that every sample is in one."""
    segments = sorted(record.segments, key=lambda segment: segment.start)
    cuts = [round((a.end + b.start) / 2 * SAMPLE_RATE) for a, b in pairwise(segments)]
    return list(zip(segments, pairwise([0, *cuts, samples]), strict=True))


def pieces_of(i: int, clips: Clips) -> list[tuple[int, str, np.ndarray]]:
    """(clip, language, audio) of its segments."""
    audio = clips.audio(i)
    return [(i, segment.lang, audio[start:end]) for segment, (start, end) in cuts_of(clips.records[i], len(audio))]


def whole(router: "Router", clips: Clips, positions: Sequence[int], name: str, policy: str, **options: Any) -> Run:
    way = router.sharing(policy=policy, **options)
    found = dict(zip(positions, way.transcribe(clips.audio(i) for i in positions), strict=True))
    conditions = {"policy": policy, **({"strategy": way.options.strategy} if name == "switched" else {})}
    heard = {i: Heard(t.text, t.language, max(t.probabilities.values(), default=0.0)) for i, t in found.items()}
    return Run(System(name, conditions, heard), found, {i: parts_of(t) for i, t in found.items()})


def one_by_one(router: "Router", pieces: Sequence[tuple[int, str, np.ndarray]], policy: str) -> Run:
    way = router.sharing(policy=policy, switching=False)
    found = list(way.transcribe(audio for _, _, audio in pieces))
    return _joined(
        "one-by-one",
        {"policy": policy},
        [(piece[0], t.text, t.language) for piece, t in zip(pieces, found, strict=True)],
    )


def told(router: "Router", pieces: Sequence[tuple[int, str, np.ndarray]]) -> Run:
    """The pieces one by one, each in the language that is spoken in it."""
    texts: dict[int, str] = {}
    for language in sorted({language for _, language, _ in pieces}):
        members = [k for k, piece in enumerate(pieces) if piece[1] == language]
        found = router.transcribe((pieces[k][2] for k in members), language=language, switching=False)
        texts.update((k, t.text) for k, t in zip(members, found, strict=True))
    return _joined("one-by-one-told", {}, [(piece[0], texts[k], piece[1]) for k, piece in enumerate(pieces)])


def _joined(name: str, conditions: dict[str, Any], written: Sequence[tuple[int, str, str]]) -> Run:
    parts: dict[int, list[tuple[str, str]]] = {}
    for i, text, language in written:
        parts.setdefault(i, []).append((text, language))
    heard = {i: Heard(" ".join(text for text, _ in found if text), found[0][1], 1.0) for i, found in parts.items()}
    return Run(System(name, conditions, heard), {}, parts)


def follow_all(router: "Router", clips: Clips, report: CodeSwitchReport) -> None:
    """The causal decision on every clip, what a hop costs to compute, and the curve of its delay against its false alarms."""
    from adapters.bench import machine

    taken = hop_cost(router, (clips.audio(i) for i in range(len(clips))))
    if taken:
        where = {"mode": "computing", "machine": machine()}
        report.measurements.append(
            Measurement("switch_hop_s", float(np.median(taken)), count=len(taken), system="switched", conditions=where)
        )
    followed = Followed(router, clips)
    for i in range(len(clips)):
        report.changes[i] = followed.changes(i, router.causal)
    for factor in THRESHOLDS:
        causal = replace(router.causal, threshold=router.causal.threshold * factor)
        found = {i: decided_switches(followed.changes(i, causal)) for i in range(len(clips))}
        total = causal_tally(clips, found, range(len(clips)))
        report.curve.append(
            {
                "threshold": causal.threshold,
                "chosen": factor == 1.0,
                "false_alarms_per_minute": total.false_alarms_per_minute,
                "recall": total.recall,
                "delay_median_s": total.delay(50),
                "delay_p90_s": total.delay(90),
                "delays_s": sorted(round(delay, 3) for delay in total.delays),
                "switches": total.spoken,
            }
        )


def causal_tally(clips: Clips, found: dict[int, list[Found]], positions: Sequence[int]) -> Tally:
    matchings = [match_decisions(found[i], spoken_switches(clips.records[i])) for i in positions]
    return tally(matchings, seconds_of(clips, positions))


def seconds_of(clips: Clips, positions: Sequence[int]) -> float:
    return float(sum(clips.lengths[i] for i in positions)) / SAMPLE_RATE
