"""From the languages' log-probabilities per frame to stretches of one language.

A hidden Markov model whose states are the languages: staying costs nothing, every change costs the same, and a language
that is entered stays for a least time (Rabiner 1989; the least time as in explicit-duration models, ibid. IV.D).
Evidence is a log-probability integrated over time, so its unit is nat-seconds and no parameter depends on the frame
rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from zoo.errors import ModelError


@dataclass(frozen=True)
class Smoothing:
    """How readily a change of language is believed. `boli train switching` chooses all of it on a validation set."""

    cost: float = 0.5
    """What one change costs, in nat-seconds: it pays where the other language's lead in log-probability, integrated over
    its stretch, is larger."""
    shortest_s: float = 0.3
    """No language is entered for less. A stretch that the recording's start or end cuts may be shorter."""
    floor: float = -4.0
    """Log-probabilities below count as this: no single frame is that sure."""
    shown: float = 1.0
    """Switching is on by itself where the stretches are at least this much more probable, in nat-seconds, than any one
    language throughout."""
    margin: float | None = None
    """And where that is shown, the recording is also written as a whole in each language (router/versions.py): the most probable
    whole may have a score this much larger than the most probable cut. None: nobody writes it as a whole."""
    written: float = 2.0
    """Weight of the decoder's log-probability in a version's score, where that of CTC is 1."""
    heard: float = 4.0
    """Weight of the classifier's frames in it, for each nat-second."""
    context_s: float = 0.0
    """Audio beyond its own that a segment is encoded with on each side; the decoder never sees its frames. Where it was
    measured it did harm (docs/log.md)."""
    seam_s: float = 0.15
    """A seam may move by this much to where it is quietest, so that it cuts no word."""

    def __post_init__(self):
        for name in ("cost", "shortest_s", "shown", "written", "heard", "context_s", "seam_s"):
            if not getattr(self, name) >= 0:
                raise ModelError(f"switching {name} is {getattr(self, name)}", valid="0 or more")
        if not self.floor < 0:
            raise ModelError(f"switching floor is {self.floor}", valid="below 0")


@dataclass(frozen=True)
class Span:
    """Frames `start` to `end` (one behind the last) of one language, by its index."""

    start: int
    end: int
    language: int


@dataclass(frozen=True)
class Path:
    """The most probable spans, and how much more probable they are than the best single language, in nat-seconds, what
    the changes cost not counted."""

    spans: tuple[Span, ...]
    gain: float


def parameters(kind: type, data: Mapping[str, Any], remedy: str = "boli train switching"):
    """A dataclass of parameters from a config. Raises ModelError for an unknown key; remedy: what writes them anew."""
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(data) - known):
        raise ModelError(
            f"A classifier's parameters of {kind.__name__.lower()} hold unknown keys {unknown}",
            valid=", ".join(sorted(known)),
            remedy=remedy,
        )
    return kind(**data)


def smooth(log_probabilities: np.ndarray, frame_rate: float, options: Smoothing) -> Path:
    """The most probable stretches of a clip.

    log_probabilities: `[T, L]`, natural logarithms; frame_rate: frames per second. No frames: no spans.
    """
    T, _ = log_probabilities.shape
    if T == 0:
        return Path((), 0.0)
    evidence = np.maximum(log_probabilities.astype(np.float64), options.floor) / frame_rate
    sums = np.concatenate([np.zeros((1, evidence.shape[1])), np.cumsum(evidence, axis=0)])
    spans = viterbi(sums, options.cost, max(1, round(options.shortest_s * frame_rate)))
    found = sum(sums[span.end, span.language] - sums[span.start, span.language] for span in spans)
    return Path(spans, float(found - sums[-1].max()))


def viterbi(sums: np.ndarray, cost: float, shortest: int) -> tuple[Span, ...]:
    """Spans of the largest evidence less `cost` for each change.

    sums: `[T + 1, L]`, evidence of the first t frames. A span has at least `shortest` frames, the first and the last
    may have fewer: the clip cuts them.
    """
    T, L = len(sums) - 1, sums.shape[1]
    best = np.empty((T + 1, L))  # of the first t frames, if the frame before t is of language l and l may be left there
    entered = np.zeros((T + 1, L), dtype=np.int64)  # where that span began
    best[1] = sums[1]
    for t in range(2, T + 1):
        best[t] = best[t - 1] + sums[t] - sums[t - 1]
        entered[t] = entered[t - 1]
        start = t - shortest
        if start >= 1:
            changed = best[start].max() - cost + sums[t] - sums[start]
            better = changed > best[t]
            best[t][better], entered[t][better] = changed[better], start
    language = int(best[T].argmax())
    score, start = best[T, language], int(entered[T, language])
    for late in range(max(1, T - shortest + 1), T):  # a last span that the clip's end cuts
        changed = best[late].max() - cost + sums[T] - sums[late]
        if changed.max() > score:
            score, language, start = changed.max(), int(changed.argmax()), late
    spans = [Span(start, T, language)]
    while start > 0:
        end, language = start, int(best[start].argmax())
        start = int(entered[end, language])
        spans.append(Span(start, end, language))
    return tuple(reversed(spans))
