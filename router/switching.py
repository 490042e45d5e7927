"""One batch of chunks to what is said in each: in one language as a whole, in several segment by segment.

A chunk in several languages is written stretch by stretch (router/by_segment.py) or in one pass (router/by_frame.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import torch

from adapters.bank import Bank
from router.assembling import Part
from router.by_frame import write_by_frame
from router.by_segment import write_segments
from router.classifier import Classifier
from router.options import TranscribeOptions
from router.passes import Clock, Passed, fitting, listen, rows_of, write
from router.policies import Decision, decide
from router.rescoring import (
    LEAST,
    Rescoring,
    candidates,
    greedily,
    heard_again,
    permitted_row,
    rescored,
    surety,
    writable,
    write_each,
)
from router.seams import at_quietest, frame_samples
from router.smoothing import Smoothing, Span, smooth
from zoo.errors import RoutingError
from zoo.speech import SAMPLE_RATE, Utterance


@dataclass(frozen=True)
class Spoken:
    """A stretch of a chunk in one language, and what is done with it."""

    start: int
    end: int
    """Encoder frames, the end one behind the last."""
    probabilities: dict[str, float]
    """Language -> probability: the geometric mean over its frames, normalised."""
    decision: Decision


def run(
    base,
    bank: Bank,
    classifier: Classifier | None,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    utterances: Sequence[Utterance],
    options: TranscribeOptions,
    clock: Clock,
    previous: str = "",
    smoothing: Smoothing = Smoothing(),
    rescoring: Rescoring = Rescoring(),
) -> list[list[Part]]:
    """What is said in chunks: of each the parts in order, times in seconds from the chunk's start.

    utterances: neighbours of equal grid are encoded together, all are decoded together; adapters: language -> adapter
    name; lowest_layers: adapter name -> first encoder layer that it changes; previous: text said before, for all of
    `utterances`. Batches of rows that need more adapters at once than the bank may hold are halved until they fit.
    Where switching would be on by itself, a chunk is also written as a whole, where `smoothing` and `options` say so.
    """
    used = None if options.language is not None else classifier
    lowest = [lowest_layers[name] for name in adapters.values()]
    batch = [listen(base, bank, used, lowest, list(same), clock) for _, same in groupby(utterances, key=base.grid_s)]
    if options.switching and used is not None and any(one.frames is None for one in batch):
        raise RoutingError(
            "Switching is on, but the classifier has no frames: it cannot tell where the language changes",
            valid="a head on the tap",
            remedy="boli train classifier",
        )
    frames = [own for one in batch for own in one.frames or [None] * len(one)]
    margin = smoothing.margin if used is not None and options.rescore and options.switching is None else None
    with clock.stage("switch"):
        heard = [
            spoken_in(row, used, utterance, base, options, smoothing) if row is not None else []
            for row, utterance in zip(frames, utterances, strict=True)
        ]

    def each(wanted: Sequence[tuple[int, Spoken]], options: TranscribeOptions) -> list[Passed]:
        return write_segments(
            base, bank, adapters, lowest_layers, utterances, wanted, options, clock, previous, smoothing.context_s
        )

    def segments(rows: Sequence[int], options: TranscribeOptions) -> list[tuple[int, Spoken, Passed]]:
        wanted = [(i, spoken) for i in rows for spoken in heard[i]]
        return [(*place, one) for place, one in zip(wanted, each(wanted, options), strict=True)]

    if options.rescore:
        heard = spoken_again(base, heard, options, rescoring, each)
    switched = [i for i, spans in enumerate(heard) if len(spans) > 1]
    whole: dict[int, dict[str, float]] = {}
    written: list[tuple[int, Spoken, Passed]] | None = None
    if margin is not None and switched:
        plainly = greedily(options)
        written = segments(switched, plainly)
        said = [row for one in batch for row in one.probabilities]
        pairs = [(i, tag) for i in switched for tag in writable(base, permitted_row(said[i], options))]
        sure = write_each(base, bank, adapters, lowest_layers, batch, pairs, utterances, options, clock, previous)
        for (i, tag), value in zip(pairs, sure, strict=True):
            whole.setdefault(i, {})[tag] = value
        for i, languages in whole.items():
            tokens = [p for row, _, one in written if row == i for p in one.hypothesis.token_log_probabilities]
            if max(languages.values()) - surety(tokens) > margin:
                heard[i] = []
        if replace(options, switching=False) != plainly:
            written = None
    plain = [i for i, spans in enumerate(heard) if len(spans) < 2]
    switched = [i for i, spans in enumerate(heard) if len(spans) > 1]
    parts: list[list[Part]] = [[] for _ in utterances]
    if used is not None and options.rescore:
        batch = heard_again(
            base, bank, adapters, lowest_layers, batch, plain, utterances, options, clock, rescoring, previous, whole
        )

    def alone(rows: Sequence[int]) -> list[Passed]:
        chosen = rows_of(batch, rows)
        decisions = [decide(row, options) for one in chosen for row in one.probabilities]
        seconds = [base.grid_s(utterances[i]) for i in rows]
        return write(base, bank, adapters, lowest_layers, chosen, decisions, options, clock, seconds, previous)

    for i, passed in zip(plain, fitting(plain, alone), strict=True):
        parts[i] = [Part(0.0, utterances[i].duration_s, passed)]
    if options.strategy == "frames":
        for i in switched:
            parts[i] = write_by_frame(
                base, bank, adapters, lowest_layers, rows_of(batch, [i])[0], heard[i], utterances[i], options, clock,
                previous,
            )  # fmt: skip
        return parts
    if written is None:
        written = segments(switched, options)
    per_frame = frame_samples(base)
    for i, spoken, result in written:
        if not heard[i]:  # not borne out
            continue
        heard_frames = frames[i]
        assert heard_frames is not None  # or nothing would have been found
        own = replace(result, frames=heard_frames[spoken.start : spoken.end])
        end = min(spoken.end * per_frame, len(utterances[i].audio))
        parts[i].append(Part(spoken.start * per_frame / SAMPLE_RATE, end / SAMPLE_RATE, own))
    return parts


def spoken_in(
    frames: torch.Tensor,
    classifier: Classifier | None,
    utterance: Utterance,
    base,
    options: TranscribeOptions,
    smoothing: Smoothing,
) -> list[Spoken]:
    """The stretches of one chunk; fewer than two: it is to be written in one language, as a whole.

    frames: log-probabilities `[T, L]` of the classifier's languages.
    """
    if options.switching is False or classifier is None:
        return []
    permitted, rows = permitted_frames(frames.float().cpu().numpy(), classifier.languages, options.languages)
    if len(permitted) < 2:
        return []
    if options.switch_cost is not None:
        smoothing = replace(smoothing, cost=options.switch_cost)
    path = smooth(rows, base.frame_rate, smoothing)
    if options.switching is None and path.gain < smoothing.shown:
        return []
    spans = merged(path.spans, rows, permitted, options)
    if len(spans) < 2:
        return []
    most = round(smoothing.seam_s * base.frame_rate)
    cuts = at_quietest(utterance.audio, [span.start for span in spans[1:]], len(rows), frame_samples(base), most)
    found = [
        _decided(Span(start, end, span.language), rows, permitted, options)
        for (start, end), span in zip(pairwise([0, *cuts, len(rows)]), spans, strict=True)
    ]
    end = -(-len(utterance.audio) // frame_samples(base))  # an encoder may give a frame less than there is sound for
    return [*found[:-1], replace(found[-1], end=max(found[-1].end, end))]


def spoken_again(
    base,
    heard: Sequence[list[Spoken]],
    options: TranscribeOptions,
    rescoring: Rescoring,
    write_all: Callable[[Sequence[tuple[int, Spoken]], TranscribeOptions], list[Passed]],
) -> list[list[Spoken]]:
    """`heard`, the stretches of each chunk, after a second hearing: each candidate language of a doubted stretch writes it
    (router/rescoring.py), and neighbours that are then of one language become one. A chunk of a single stretch is left as it
    is: it is heard again as a whole.

    write_all: what is said in each (position of the chunk, stretch) under the stretch's decision.
    """
    tried = [
        (i, k, tag)
        for i, spans in enumerate(heard)
        for k, spoken in enumerate(spans)
        if len(spans) > 1
        for tag in candidates(spoken.probabilities, writable(base, spoken.probabilities), rescoring)
    ]
    wanted = [(i, replace(heard[i][k], decision=Decision(tag, {tag: 1.0}, "tried"))) for i, k, tag in tried]
    written: dict[tuple[int, int], dict[str, float]] = {}
    for (i, k, tag), passed in zip(tried, write_all(wanted, greedily(options)) if wanted else [], strict=True):
        written.setdefault((i, k), {})[tag] = surety(passed.hypothesis.token_log_probabilities)
    again = [list(spans) for spans in heard]
    for (i, k), sure in written.items():
        row = rescored(heard[i][k].probabilities, sure, rescoring)
        again[i][k] = replace(heard[i][k], probabilities=row, decision=decide(row, options))
    return [joined(spans, options) if spans != before else spans for spans, before in zip(again, heard, strict=True)]


def joined(spans: Sequence[Spoken], options: TranscribeOptions) -> list[Spoken]:
    """Neighbours of one language as one stretch, with the geometric mean of their probabilities by time."""
    found = []
    for _, group in groupby(spans, key=lambda spoken: spoken.decision.language):
        same = list(group)
        if len(same) > 1:
            lengths = [spoken.end - spoken.start for spoken in same]
            tags = list(same[0].probabilities)
            rows = np.log([[max(s.probabilities[tag], LEAST) for tag in tags] for s in same])
            same = [_spoken(same[0].start, same[-1].end, np.average(rows, axis=0, weights=lengths), tags, options)]
        found += same
    return found


def permitted_frames(
    frames: np.ndarray, languages: Sequence[str], allowed: Sequence[str] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """The languages that can be spoken and their log-probabilities `[T, permitted]`, normalised again."""
    if allowed is None:
        return tuple(languages), frames
    kept = [k for k, language in enumerate(languages) if language in allowed]
    rows = frames[:, kept]
    if kept:
        rows = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    return tuple(languages[k] for k in kept), rows


def merged(spans: Sequence[Span], rows: np.ndarray, languages: Sequence[str], options: TranscribeOptions) -> list[Span]:
    """Neighbours for which the policy decides alike become one (it may see families, not single languages)."""
    decided = [(_decided(span, rows, languages, options).decision.language, span) for span in spans]
    found = []
    for _, group in groupby(decided, key=lambda pair: pair[0]):
        same = [span for _, span in group]
        found.append(Span(same[0].start, same[-1].end, same[0].language))
    return found


def _decided(span: Span, rows: np.ndarray, languages: Sequence[str], options: TranscribeOptions) -> Spoken:
    return _spoken(span.start, span.end, rows[span.start : span.end].mean(axis=0), languages, options)


def _spoken(start: int, end: int, mean: np.ndarray, languages: Sequence[str], options: TranscribeOptions) -> Spoken:
    """mean: log-probabilities `[L]`, not normalised."""
    shares = np.exp(mean - np.logaddexp.reduce(mean))
    row = dict(sorted(zip(languages, shares.tolist(), strict=True), key=lambda item: -item[1]))
    return Spoken(start, end, row, decide(row, options))
