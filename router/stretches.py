"""Where the languages of a chunk may change: its possible cuts, from the classifier's frames, each stretch with what is spoken
in it; and a second hearing of stretches whose language the frames leave open."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import torch

from router.classifier import Classifier
from router.options import TranscribeOptions
from router.passes import Passed
from router.policies import Decision, decide
from router.rescoring import LEAST, Rescoring, candidates, greedily, rescored, surety, writable
from router.seams import at_quietest, frame_samples
from router.smoothing import Smoothing, Span, smooth
from zoo.speech import Utterance

EVIDENCE_COSTS = (1 / 3, 1.0, 7 / 3)
COSTS = (1.0, 1 / 3, 7 / 3, 5.0)  # of the chosen cost of a change: the cuts that are tried, the chosen first


@dataclass(frozen=True)
class Spoken:
    """A stretch of a chunk in one language, and what is done with it."""

    start: int
    end: int
    """Encoder frames, the end one behind the last."""
    probabilities: dict[str, float]
    """Language -> probability: the geometric mean over its frames, normalised."""
    decision: Decision


def cuts_of(
    frames: torch.Tensor,
    classifier: Classifier | None,
    utterance: Utterance,
    base,
    options: TranscribeOptions,
    smoothing: Smoothing,
) -> list[list[Spoken]]:
    """The ways to cut one chunk into stretches, two and more each; none: it is to be written in one language, as a whole.

    The first is that of the chosen cost of a change. Others, at other costs, are given where they can be told apart by
    writing (`options.rescore`). frames: log-probabilities `[T, L]` of the classifier's languages.
    """
    if options.switching is False or classifier is None:
        return []
    permitted, rows = permitted_frames(frames.float().cpu().numpy(), classifier.languages, options.languages)
    if len(permitted) < 2:
        return []
    if options.switch_cost is not None:
        smoothing = replace(smoothing, cost=options.switch_cost)
    found: list[list[Spoken]] = []
    for factor in COSTS if options.rescore else COSTS[:1]:
        path = smooth(rows, base.frame_rate, replace(smoothing, cost=factor * smoothing.cost))
        if not found and options.switching is None and path.gain < smoothing.shown:
            return []
        cut = _cut(merged(path.spans, rows, permitted, options), rows, permitted, utterance, base, options, smoothing)
        if len(cut) > 1:
            found += [cut] if cut not in found else []
        elif not found:
            return []
    return found


def cuts_by_evidence(
    frames: torch.Tensor,
    evidence: np.ndarray | None,
    classifier: Classifier,
    utterance: Utterance,
    base,
    options: TranscribeOptions,
    smoothing: Smoothing,
) -> list[list[Spoken]]:
    """Cuts of a chunk that seems to switch where, beside the classifier's frames, what the base heard with its whole encoder
    speaks: `evidence` `[T, L]` in nats (router/own_ctc.py); None gives no cuts. Otherwise as `cuts_of`."""
    if evidence is None:
        return []
    permitted, rows = permitted_frames(frames.float().cpu().numpy(), classifier.languages, options.languages)
    kept = [classifier.languages.index(tag) for tag in permitted]
    if options.switch_cost is not None:
        smoothing = replace(smoothing, cost=options.switch_cost)
    both = np.maximum(rows, smoothing.floor) + evidence[: len(rows), kept]
    found: list[list[Spoken]] = []
    for factor in EVIDENCE_COSTS:
        path = smooth(
            both, base.frame_rate, replace(smoothing, cost=factor * smoothing.cost, floor=float(both.min()) - 1)
        )
        cut = _cut(merged(path.spans, both, permitted, options), both, permitted, utterance, base, options, smoothing)
        found += [cut] if len(cut) > 1 and cut not in found else []
    return found


def _cut(
    spans: Sequence[Span],
    rows: np.ndarray,
    permitted: Sequence[str],
    utterance: Utterance,
    base,
    options: TranscribeOptions,
    smoothing: Smoothing,
) -> list[Spoken]:
    """The stretches of `spans`, cut where it is quietest nearby; neighbours that are then of one language are one.
    None where there are fewer than two spans."""
    if len(spans) < 2:
        return []
    most = round(smoothing.seam_s * base.frame_rate)
    cuts = at_quietest(utterance.audio, [span.start for span in spans[1:]], len(rows), frame_samples(base), most)
    found = [
        _decided(Span(start, end, span.language), rows, permitted, options)
        for (start, end), span in zip(pairwise([0, *cuts, len(rows)]), spans, strict=True)
    ]
    end = -(-len(utterance.audio) // frame_samples(base))  # an encoder may give a frame less than there is sound for
    return joined([*found[:-1], replace(found[-1], end=max(found[-1].end, end))], options)


def spoken_again(
    base,
    cuts: Sequence[tuple[int, list[Spoken]]],
    options: TranscribeOptions,
    rescoring: Rescoring,
    write_all: Callable[[Sequence[tuple[int, Spoken]], TranscribeOptions], list[Passed]],
) -> list[list[Spoken]]:
    """The stretches of each cut after a second hearing: each candidate language of a doubted stretch writes it
    (router/rescoring.py), and neighbours that are then of one language become one.

    cuts: position of the chunk, and its stretches; write_all: what is said in each (position, stretch) under the stretch's
    decision.
    """
    tried = [
        (n, k, tag)
        for n, (_, spans) in enumerate(cuts)
        for k, spoken in enumerate(spans)
        for tag in candidates(spoken.probabilities, writable(base, spoken.probabilities), rescoring)
    ]
    wanted = [(cuts[n][0], replace(cuts[n][1][k], decision=Decision(tag, {tag: 1.0}, "tried"))) for n, k, tag in tried]
    written: dict[tuple[int, int], dict[str, float]] = {}
    for (n, k, tag), passed in zip(tried, write_all(wanted, greedily(options)) if wanted else [], strict=True):
        written.setdefault((n, k), {})[tag] = surety(passed.hypothesis.token_log_probabilities)
    again = [list(spans) for _, spans in cuts]
    for (n, k), sure in written.items():
        row = rescored(cuts[n][1][k].probabilities, sure, rescoring)
        again[n][k] = replace(again[n][k], probabilities=row, decision=decide(row, options))
    return [
        joined(spans, options) if spans != before else spans for spans, (_, before) in zip(again, cuts, strict=True)
    ]


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
