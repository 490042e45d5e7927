"""What became of the words where the language changes: wrong, in the wrong language, dropped, doubled.

PIER (point-of-interest error rate; Ugan et al., ICASSP 2025): errors at the words of interest over their number. Of
interest are the words outside the clip's main language, the one with most words.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from router.transcript import Transcript
from training.data.manifest import Record
from training.evaluation.metrics import Alignment
from training.evaluation.normalisers import Normaliser

LONGEST_REPEAT = 3  # words on both sides of a seam that are looked at for doubling


@dataclass(frozen=True)
class WordCounts:
    """Of one clip."""

    of_interest: int = 0
    wrong: int = 0
    """Of those, substituted or deleted."""
    written: int = 0
    """Reference words that a written word stands for, right or wrong."""
    right_language: int = 0
    """Of those, written in a segment of their language."""
    at_seams: int = 0
    """Words right before and after a switch."""
    dropped: int = 0
    """Of those, deleted."""
    seams: int = 0
    """Places where the written language changes."""
    doubled: int = 0
    """Words written on both sides of one, though spoken once."""

    def __add__(self, other: "WordCounts") -> "WordCounts":
        return WordCounts(*(a + b for a, b in zip(self.__dict__.values(), other.__dict__.values(), strict=True)))


def of_segments(parts: Sequence[tuple[str, str]], chosen: Normaliser, language: str) -> list[tuple[str, str]]:
    """(word, language) of (text, language) parts, each normalised by the rules of `language`, as the clip is."""
    return [(word, tag) for text, tag in parts for word in chosen(text, language).split()]


def count(
    record: Record, written: Sequence[tuple[str, str]], alignment: Alignment, row: int, chosen: Normaliser
) -> WordCounts | None:
    """record: a clip that switches, `lang` as it was aligned with; written: (text, language) of what a system wrote, in
    order; alignment, row: where the clip stands. None where its words cannot be told apart (a normaliser that joins
    words over a seam).
    """
    segments = sorted(record.segments, key=lambda segment: segment.start)
    spoken = of_segments([(segment.text, segment.lang) for segment in segments], chosen, record.lang)
    heard = of_segments(written, chosen, record.lang)
    if len(spoken) != len(alignment.references[row]) or len(heard) != len(alignment.hypotheses[row]):
        return None
    if not spoken:
        return WordCounts()
    main = Counter(tag for _, tag in spoken).most_common(1)[0][0]
    fate: list[str] = ["equal"] * len(spoken)
    partner: dict[int, int] = {}
    inserted: set[int] = set()
    for chunk in alignment.chunks[row]:
        if chunk.type == "insert":
            inserted.update(range(chunk.hyp_start_idx, chunk.hyp_end_idx))
            continue
        for k, i in enumerate(range(chunk.ref_start_idx, chunk.ref_end_idx)):
            fate[i] = chunk.type
            if chunk.type != "delete":
                partner[i] = chunk.hyp_start_idx + k
    interest = [i for i, (_, tag) in enumerate(spoken) if tag != main]
    seams = {j for i, (one, two) in enumerate(pairwise(spoken)) if one[1] != two[1] for j in (i, i + 1)}
    changes = [i + 1 for i, (one, two) in enumerate(pairwise(heard)) if one[1] != two[1]]
    return WordCounts(
        len(interest),
        sum(fate[i] != "equal" for i in interest),
        len(partner),
        sum(heard[j][1] == spoken[i][1] for i, j in partner.items()),
        len(seams),
        sum(fate[i] == "delete" for i in seams),
        len(changes),
        sum(_doubled([word for word, _ in heard], at, inserted) for at in changes),
    )


def _doubled(words: Sequence[str], at: int, inserted: set[int]) -> int:
    """How many words before `at` are the very words behind it, one of the two being nothing that was said."""
    for length in range(LONGEST_REPEAT, 0, -1):
        first, second = range(at - length, at), range(at, at + length)
        if first.start < 0 or second.stop > len(words):
            continue
        if [words[i] for i in first] == [words[i] for i in second] and (
            inserted.issuperset(first) or inserted.issuperset(second)
        ):
            return length
    return 0


def parts_of(transcript: Transcript) -> list[tuple[str, str]]:
    """(text, language) of the segments."""
    return [(segment.text, segment.language) for segment in transcript.segments]
