"""What is in a manifest, and what its subsets have in common that they should not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from training.data.manifest import Record
from training.data.splits import text_key


@dataclass(frozen=True)
class Part:
    """One language in one subset."""

    subset: str
    lang: str
    clips: int
    hours: float
    speakers: int
    """Distinct names; clips without one are counted in `unknown_speakers`."""
    unknown_speakers: int
    texts: int
    """Distinct under the Indic normaliser."""
    words: int
    shortest_s: float
    median_s: float
    longest_s: float
    switched: int
    """Clips in more than one language."""


@dataclass(frozen=True)
class Overlap:
    """What two subsets share in one language."""

    first: str
    second: str
    lang: str
    speakers: int
    texts: int
    files: int
    """Audio files listed in both: test data seen in training."""


@dataclass(frozen=True)
class Description:
    parts: tuple[Part, ...]
    overlaps: tuple[Overlap, ...]
    """Only pairs that share something."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe(records: Sequence[Record]) -> Description:
    """Hours, speakers and texts per subset and language, and the overlaps between subsets. Durations must be known."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.subset or "(none)", record.lang].append(record)
    parts = tuple(_part(subset, lang, groups[subset, lang]) for subset, lang in sorted(groups))
    overlaps = []
    for lang in sorted({lang for _, lang in groups}):
        subsets = sorted(s for s, other in groups if other == lang)
        for first, second in combinations(subsets, 2):
            shared = _overlap(first, second, lang, groups[first, lang], groups[second, lang])
            if shared.speakers or shared.texts or shared.files:
                overlaps.append(shared)
    return Description(parts, tuple(overlaps))


def _part(subset: str, lang: str, members: list[Record]) -> Part:
    seconds = np.array([r.duration or 0.0 for r in members])
    speakers = Counter(r.speaker for r in members)
    return Part(
        subset=subset,
        lang=lang,
        clips=len(members),
        hours=float(seconds.sum()) / 3600,
        speakers=len([name for name in speakers if name]),
        unknown_speakers=speakers.get("", 0),
        texts=len({text_key(r.text) for r in members}),
        words=sum(len(r.text.split()) for r in members),
        shortest_s=float(seconds.min()),
        median_s=float(np.median(seconds)),
        longest_s=float(seconds.max()),
        switched=sum(len(r.languages) > 1 for r in members),
    )


def _overlap(first: str, second: str, lang: str, one: list[Record], other: list[Record]) -> Overlap:
    def shared(key) -> int:
        return len(({key(r) for r in one} & {key(r) for r in other}) - {""})

    return Overlap(
        first,
        second,
        lang,
        shared(lambda r: r.speaker),
        shared(lambda r: text_key(r.text)),
        shared(lambda r: f"{r.path}@{r.offset}"),
    )
