"""What kind of mistake a wrong word is: boundary, script, homophone, near in sound, other; and the phones that differ.

Judged on words as jiwer aligns them after the Indic normaliser (which unifies spellings of one word). Each error is of
one class, the first that fits:

    word boundary   the neighbouring wrong words, joined, are the reference's (अंत र, अंतर)
    other script    the word is written in letters that the reference's script does not have
    homophone       espeak-ng pronounces both words alike: a matter of spelling
    near in sound   the phones differ by at most a third (edit distance / longer of the two)
    other word      any other substitution
    dropped run     a deletion within three or more in a row: speech was skipped
    deletion        any other
    loop            an insertion in a clip whose hypothesis repeats a phrase on end
    insertion       any other

Whether the reference's word was in the training data (out of vocabulary) is asked of every word, right or wrong.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from analysis.ipa import FEATURES, phone

CLASSES = (
    "word boundary", "other script", "homophone", "near in sound", "other word", "dropped run", "deletion", "loop",
    "insertion",
)  # fmt: skip
NEAR = 1 / 3
NO_PHONE = "∅"

Pronounce = Callable[[str], tuple[str, ...]]
"""A word -> its phones; () where it has none."""


@dataclass(frozen=True)
class WordError:
    """One wrong word."""

    reference: str
    """Empty for an insertion."""
    hypothesis: str
    """Empty for a deletion."""
    kind: str
    """One of CLASSES."""


def judge(
    reference: Sequence[str],
    hypothesis: Sequence[str],
    chunks: Sequence,
    *,
    loop: bool,
    pronounce: Pronounce | None = None,
) -> list[WordError]:
    """The errors of one utterance.

    chunks: jiwer's alignment of the two lists of words. loop: the hypothesis repeats itself where the reference does
    not. pronounce: None where nothing can be said of sounds; then no error is a homophone or near in sound.
    """
    from training.evaluation.metrics import DROPPED_RUN

    found: list[WordError] = []
    for run in _runs(chunks):
        first, last = run[0], run[-1]
        said = reference[first.ref_start_idx : last.ref_end_idx]
        written = hypothesis[first.hyp_start_idx : last.hyp_end_idx]
        if said and written and len(said) != len(written) and "".join(said) == "".join(written):
            found.append(WordError(" ".join(said), " ".join(written), "word boundary"))
            continue
        for c in run:
            before = reference[c.ref_start_idx : c.ref_end_idx]
            after = hypothesis[c.hyp_start_idx : c.hyp_end_idx]
            if c.type == "delete":
                kind = "dropped run" if len(before) >= DROPPED_RUN else "deletion"
                found += [WordError(word, "", kind) for word in before]
            elif c.type == "insert":
                found += [WordError("", word, "loop" if loop else "insertion") for word in after]
            else:
                pairs = zip(before, after, strict=True)
                found += [WordError(a, b, substitution(a, b, pronounce)) for a, b in pairs]
    return found


def _runs(chunks: Sequence) -> list[list]:
    """Stretches of errors with nothing right between them."""
    runs: list[list] = []
    for c in chunks:
        if c.type == "equal":
            runs.append([])
        elif runs:
            runs[-1].append(c)
        else:
            runs.append([c])
    return [run for run in runs if run]


def substitution(reference: str, hypothesis: str, pronounce: Pronounce | None) -> str:
    """The class of one word written for another."""
    if scripts(hypothesis) - scripts(reference) and scripts(reference):
        return "other script"
    if pronounce is not None:
        one, other = pronounce(reference), pronounce(hypothesis)
        if one and one == other:
            return "homophone"
        if one and other and distance(one, other) <= NEAR:
            return "near in sound"
    return "other word"


def distance(one: Sequence[str], other: Sequence[str]) -> float:
    """Edit distance between two lists of phones over the longer's length: 0 the same, 1 nothing in common."""
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.normalized_distance(one, other)


@lru_cache(maxsize=65_536)
def script(letter: str) -> str:
    """`DEVANAGARI`, `GURMUKHI`, `LATIN`, ... of a letter or sign; empty for digits, punctuation and the like."""
    if unicodedata.category(letter)[0] not in "LM":
        return ""
    name = unicodedata.name(letter, "")
    return "" if name.startswith(("COMBINING", "MODIFIER")) else name.split(" ")[0]


def scripts(word: str) -> set[str]:
    return {found for letter in word if (found := script(letter))}


def phone_pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str]]:
    """(said, written) of two lists of phones, aligned with the fewest edits; `∅` where one has none."""
    from rapidfuzz.distance import Levenshtein

    pairs: list[tuple[str, str]] = []
    for op in Levenshtein.opcodes(reference, hypothesis):
        before, after = reference[op.src_start : op.src_end], hypothesis[op.dest_start : op.dest_end]
        if op.tag in ("equal", "replace"):
            pairs += list(zip(before, after, strict=True))
        else:
            pairs += [(p, NO_PHONE) for p in before] + [(NO_PHONE, p) for p in after]
    return pairs


def feature_confusions(pairs: Counter[tuple[str, str]]) -> list[dict]:
    """What the substitutions of phones change: for each feature (voicing, place, ...), from what to what, how often, and
    how often that value was said at all. A consonant's features count where both phones are consonants."""
    rows = []
    for feature in FEATURES:
        changed: Counter[tuple[str, str]] = Counter()
        said: Counter[str] = Counter()
        for (a, b), number in pairs.items():
            one, other = phone(a), phone(b)
            if one is None or other is None:
                continue
            x, y = one.feature(feature), other.feature(feature)
            if x is None or y is None:
                continue
            said[x] += number
            if x != y:
                changed[x, y] += number
        for (x, y), number in changed.most_common():
            rows.append(
                {"feature": feature, "said": x, "written": y, "count": number, "of": said[x], "rate": number / said[x]}
            )
    return rows
