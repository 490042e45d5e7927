"""A chunk that was written in one pass, but in several scripts: the base has heard itself that the language changes.

Where one script ends and the next begins is a change of language. When it was said, a cut by the classifier's frames says
where one has the same scripts in the same order, else the words' times. The text stays as it is.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from router.assembling import Part
from router.by_frame import hypothesis_of, shifted
from router.classifier import UNKNOWN
from router.options import TranscribeOptions
from router.passes import Passed
from router.policies import Decision
from zoo.interface import TimedWord
from zoo.scripts import LATIN, letters, script_of

if TYPE_CHECKING:
    from router.stretches import Spoken

LETTERS = 3  # and vowel signs of a script, or it is no more than a slip of the pen


def can_be_timed(base, options: TranscribeOptions) -> bool:
    """Whether words have times: the base can align them, and neither timestamps of its own nor several decoders are asked for."""
    return hasattr(base, "align_words") and options.timestamps != "segment" and options.ensemble == "weights"


def scripts_in(text: str, languages: Sequence[str]) -> set[str]:
    """The scripts of `languages` that the text holds at least `LETTERS` letters of."""
    known = {script_of(tag) for tag in languages}
    return {script for script, count in letters(text).items() if script in known and count >= LETTERS}


def by_script(
    passed: Passed, duration_s: float, frames: torch.Tensor, columns: Sequence[str], languages: Sequence[str],
    frame_rate: float, timed: bool, cuts: "Sequence[Sequence[Spoken]]" = (),
) -> list[Part]:  # fmt: skip
    """The parts of one chunk, one for each run of words in one script; a single one where there is one script.

    passed: with timed words; frames: the classifier's log-probabilities `[T, L]`, of the languages `columns`; languages: those
    that may be spoken; timed: keep the words' times; cuts: of the chunk, the most probable first. The language of a run is
    that of the cut; where no cut fits, that under whose token it was written where that has the script, else the one of the
    script that the frames favour.
    """
    groups = runs(passed.words, {script_of(tag) for tag in languages})
    scripts = [script for script, _ in groups]
    fitting = next((found for found in map(_by_scripts, cuts) if [script_of(tag) for _, tag in found] == scripts), None)
    if fitting is not None:
        edges = [start / frame_rate for start, _ in fitting[1:]]
    else:
        edges = [(one[-1].end_s + two[0].start_s) / 2 for (_, one), (_, two) in pairwise(groups)]
    limits = [0.0, *np.maximum.accumulate(np.clip(edges, 0.0, duration_s)).tolist(), duration_s]
    if len(groups) < 2 or any(start >= end for start, end in pairwise(limits)):
        return [Part(0.0, duration_s, passed if timed else replace(passed, words=()))]
    parts: list[Part] = []
    written = 0
    for k, ((script, words), (start, end)) in enumerate(zip(groups, pairwise(limits), strict=True)):
        own = frames[round(start * frame_rate) : len(frames) if end == duration_s else round(end * frame_rate)]
        row = _heard(own, columns, [tag for tag in languages if script_of(tag) == script])
        before = passed.hypothesis.language
        language = fitting[k][1] if fitting is not None else before if before in row else next(iter(row))
        hypothesis = hypothesis_of(words, passed.hypothesis, written, language)
        written += len(hypothesis.tokens)
        reason = passed.decision.reason
        if language != passed.decision.language:
            reason = f"written in {script.capitalize()} ({reason})"
        decision = Decision(language, passed.decision.shares, reason)
        one = replace(
            passed, hypothesis=hypothesis, decision=decision, probabilities=row, frames=own,
            words=shifted(words, start) if timed else (),
        )  # fmt: skip
        parts.append(Part(start, end, one))
    return parts


def _by_scripts(cut: "Sequence[Spoken]") -> list[tuple[int, str]]:
    """Where each run of stretches in one script starts (frames), and the language that is longest in it."""
    found = []
    for _, group in groupby(cut, key=lambda spoken: script_of(spoken.decision.language)):
        same = list(group)
        lengths: Counter[str] = Counter()
        for spoken in same:
            if spoken.decision.language != UNKNOWN:
                lengths[spoken.decision.language] += spoken.end - spoken.start
        found.append((same[0].start, max(lengths, key=lambda tag: lengths[tag], default=UNKNOWN)))
    return found


def runs(words: Sequence[TimedWord], scripts: set[str]) -> list[tuple[str, list[TimedWord]]]:
    """Neighbours in one script, in order; what has too few letters of any goes with what stands before it."""
    found: list[tuple[str, list[TimedWord]]] = []
    for script, group in groupby(words, key=lambda word: _script(word, scripts)):
        same = list(group)
        known = script and letters("".join(word.word for word in same))[script] >= LETTERS
        if found and (not known or script == found[-1][0]):
            found[-1][1].extend(same)
        elif found and not found[-1][0]:
            found[-1] = (script, [*found[-1][1], *same])
        else:
            found.append((script if known else "", same))
    return found


def _script(word: TimedWord, scripts: set[str]) -> str:
    counts = {script: count for script, count in letters(word.word).items() if script in scripts}
    return max(counts, key=lambda script: (counts[script], script != LATIN), default="")  # letters stray in Latin


def _heard(frames: torch.Tensor, columns: Sequence[str], candidates: Sequence[str]) -> dict[str, float]:
    """Candidate -> probability among the candidates, the geometric mean over the frames, most probable first."""
    mean = frames.float().mean(dim=0).tolist() if len(frames) else [0.0] * len(columns)
    logits = np.array([mean[columns.index(tag)] for tag in candidates])
    shares = np.exp(logits - np.logaddexp.reduce(logits))
    return dict(sorted(zip(candidates, shares.tolist(), strict=True), key=lambda item: -item[1]))
