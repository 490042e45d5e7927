"""Runs ways of transcribing over one set of clips: every one on the same loaded base, every clip decoded once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clips import Clips
from training.data.manifest import Record
from training.evaluation.measurements import Measurement, of_scores
from training.evaluation.metrics import Alignment, align, hash_of_test_set, score_key, summarise
from training.evaluation.normalisers import NORMALISERS, normaliser

if TYPE_CHECKING:
    from router.router import Router

STAGES = ("features", "encode", "classify", "swap", "decode")


@dataclass(frozen=True)
class Heard:
    """What one system made of one clip."""

    text: str
    language: str
    """That it decided for; the given one where it was told."""
    probability: float
    """Of the most probable language; 1 where it was told."""


@dataclass(frozen=True)
class System:
    """One way of transcribing, and what it made of every clip."""

    name: str
    """base, oracle, detected, routed, full, adapter: as in measurements.py."""
    conditions: dict[str, Any]
    heard: dict[int, Heard]
    """By position of the clip; clips that the system cannot take are missing."""
    seconds: list[dict[str, float]] = field(default_factory=list)
    """Per clip that was timed alone: seconds of each stage, and `total`."""

    @property
    def label(self) -> str:
        return " ".join([self.name, *(str(value) for value in self.conditions.values())])


def told(router: "Router", name: str, clips: Clips, positions: Sequence[int], **conditions: Any) -> System:
    """A system that is told each clip's language."""
    heard: dict[int, Heard] = {}
    for language in sorted({clips.records[i].lang for i in positions}):
        members = [i for i in positions if clips.records[i].lang == language]
        found = router.transcribe((clips.audio(i) for i in members), language=language)
        heard.update((i, Heard(t.text, language, 1.0)) for i, t in zip(members, found, strict=True))
    return System(name, conditions, heard)


def untold(router: "Router", name: str, clips: Clips, positions: Sequence[int], **conditions: Any) -> System:
    """A system that finds the language itself."""
    found = router.transcribe(clips.audio(i) for i in positions)
    heard = {
        i: Heard(t.text, t.language, max(t.probabilities.values(), default=0.0))
        for i, t in zip(positions, found, strict=True)
    }
    return System(name, conditions, heard)


def time_alone(router: "Router", clips: Clips, positions: Sequence[int], *, tell: bool) -> list[dict[str, float]]:
    """Seconds per stage of clips that come one at a time. The first pass, which warms caches up, is not counted."""
    seconds = []
    for i in [*positions[:1], *positions]:
        options: dict[str, Any] = {"language": clips.records[i].lang} if tell else {}
        seconds.append(router.transcribe(clips.audio(i), **options).timings)
    return seconds[1:]


def speech_of(record: Record) -> str:
    """`human`, `synthetic`, or empty where the manifest does not say."""
    kind = str(record.extra.get("kind", "")).rstrip("?")
    if not kind and "synthetic" in record.extra:
        kind = "synthetic" if record.extra["synthetic"] else "human"
    return {"human": "human", "tts": "synthetic", "synthetic": "synthetic"}.get(kind, "")


def groups(clips: Clips, positions: Sequence[int], by: Callable[[Record], str]) -> Iterator[tuple[str, str, list[int]]]:
    """(language, speech, positions): each language and kind of speech, then all languages of each kind."""
    kinds = sorted({by(clips.records[i]) for i in positions})
    languages = sorted({clips.records[i].lang for i in positions})
    for kind in kinds:
        of_kind = [i for i in positions if by(clips.records[i]) == kind]
        for language in languages:
            if members := [i for i in of_kind if clips.records[i].lang == language]:
                yield language, kind, members
        if len({clips.records[i].lang for i in of_kind}) > 1:
            yield "", kind, of_kind


class Scored:
    """Systems aligned with the references under every normaliser."""

    def __init__(self, clips: Clips, decoding: dict[str, Any]):
        self.clips, self.decoding = clips, decoding
        self.normalisers = [normaliser(name) for name in NORMALISERS]
        self._aligned: dict[tuple[int, str], Alignment] = {}

    def alignment(self, system: System, name: str) -> tuple[Alignment, dict[int, int]]:
        """The alignment of all clips the system took, and each clip's row in it."""
        positions = sorted(system.heard)
        key = (id(system), name)
        if key not in self._aligned:
            records = [self.clips.records[i] for i in positions]
            self._aligned[key] = align(
                [r.text for r in records],
                [system.heard[i].text for i in positions],
                [r.lang for r in records],
                next(n for n in self.normalisers if n.name == name),
            )
        return self._aligned[key], {i: row for row, i in enumerate(positions)}

    def counts(self, system: System, name: str, members: Sequence[int]) -> np.ndarray:
        """Word counts `[n, 4]` of `members`."""
        aligned, rows = self.alignment(system, name)
        return aligned.words[[rows[i] for i in members]]

    def measurements(
        self, system: System, members: Sequence[int], language: str, speech: str, bootstrap: int
    ) -> list[Measurement]:
        """WER, CER, MER, dropped runs and loops of `members` under every normaliser."""
        records = [self.clips.records[i] for i in members]
        test_set = hash_of_test_set([r.text for r in records], [r.lang for r in records], [r.id for r in records])
        found: list[Measurement] = []
        for chosen in self.normalisers:
            aligned, rows = self.alignment(system, chosen.name)
            key = score_key(test_set, chosen, self.decoding)
            scores = summarise(aligned, rows=np.array([rows[i] for i in members]), key=key, bootstrap=bootstrap)
            about = {"language": language, "system": system.name, "speech": speech, "conditions": system.conditions}
            found += of_scores(scores, chosen.name, **about)
        return found
