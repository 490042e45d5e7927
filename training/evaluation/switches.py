"""Changes of language, found against spoken: precision, recall, delay, false alarms.

A reference switch lies between the end of one segment and the start of the next; where there is a pause, any moment of it
is right. A found one counts only if it is into the language that is really spoken next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from router.causal import Change
from router.transcript import Transcript
from training.data.manifest import Record

TOLERANCES_S = (0.25, 0.5, 1.0)
EARLY_S = 0.25  # a decision so little before the new language began is still its decision


@dataclass(frozen=True)
class Spoken:
    """A switch of the reference."""

    low: float
    """The old language ends, seconds."""
    high: float
    """The new language begins."""
    until: float
    """The new language ends."""
    language: str


@dataclass(frozen=True)
class Found:
    """A switch that a system reports."""

    time: float
    """Where it lies or, causally, when it was decided; seconds."""
    language: str
    first: bool = False
    """The first decision of a recording: no switch, so never a false alarm."""


@dataclass(frozen=True)
class Matching:
    """One clip's switches, found and spoken."""

    pairs: tuple[tuple[Found, Spoken], ...]
    missed: tuple[Spoken, ...]
    false: tuple[Found, ...]

    @property
    def offsets(self) -> list[float]:
        """Seconds between each matched pair; 0 inside the pause."""
        return [distance(found, spoken) for found, spoken in self.pairs]

    @property
    def delays(self) -> list[float]:
        """Seconds from the new language's start to the decision for it; early ones count 0."""
        return [max(0.0, found.time - spoken.high) for found, spoken in self.pairs]


def spoken_switches(record: Record) -> list[Spoken]:
    """Where the language changes; a change of speaker alone is none."""
    segments = sorted(record.segments, key=lambda segment: segment.start)
    found = []
    for i, (one, two) in enumerate(pairwise(segments)):
        if one.lang == two.lang:
            continue
        until = two.end
        for later in segments[i + 2 :]:  # as long as the language stays
            if later.lang != two.lang:
                break
            until = later.end
        found.append(Spoken(min(one.end, two.start), two.start, until, two.lang))
    return found


def found_switches(transcript: Transcript) -> list[Found]:
    """Where the language of the segments changes."""
    return [
        Found(two.start, two.language) for one, two in pairwise(transcript.segments) if one.language != two.language
    ]


def decided_switches(changes: Sequence[Change]) -> list[Found]:
    return [Found(change.decided_s, change.language, not change.before) for change in changes]


def distance(found: Found, spoken: Spoken) -> float:
    return max(0.0, spoken.low - found.time, found.time - spoken.high)


def match(found: Sequence[Found], spoken: Sequence[Spoken], tolerance_s: float) -> Matching:
    """One to one, the nearest first, within the tolerance and into the same language."""
    near = sorted(
        (distance(f, s), i, j)
        for i, f in enumerate(found)
        for j, s in enumerate(spoken)
        if f.language == s.language and distance(f, s) <= tolerance_s + 1e-9
    )
    return _taken(found, spoken, [(i, j) for _, i, j in near])


def match_decisions(found: Sequence[Found], spoken: Sequence[Spoken]) -> Matching:
    """Each switch with the first decision for its language that falls while it is spoken (or up to 0.25 s early)."""
    order = [
        (i, j)
        for j, s in enumerate(spoken)
        for i, f in enumerate(found)
        if f.language == s.language and s.low - EARLY_S <= f.time <= s.until + 1e-9
    ]
    return _taken(found, spoken, order)


def _taken(found: Sequence[Found], spoken: Sequence[Spoken], order: Sequence[tuple[int, int]]) -> Matching:
    pairs: dict[int, int] = {}
    for i, j in order:
        if i not in pairs and j not in pairs.values():
            pairs[i] = j
    return Matching(
        tuple((found[i], spoken[j]) for i, j in sorted(pairs.items())),
        tuple(s for j, s in enumerate(spoken) if j not in pairs.values()),
        tuple(f for i, f in enumerate(found) if i not in pairs and not f.first),
    )


@dataclass(frozen=True)
class Tally:
    """Matchings of many clips, added up."""

    right: int
    spoken: int
    false: int
    minutes: float
    delays: tuple[float, ...] = ()

    @property
    def recall(self) -> float | None:
        return self.right / self.spoken if self.spoken else None

    @property
    def precision(self) -> float | None:
        return self.right / (self.right + self.false) if self.right + self.false else None

    @property
    def f1(self) -> float | None:
        total = 2 * self.right + self.false + (self.spoken - self.right)
        return 2 * self.right / total if total else None

    @property
    def false_alarms_per_minute(self) -> float | None:
        return self.false / self.minutes if self.minutes else None

    def delay(self, percent: float) -> float | None:
        """A percentile of the delays of the switches that were found, in seconds."""
        return float(np.percentile(self.delays, percent)) if self.delays else None

    def within(self, seconds: float) -> float | None:
        """Share of all switches that were decided within so many seconds."""
        return sum(delay <= seconds for delay in self.delays) / self.spoken if self.spoken else None


def tally(matchings: Sequence[Matching], seconds: float) -> Tally:
    """seconds: of audio in which the false alarms were counted."""
    right = sum(len(m.pairs) for m in matchings)
    return Tally(
        right,
        right + sum(len(m.missed) for m in matchings),
        sum(len(m.false) for m in matchings),
        seconds / 60,
        tuple(delay for m in matchings for delay in m.delays),
    )
