"""Word and character error rates, side by side under three normalisers, with counts and intervals.

Rates are those of jiwer: WER = (S + D + I) / (H + S + D) over all words of the set; CER the same over code points,
spaces included; MER = (S + D + I) / (H + S + D + I) (Morris et al. 2004), which never exceeds 1. An utterance whose
reference is empty after normalisation adds its insertions and no reference words.

Intervals are percentile bootstrap over utterances (Bisani & Ney 2004), from per-utterance counts.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import jiwer
import numpy as np

from training.evaluation.normalisers import NORMALISERS, Normaliser, normaliser
from zoo.errors import DataError

DROPPED_RUN = 3  # consecutive deleted reference words that count as speech dropped
LOOP_REPEATS = 4  # times a phrase follows itself before it counts as a loop
LOOP_WORDS = 8  # longest phrase looked at
COLUMNS = ("hits", "substitutions", "deletions", "insertions")


@dataclass(frozen=True)
class Rate:
    """An error rate with its interval and the counts it is made of."""

    value: float | None
    """Errors / reference units; None where the references hold no unit."""
    low: float | None
    high: float | None
    """Bounds of the interval; None without bootstrap."""
    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def reference(self) -> int:
        """Words or characters in the references."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        interval = "" if self.low is None else f" [{self.low:.1%}, {self.high:.1%}]"
        return f"{self.value:.1%}{interval}"


@dataclass(frozen=True)
class Alignment:
    """Utterances aligned under one normaliser."""

    normaliser: str
    references: list[list[str]]
    """Words of each reference after normalisation."""
    hypotheses: list[list[str]]
    chunks: list[list[jiwer.AlignmentChunk]] = field(repr=False)
    """jiwer's alignment of each utterance, in words."""
    words: np.ndarray = field(repr=False)
    """int64 `[N, 4]`: hits, substitutions, deletions, insertions of each utterance."""
    characters: np.ndarray = field(repr=False)
    """The same in code points."""

    @cached_property
    def dropped_runs(self) -> np.ndarray:
        """int64 `[N]`: runs of at least 3 consecutive deleted reference words."""
        long = [
            [c for c in u if c.type == "delete" and c.ref_end_idx - c.ref_start_idx >= DROPPED_RUN] for u in self.chunks
        ]
        return np.array([len(u) for u in long], dtype=np.int64)

    @cached_property
    def loops(self) -> np.ndarray:
        """bool `[N]`: a phrase is repeated in the hypothesis that is not so repeated in the reference."""
        return np.array(
            [bool(find_loop(h)) and not find_loop(r) for r, h in zip(self.references, self.hypotheses, strict=True)],
            dtype=bool,
        )


@dataclass(frozen=True)
class NormalisedScores:
    """Scores under one normaliser."""

    wer: Rate
    cer: Rate
    mer: Rate
    dropped_runs: int
    """Runs of >= 3 consecutive deleted reference words."""
    loops: int
    """Utterances with a phrase repeated >= 4 times on end, where the reference has none."""
    key: str
    """Hash of test set, normaliser and decoding: scores are comparable only where it is equal."""


@dataclass(frozen=True)
class Scores:
    """All scores of one system on one set of utterances."""

    utterances: int
    by_normaliser: dict[str, NormalisedScores]
    test_set: str
    """Hash of the references, their ids and languages."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; rates also carry their reference counts."""
        out: dict[str, Any] = {"utterances": self.utterances, "test_set": self.test_set}
        for name, scores in self.by_normaliser.items():
            entry = asdict(scores)
            for measure in ("wer", "cer", "mer"):
                entry[measure]["reference"] = getattr(scores, measure).reference
            out[name] = entry
        return out


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    languages: Sequence[str] | str,
    *,
    ids: Sequence[str] | None = None,
    normalisers: Sequence[str | Normaliser] = NORMALISERS,
    decoding: Mapping[str, Any] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score hypotheses against references, utterance by utterance.

    languages: BCP-47 tag of each utterance, or one for all. decoding: the options the hypotheses were made with; they
    enter the key. bootstrap: resamples for the 95 % intervals, 0 for none.

    Raises DataError where the lists differ in length or are empty.
    """
    languages = [languages] * len(references) if isinstance(languages, str) else list(languages)
    test_set = hash_of_test_set(references, languages, ids)
    entries: dict[str, NormalisedScores] = {}
    for chosen in normalisers:
        chosen = normaliser(chosen) if isinstance(chosen, str) else chosen
        alignment = align(references, hypotheses, languages, chosen)
        entries[chosen.name] = summarise(
            alignment, key=score_key(test_set, chosen, decoding or {}), bootstrap=bootstrap, seed=seed
        )
    return Scores(len(references), entries, test_set)


def align(
    references: Sequence[str], hypotheses: Sequence[str], languages: Sequence[str], chosen: Normaliser
) -> Alignment:
    """Normalise and align word by word and character by character (jiwer)."""
    if not len(references) == len(hypotheses) == len(languages):
        raise DataError(
            f"{len(references)} references, {len(hypotheses)} hypotheses and {len(languages)} languages do not match",
            valid="one of each for every utterance",
        )
    if not len(references):
        raise DataError("There is nothing to score: no utterances", remedy="boli data describe MANIFEST")
    normal_r = [chosen(text, lang) for text, lang in zip(references, languages, strict=True)]
    normal_h = [chosen(text, lang) for text, lang in zip(hypotheses, languages, strict=True)]
    words = jiwer.process_words(normal_r, normal_h)
    characters = jiwer.process_characters(normal_r, normal_h)
    return Alignment(
        chosen.name, words.references, words.hypotheses, words.alignments, _counts(words), _counts(characters)
    )


def summarise(
    alignment: Alignment, *, rows: np.ndarray | None = None, key: str = "", bootstrap: int = 1000, seed: int = 0
) -> NormalisedScores:
    """Scores of all utterances of an alignment, or of `rows` (bool or int index), as for one language."""
    pick = slice(None) if rows is None else rows
    words, characters = alignment.words[pick], alignment.characters[pick]
    intervals = _intervals([_wer_terms(words), _wer_terms(characters), _mer_terms(words)], bootstrap, seed)
    return NormalisedScores(
        wer=_rate(words, _wer_terms(words), intervals[0]),
        cer=_rate(characters, _wer_terms(characters), intervals[1]),
        mer=_rate(words, _mer_terms(words), intervals[2]),
        dropped_runs=int(alignment.dropped_runs[pick].sum()),
        loops=int(alignment.loops[pick].sum()),
        key=key,
    )


@dataclass(frozen=True)
class Difference:
    """How much lower one system's WER is than another's, on the same utterances."""

    relative: float
    """(base - other) / base; positive is better than base."""
    low: float
    high: float
    probability_better: float
    """Share of resamples in which `other` has fewer errors."""


def relative_reduction(base: np.ndarray, other: np.ndarray, *, bootstrap: int = 1000, seed: int = 0) -> Difference:
    """Paired bootstrap over utterances of the relative WER reduction.

    base, other: counts `[N, 4]` as in `Alignment.words`, of the same utterances. Raises DataError where the references
    differ or the base makes no error.
    """
    if base.shape != other.shape or not np.array_equal(base[:, :3].sum(1), other[:, :3].sum(1)):
        raise DataError("The two systems were not scored on the same utterances", remedy="score both on one manifest")
    errors = np.stack([base[:, 1:].sum(1), other[:, 1:].sum(1)], axis=1).astype(np.float64)
    total = errors.sum(0)
    if total[0] == 0:
        raise DataError("The base makes no error on this set: there is nothing to reduce", valid="a harder test set")
    sums = resampled(errors, bootstrap, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = (sums[:, 0] - sums[:, 1]) / sums[:, 0]
    low, high = np.percentile(relative[np.isfinite(relative)], [2.5, 97.5])
    better = float((sums[:, 1] < sums[:, 0]).mean())
    return Difference(float((total[0] - total[1]) / total[0]), float(low), float(high), better)


def find_loop(words: Sequence[str]) -> tuple[str, ...]:
    """The first phrase of up to 8 words that follows itself at least 4 times on end; () where there is none."""
    for length in range(1, LOOP_WORDS + 1):
        run = 0  # positions in a row that equal the one `length` words before
        for i in range(length, len(words)):
            run = run + 1 if words[i] == words[i - length] else 0
            if run >= length * (LOOP_REPEATS - 1):
                return tuple(words[i - length + 1 : i + 1])
    return ()


def hash_of_test_set(references: Sequence[str], languages: Sequence[str], ids: Sequence[str] | None = None) -> str:
    """sha256 (16 digits) of the utterances, whatever their order."""
    names = ids if ids is not None else [""] * len(references)
    rows = sorted(json.dumps(row, ensure_ascii=False) for row in zip(names, languages, references, strict=True))
    return _digest(rows)


def score_key(test_set: str, chosen: Normaliser, decoding: Mapping[str, Any]) -> str:
    """What must be equal before two scores may be compared."""
    return _digest([test_set, chosen.name, chosen.version, json.dumps(dict(decoding), sort_keys=True, default=str)])


def comparable(first: Mapping[str, Any], second: Mapping[str, Any], normaliser_name: str) -> bool:
    """Whether two `Scores.to_dict()` may be set against each other under a normaliser."""
    keys = [scores.get(normaliser_name, {}).get("key") for scores in (first, second)]
    return bool(keys[0]) and keys[0] == keys[1]


def _digest(rows: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _counts(output: jiwer.WordOutput | jiwer.CharacterOutput) -> np.ndarray:
    counts: np.ndarray = np.zeros((len(output.alignments), 4), dtype=np.int64)
    column = {"equal": 0, "substitute": 1, "replace": 1, "delete": 2, "insert": 3}
    for row, chunks in enumerate(output.alignments):
        for c in chunks:
            length = c.hyp_end_idx - c.hyp_start_idx if c.type == "insert" else c.ref_end_idx - c.ref_start_idx
            counts[row, column[c.type]] += length
    return counts


def _wer_terms(counts: np.ndarray) -> np.ndarray:
    """float64 `[N, 2]`: numerator and denominator of each utterance."""
    return np.stack([counts[:, 1:].sum(1), counts[:, :3].sum(1)], axis=1).astype(np.float64)


def _mer_terms(counts: np.ndarray) -> np.ndarray:
    return np.stack([counts[:, 1:].sum(1), counts.sum(1)], axis=1).astype(np.float64)


def _rate(counts: np.ndarray, terms: np.ndarray, interval: tuple[float | None, float | None]) -> Rate:
    errors, length = terms.sum(0)
    hits, substitutions, deletions, insertions = (int(n) for n in counts.sum(0))
    value = float(errors / length) if length else None
    return Rate(value, *(interval if length else (None, None)), hits, substitutions, deletions, insertions)


def _intervals(terms: Sequence[np.ndarray], bootstrap: int, seed: int) -> list[tuple[float, float] | tuple[None, None]]:
    """95 % intervals of ratios of sums, all from the same resamples."""
    if not bootstrap or not len(terms[0]):
        return [(None, None)] * len(terms)
    sums = resampled(np.concatenate(terms, axis=1), bootstrap, seed)
    intervals: list[tuple[float, float] | tuple[None, None]] = []
    for which in range(len(terms)):
        numerator, denominator = sums[:, 2 * which], sums[:, 2 * which + 1]
        rates = numerator[denominator > 0] / denominator[denominator > 0]
        low, high = np.percentile(rates, [2.5, 97.5]) if len(rates) else (np.nan, np.nan)
        intervals.append((float(low), float(high)) if len(rates) else (None, None))
    return intervals


def resampled(values: np.ndarray, bootstrap: int, seed: int) -> np.ndarray:
    """Sums `[bootstrap, M]` of rows of `values` `[N, M]` drawn with replacement."""
    random = np.random.default_rng(seed)
    n = len(values)
    sums = np.empty((bootstrap, values.shape[1]))
    for start in range(0, bootstrap, 100):  # in blocks: [100, N] weights, not [1000, N]
        size = min(100, bootstrap - start)
        weights = np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(size)])
        sums[start : start + size] = weights @ values
    return sums
