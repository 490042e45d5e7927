"""One batch of chunks to what is said in each: in one language as a whole, in several segment by segment.

Two ways to write a chunk in several languages. `segments`: each stretch is encoded anew, with some audio on both sides
as context, and decoded from its own frames under its own mixture. `frames`: one pass for the whole chunk, in which the
mixture changes from frame to frame at the sites that see frames; the words are given to the segments by their times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
import torch

from adapters.bank import Bank
from adapters.mixture import Mixture
from router.assembling import Part
from router.classifier import Classifier
from router.options import TranscribeOptions
from router.passes import Clock, Listened, Passed, fitting, listen, rows_of, write
from router.policies import Decision, adapter_weights, decide, explained
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
from router.seams import at_quietest, frame_samples, stretch
from router.smoothing import Smoothing, Span, smooth
from zoo.errors import RoutingError
from zoo.interface import Hypothesis, TimedWord
from zoo.joining import together
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
            parts[i] = _by_frame(
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


def write_segments(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    utterances: Sequence[Utterance],
    wanted: Sequence[tuple[int, Spoken]],
    options: TranscribeOptions,
    clock: Clock,
    previous: str = "",
    context_s: float = 0.0,
) -> list[Passed]:
    """What is said in each (position in `utterances`, stretch) of `wanted`, each for itself, encoded by equal shape."""
    context = round(context_s * base.frame_rate)
    shaped = [
        stretch(base, utterances[i].audio, spoken.start, spoken.end, context, utterances[i].id) for i, spoken in wanted
    ]
    shapes = [(one.kept, base.grid_s(one.utterance)) for one in shaped]
    order = sorted(range(len(shaped)), key=lambda k: shapes[k])
    results: dict[int, Passed] = {}

    def work(members: Sequence[int]) -> list[Passed]:
        batch = []
        for _, same in groupby(members, key=lambda k: shapes[k]):
            own = list(same)
            with clock.stage("features"):
                features = base.features([shaped[k].utterance for k in own])
            rows = [wanted[k][1].probabilities for k in own]
            batch.append(Listened(features, features, features, rows, stretches=[shaped[k] for k in own]))
        decisions = [wanted[k][1].decision for k in members]
        seconds = [shaped[k].kept / base.frame_rate for k in members]
        found = write(base, bank, adapters, lowest_layers, batch, decisions, options, clock, seconds, previous)
        return [_from_own_start(p, shaped[k].left / base.frame_rate) for p, k in zip(found, members, strict=True)]

    for chosen in together([shapes[k][0] for k in order], options.batch_size, base.spare_frames):
        members = [order[position] for position in chosen]
        results.update(zip(members, fitting(members, work), strict=True))
    return [results[k] for k in range(len(wanted))]


def _from_own_start(passed: Passed, context_s: float) -> Passed:
    """Timestamps that the model wrote count from the context's start; here from the stretch's own."""
    pieces = tuple(
        replace(piece, start_s=max(0.0, piece.start_s - context_s), end_s=max(0.0, piece.end_s - context_s))
        for piece in passed.hypothesis.pieces
    )
    return replace(passed, hypothesis=replace(passed.hypothesis, pieces=pieces))


def _by_frame(
    base, bank, adapters, lowest_layers, listened, heard: list[Spoken], utterance, options, clock, previous
) -> list[Part]:
    """One chunk in one pass under a mixture that changes with its stretches."""
    if not hasattr(base, "align_words"):
        raise RoutingError(
            f"{base.card.name} cannot align words, so words cannot be given to segments", valid='strategy="segments"'
        )
    frames = listened.tapped.values.shape[1]
    whole = overall(heard)
    names = tuple(sorted({name for s in heard for name in adapter_weights(s.decision, adapters)}))
    by_frame = torch.zeros(1, frames, len(names))
    for spoken in heard:
        end = frames if spoken is heard[-1] else spoken.end  # the silence behind goes with the last
        for name, weight in adapter_weights(spoken.decision, adapters).items():
            by_frame[0, spoken.start : end, names.index(name)] = weight
    mixture = Mixture(names, Mixture.from_rows([adapter_weights(whole, adapters)], names).weights, by_frame)
    timed = replace(options, timestamps="word")
    passed = write(
        base, bank, adapters, lowest_layers, [replace(listened, probabilities=[_mean(heard)])], [whole], timed, clock,
        [base.grid_s(utterance)], previous, mixture=mixture if names else None,
    )[0]  # fmt: skip
    per_frame = frame_samples(base) / SAMPLE_RATE
    parts = []
    written = 0
    for spoken, words in zip(heard, shared_out(passed.words, heard, per_frame), strict=True):
        start = spoken.start * per_frame
        end = min(spoken.end * per_frame, utterance.duration_s)
        own = replace(
            passed,
            hypothesis=_hypothesis_of(words, passed.hypothesis, written, spoken.decision.language),
            decision=explained(spoken.decision, adapters),
            probabilities=spoken.probabilities,
            weights=adapter_weights(spoken.decision, adapters),
            frames=passed.frames[spoken.start : spoken.end],
            words=_shifted(words, start) if options.timestamps == "word" else (),
        )
        parts.append(Part(start, end, own))
        written += len(own.hypothesis.tokens)
    return parts


def overall(heard: Sequence[Spoken]) -> Decision:
    """What rules where the mixture cannot change with time (the decoder's own sites, its language token): the languages'
    shares by their time, and the language that is spoken longest."""
    total = sum(spoken.end - spoken.start for spoken in heard)
    spoken_for: dict[str, int] = {}
    shares: dict[str, float] = {}
    for spoken in heard:
        length = spoken.end - spoken.start
        language = spoken.decision.language
        spoken_for[language] = spoken_for.get(language, 0) + length
        for tag, share in spoken.decision.shares.items():
            shares[tag] = shares.get(tag, 0.0) + share * length / total
    return Decision(max(spoken_for, key=lambda tag: spoken_for[tag]), shares, "by time")


def _mean(heard: Sequence[Spoken]) -> dict[str, float]:
    total = sum(spoken.end - spoken.start for spoken in heard)
    row: dict[str, float] = {}
    for spoken in heard:
        for tag, p in spoken.probabilities.items():
            row[tag] = row.get(tag, 0.0) + p * (spoken.end - spoken.start) / total
    return dict(sorted(row.items(), key=lambda item: -item[1]))


def shared_out(words: Sequence[TimedWord], heard: Sequence[Spoken], frame_s: float) -> list[tuple[TimedWord, ...]]:
    """Each word to the stretch in which its middle lies: every word exactly once, in order."""
    edges = [spoken.start * frame_s for spoken in heard[1:]]
    groups: list[list[TimedWord]] = [[] for _ in heard]
    at = 0
    for word in words:
        at = max(at, int(np.searchsorted(edges, (word.start_s + word.end_s) / 2, side="right")))
        groups[at].append(word)
    return [tuple(group) for group in groups]


def _shifted(words: Sequence[TimedWord], by_s: float) -> tuple[TimedWord, ...]:
    """Times from the stretch's start instead of the chunk's."""
    return tuple(replace(w, start_s=max(0.0, w.start_s - by_s), end_s=max(0.0, w.end_s - by_s)) for w in words)


def _hypothesis_of(words: Sequence[TimedWord], whole: Hypothesis, first: int, language: str) -> Hypothesis:
    """The part of a hypothesis that `words` are; first: its tokens before them."""
    tokens = tuple(token for word in words for token in word.tokens)
    scores = whole.token_log_probabilities[first : first + len(tokens)]
    return Hypothesis("".join(word.word for word in words).strip(), tokens, language, float(sum(scores)), scores)
