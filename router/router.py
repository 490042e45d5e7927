"""The Router: base model + bank + classifier + policy."""

import os
import time
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import fields, replace
from typing import Any, Literal, overload

import numpy as np

from adapters.bank import Bank
from adapters.store import Store, StoredAdapter
from router.chunks import Chunk, cut
from router.classifier import UNKNOWN, Classifier
from router.fleet import choose
from router.options import TranscribeOptions
from router.passes import Clock, Passed, run_fitting
from router.transcript import Segment, Transcript
from zoo import audio
from zoo.errors import BoliError, RoutingError
from zoo.speech import SAMPLE_RATE, Utterance

SILENCE_PEAK = 1e-4  # a recording that never exceeds this (-80 dBFS) holds nothing to hear


class Router:
    """Transcribes with one base model and the adapters of one store. Use `router.load` to make one.

    It may be shared by threads: what belongs to a call lives in the call.
    """

    def __init__(
        self,
        base,
        store: Store | None,
        classifier: Classifier | None,
        options: TranscribeOptions = TranscribeOptions(),
        *,
        variant: str | None = None,
        rank: int | None = None,
        max_bytes: int | None = None,
        max_adapters: int | None = None,
    ):
        self.base, self.store, self.classifier, self.options = base, store, classifier, options
        self._by_name: dict[str, StoredAdapter] = {}
        self._serve(choose(store, base, variant=variant, rank=rank) if store is not None else {})
        self.bank = Bank(base, self._weights, max_bytes=max_bytes, max_adapters=max_adapters)

    def _serve(self, fleet: dict[str, StoredAdapter]) -> None:
        self.fleet = dict(fleet)
        self._by_name.update({stored.name: stored for stored in fleet.values()})
        self.adapters = {language: stored.name for language, stored in fleet.items()}
        self._lowest = {stored.name: stored.record.lowest_adapted_layer for stored in fleet.values()}

    def sharing(
        self,
        fleet: dict[str, StoredAdapter] | None = None,
        classifier: Classifier | None = None,
        **options,
    ) -> "Router":
        """Another Router on the same loaded base and the same bank.

        fleet: language -> adapter it uses instead ({}: the base alone). classifier, options: likewise. What is not
        given is this router's.
        """
        other = copy(self)
        other.classifier = classifier or self.classifier
        other.options = self._options(options)
        other._serve(self.fleet if fleet is None else fleet)
        return other

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that an adapter of the store serves."""
        return tuple(sorted(self.adapters))

    def _weights(self, name: str):
        return self.store.weights(self._by_name[name])

    @overload
    def transcribe(self, inputs: Any, rate: int | None = None, **options) -> Transcript: ...

    @overload
    def transcribe(self, inputs: Iterable[Any], rate: int | None = None, **options) -> Iterator[Transcript]: ...

    def transcribe(self, inputs, rate=None, *, on_error: Literal["raise", "return"] = "raise", **options):
        """What is said in `inputs`.

        inputs: a path, the bytes of a file, an open binary file, or an array or tensor (with `rate`, its sample rate in
        Hz; 16,000 where none is given): a Transcript. A list or iterator of these: a generator of Transcripts in order.
        options: the fields of `TranscribeOptions`; they replace the router's own for this call.
        on_error: in a list, `return` puts the error of a bad input in its place and goes on.
        """
        chosen = self._options(options)
        if is_single(inputs):
            return next(self._transcribe_all([inputs], rate, chosen, on_error="raise"))
        return self._transcribe_all(inputs, rate, chosen, on_error)

    def _options(self, changes: dict[str, Any]) -> TranscribeOptions:
        known = {f.name for f in fields(TranscribeOptions)}
        if unknown := sorted(set(changes) - known):
            raise RoutingError(f"transcribe() has no options {unknown}", valid=", ".join(sorted(known)))
        if isinstance(changes.get("languages"), list):
            changes["languages"] = tuple(changes["languages"])
        options = replace(self.options, **changes)
        wanted = [options.language] if options.language else list(options.languages or ())
        for language in wanted:
            if language not in self.base.languages and language not in self.adapters:
                raise RoutingError(
                    f"Language {language!r} is known neither to {self.base.card.name} nor to an adapter",
                    valid=", ".join(sorted({*self.base.languages, *self.adapters})),
                    remedy="boli adapters list",
                )
        return options

    def _transcribe_all(
        self, inputs: Iterable[Any], rate, options: TranscribeOptions, on_error: str
    ) -> Iterator[Transcript]:
        window: list[tuple[str, np.ndarray | BoliError, float]] = []
        for i, item in enumerate(inputs):
            window.append(self._heard(item, rate, i, on_error))
            if len(window) >= 4 * options.batch_size:
                yield from self._transcribe_window(window, options)
                window = []
        if window:
            yield from self._transcribe_window(window, options)

    def _heard(self, item, rate, position: int, on_error: str) -> tuple[str, "np.ndarray | BoliError", float]:
        start = time.perf_counter()
        name = str(item) if isinstance(item, str | os.PathLike) else f"input {position}"
        try:
            sound = audio.from_array(item, rate, name) if is_samples(item) else audio.decode(item, name)
        except BoliError as error:
            if on_error == "raise":
                raise
            return name, error, 0.0
        return name, sound, time.perf_counter() - start

    def _transcribe_window(self, window, options: TranscribeOptions) -> Iterator[Any]:
        """Chunks of all recordings, batched by equal grid; then each recording put together again, in order."""
        clock = Clock()
        started = time.perf_counter()
        chunks: list[tuple[int, Chunk, Utterance]] = []
        for i, (name, sound, _) in enumerate(window):
            if isinstance(sound, BoliError) or float(np.abs(sound).max()) < SILENCE_PEAK:
                continue
            for chunk in cut(sound, self.base.max_duration_s):
                chunks.append((i, chunk, Utterance(chunk.audio, name)))
        passed: dict[int, Passed] = {}
        for group in self._batches([utterance for _, _, utterance in chunks], options.batch_size):
            batch = [chunks[j][2] for j in group]
            results = run_fitting(
                self.base, self.bank, self.classifier, self.adapters, self._lowest, batch, options, clock
            )
            passed.update(zip(group, results, strict=True))
        elapsed = time.perf_counter() - started
        total_s = sum(len(utterance.audio) for _, _, utterance in chunks) / SAMPLE_RATE
        for i, (name, sound, read_s) in enumerate(window):
            if isinstance(sound, BoliError):
                yield sound
                continue
            mine = [(chunk, passed[j]) for j, (owner, chunk, _) in enumerate(chunks) if owner == i]
            share = len(sound) / SAMPLE_RATE / total_s if mine and total_s else 0.0
            timings = {
                "decode_audio": read_s,
                **{stage: s * share for stage, s in clock.seconds.items()},
                "total": read_s + elapsed * share,
            }
            yield assemble(name, len(sound) / SAMPLE_RATE, mine, timings)

    def _batches(self, utterances: list[Utterance], batch_size: int) -> Iterator[list[int]]:
        """Positions of utterances of equal grid, at most `batch_size` together."""
        by_grid: dict[float, list[int]] = {}
        for j, utterance in enumerate(utterances):
            by_grid.setdefault(self.base.grid_s(utterance), []).append(j)
        for _, members in sorted(by_grid.items()):
            for start in range(0, len(members), batch_size):
                yield members[start : start + batch_size]


def assemble(name: str, duration_s: float, chunks: list[tuple[Chunk, Passed]], timings: dict[str, float]) -> Transcript:
    """Segments in order; the language that was spoken longest is the recording's."""
    segments: list[Segment] = []
    probabilities: dict[str, float] = {}
    spoken: dict[str, float] = {}
    for chunk, passed in chunks:
        length = chunk.end_s - chunk.start_s
        language = passed.decision.language
        row = passed.probabilities or {language: 1.0}
        for tag, p in row.items():
            probabilities[tag] = probabilities.get(tag, 0.0) + p * length
        spoken[language] = spoken.get(language, 0.0) + length
        segments += _segments(chunk, passed, row.get(language, 0.0))
    total = sum(spoken.values())
    language = max(spoken, key=lambda tag: spoken[tag]) if spoken else UNKNOWN
    probabilities = {tag: p / total for tag, p in sorted(probabilities.items(), key=lambda item: -item[1])}
    return Transcript(
        text=" ".join(segment.text for segment in segments if segment.text),
        language=language,
        language_probability=probabilities.get(language, 0.0),
        probabilities=probabilities,
        segments=tuple(segments),
        duration=duration_s,
        timings=timings,
        source=name,
    )


def _segments(chunk: Chunk, passed: Passed, probability: float) -> list[Segment]:
    hypothesis, decision = passed.hypothesis, passed.decision
    mean = hypothesis.log_probability / max(1, len(hypothesis.tokens) + 1)
    common = {
        "language": decision.language,
        "probability": probability,
        "weights": passed.weights,
        "reason": decision.reason,
        "avg_logprob": mean,
    }
    if not hypothesis.pieces:
        return [Segment(chunk.start_s, chunk.end_s, hypothesis.text, tokens=hypothesis.tokens, **common)]
    return [
        Segment(
            chunk.start_s + piece.start_s,
            min(chunk.start_s + piece.end_s, chunk.end_s),
            piece.text,
            tokens=piece.tokens,
            **common,
        )
        for piece in hypothesis.pieces
    ]


def is_samples(item: Any) -> bool:
    """An array or tensor of samples (also a plain list of numbers)."""
    return isinstance(item, np.ndarray) or hasattr(item, "numpy")


def is_single(inputs: Any) -> bool:
    """One recording, as against a list or iterator of them."""
    return (
        isinstance(inputs, str | os.PathLike | bytes | bytearray | memoryview)
        or hasattr(inputs, "read")
        or is_samples(inputs)
    )
