"""The Router: base model + bank + classifier + policy."""

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sized
from copy import copy
from dataclasses import replace
from typing import Any, BinaryIO, Literal, Protocol, overload

import numpy as np

from adapters.bank import Bank
from adapters.peft_files import LoraWeights
from adapters.store import Store, StoredAdapter
from router.assembling import Part, assemble
from router.causal import Change, Follower
from router.chunks import Chunk, Recording
from router.classifier import Classifier
from router.fleet import choose
from router.options import TranscribeOptions, transcribe_options
from router.passes import Clock
from router.rescoring import Rescoring
from router.smoothing import Smoothing, parameters
from router.switching import run
from router.transcript import Transcript
from router.vad import voice_activity
from router.windows import Causal
from zoo import audio
from zoo.errors import AudioError, BoliError, RoutingError
from zoo.joining import together
from zoo.speech import SAMPLE_RATE, Utterance

WINDOW_BATCHES = 4  # batches of chunks that are read before they are passed, to find some of like length
BLOCK_SAMPLES = int(audio.BLOCK_S * SAMPLE_RATE)
FOLLOWED_S = 1.0  # seconds read at a time where changes are followed
LEAST_S = 0.5  # what is left of a chunk, or was written of it, so that going on can bring anything
CONTEXT_CHARACTERS = 500  # of the text before, where it is carried over


class Tensor(Protocol):
    """A torch tensor, or another library's that can become an array."""

    def numpy(self) -> np.ndarray: ...


OneRecording = str | os.PathLike | bytes | bytearray | memoryview | BinaryIO | np.ndarray | Tensor


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
        self.base, self.store, self.options = base, store, options
        self._listen_with(classifier)
        self._by_name: dict[str, StoredAdapter] = {}
        self._serve(choose(store, base, variant=variant, rank=rank) if store is not None else {})
        self.bank = Bank(base, self._weights, max_bytes=max_bytes, max_adapters=max_adapters)

    def _serve(self, fleet: dict[str, StoredAdapter]) -> None:
        self.fleet = dict(fleet)
        self._by_name.update({stored.name: stored for stored in fleet.values()})
        self.adapters = {language: stored.name for language, stored in fleet.items()}
        self.lowest_layers = {stored.name: stored.record.lowest_adapted_layer for stored in fleet.values()}

    def _listen_with(self, classifier: Classifier | None) -> None:
        self.classifier = classifier
        config = getattr(classifier, "config", None)
        chosen = config.switching if config else {}
        self.rescoring = parameters(
            Rescoring, config.rescoring.get("options", {}) if config else {}, "boli train rescoring"
        )
        self.smoothing = parameters(Smoothing, chosen.get("offline", {}))
        following = getattr(classifier, "following", None)
        self.causal = following.causal if following is not None else parameters(Causal, chosen.get("causal", {}))

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
        other._listen_with(classifier or self.classifier)
        other.options = self._options(options)
        other._serve(self.fleet if fleet is None else fleet)
        return other

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that an adapter of the store serves."""
        return tuple(sorted(self.adapters))

    @property
    def longest_s(self) -> float:
        """Seconds that go through the base in one pass; longer recordings are cut (router/chunks.py)."""
        return min(self.base.max_duration_s, self.base.card.longest_s or math.inf)

    def _weights(self, name: str) -> LoraWeights:
        assert self.store is not None, "names come from a store"
        return self.store.weights(self._by_name[name])

    @overload
    def transcribe(self, inputs: OneRecording, rate: int | None = None, **options) -> Transcript: ...  # type: ignore[overload-overlap]

    @overload
    def transcribe(self, inputs: Iterable[Any], rate: int | None = None, **options) -> Iterator[Transcript]: ...

    def transcribe(
        self, inputs, rate=None, *, on_error: Literal["raise", "return"] = "raise", progress: bool = False, **options
    ):
        """What is said in `inputs`.

        inputs: a path, the bytes of a file, an open binary file, or an array or tensor (with `rate`, its sample rate in
        Hz; 16,000 where none is given): a Transcript. A list or iterator of these: a generator of Transcripts in order,
        which reads ahead a few batches and batches recordings of like length together. Recordings may be of any length:
        memory does not grow with them.
        on_error: in a list, `return` puts the error of a bad input in its place and goes on; `raise` first gives out
        what stood before it. progress: show a bar on standard error.
        options: the fields of `TranscribeOptions`; they replace the router's own for this call.
        """
        chosen = self._options(options)
        if on_error not in ("raise", "return"):
            raise RoutingError(f"on_error is {on_error!r}", valid="raise, return")
        if is_single(inputs):
            return next(self._transcribe_all([inputs], rate, chosen, "raise", progress))
        if not isinstance(inputs, Iterable):
            raise AudioError(
                f"The input is a {type(inputs).__name__}",
                valid="a path, bytes, an open binary file, an array or tensor, or a list or iterator of these",
            )
        return self._transcribe_all(inputs, rate, chosen, on_error, progress)

    def follow(self, recording, rate: int | None = None, **options) -> Iterator[Change]:
        """The changes of language in one recording, each as soon as it is decided, from nothing but what was heard
        before (router/causal.py). The first names the language that the recording begins in.

        recording: as for `transcribe`, or an iterator of blocks of samples (a microphone; at `rate`, 16 kHz where none is
        given): each is heard as soon as it comes, so blocks of a tenth of a second add the least delay. options: `languages`
        restricts.
        """
        chosen = self._options(options)
        if self.classifier is None or chosen.language is not None:
            raise RoutingError(
                "Changes of language can be followed only where it is detected",
                valid="a classifier, and no language forced",
                remedy="router.load(classifier=FOLDER)",
            )
        follower = Follower(self.base, self.bank, self.classifier, self.causal, chosen.languages)
        if is_samples(recording):
            yield from follower.feed(audio.from_array(recording, rate))
            return
        live = not is_single(recording) and isinstance(recording, Iterable)
        for block in audio.joined(recording, rate) if live else audio.stream(recording, block_s=FOLLOWED_S):
            yield from follower.feed(block)

    def _options(self, changes: dict[str, Any]) -> TranscribeOptions:
        options = transcribe_options(changes, self.options)
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
        self, inputs: Iterable[Any], rate, options: TranscribeOptions, on_error: str, progress: bool
    ) -> Iterator[Any]:
        """Reads recordings in order, passes their chunks in windows of a few batches, and gives each recording out as
        soon as it and all before it are done."""
        pending: deque[_Heard] = deque()
        waiting: list[tuple[_Heard, Chunk]] = []
        bar = _bar(inputs) if progress else None
        for position, item in enumerate(inputs):
            heard = _Heard(str(item) if isinstance(item, str | os.PathLike) else f"input {position}")
            try:
                for chunk in heard.read(self._blocks(item, rate, heard.name), self.longest_s, options.vad):
                    if not pending or pending[-1] is not heard:
                        pending.append(heard)
                    waiting.append((heard, chunk))
                    if len(waiting) >= WINDOW_BATCHES * options.batch_size:
                        self._pass(waiting, options)
                        waiting = []
                        yield from self._done(pending, bar)
            except BoliError as error:
                waiting = [(owner, chunk) for owner, chunk in waiting if owner is not heard]
                if on_error == "raise":
                    self._pass(waiting, options)
                    yield from self._done(pending, bar)
                    raise
                heard.error = error
            if not pending or pending[-1] is not heard:
                pending.append(heard)
            heard.complete = True
        self._pass(waiting, options)
        yield from self._done(pending, bar)
        if bar is not None:
            bar.close()

    def _done(self, pending: "deque[_Heard]", bar) -> "Iterator[Transcript | BoliError]":
        """Give out, in order, the recordings that are read to their end; all their chunks have been passed."""
        languages = () if self.classifier is None else self.classifier.languages
        while pending and pending[0].complete:
            heard = pending.popleft()
            if bar is not None:
                bar.update()
            yield heard.result(languages, self.base.frame_rate)

    def _blocks(self, item, rate, name: str) -> Iterator[np.ndarray]:
        if is_samples(item):
            sound = audio.from_array(item, rate, name)
            yield from (sound[start : start + BLOCK_SAMPLES] for start in range(0, len(sound), BLOCK_SAMPLES))
        else:
            yield from audio.stream(item, name=name)

    def _pass(self, waiting: "list[tuple[_Heard, Chunk]]", options: TranscribeOptions) -> None:
        """Pass every chunk, batched by like length; each goes back to its recording."""
        utterances = [Utterance(chunk.audio, heard.name) for heard, chunk in waiting]
        results: dict[int, list[Part]] = {}
        for group in self._batches(utterances, options):
            clock = Clock(self.base.device)
            start = time.perf_counter()
            previous = waiting[group[0]][0].text_before(CONTEXT_CHARACTERS) if options.carry_context else ""
            passed = run(
                self.base,
                self.bank,
                self.classifier,
                self.adapters,
                self.lowest_layers,
                [utterances[j] for j in group],
                options,
                clock,
                previous,
                self.smoothing,
                self.rescoring,
            )
            passed = [
                list(self._to_the_end(utterances[j], parts, options, clock, previous))
                for j, parts in zip(group, passed, strict=True)
            ]
            clock.seconds["total"] = time.perf_counter() - start
            for j, result in zip(group, passed, strict=True):
                results[j] = result
                waiting[j][0].spend(clock.seconds, 1 / len(group))
                if options.carry_context:
                    waiting[j][0].add(waiting[j][1], result)
        if not options.carry_context:
            for j, (heard, chunk) in enumerate(waiting):
                heard.add(chunk, results[j])

    def _to_the_end(
        self, utterance: Utterance, parts: list[Part], options: TranscribeOptions, clock: Clock, previous: str
    ) -> Iterator[Part]:
        """Parts in which the model stopped early, as it says itself, are gone on with from there, until all is written."""
        waiting = deque(parts)
        while waiting:
            part = waiting.popleft()
            at = part.passed.hypothesis.goes_on_s
            if at is None or at < LEAST_S or part.end_s - part.start_s - at < LEAST_S:
                yield part
                continue
            begin = part.start_s + at
            yield replace(part, end_s=begin)
            rest = Utterance(
                utterance.audio[round(begin * SAMPLE_RATE) : round(part.end_s * SAMPLE_RATE)], utterance.id
            )
            (more,) = run(
                self.base, self.bank, self.classifier, self.adapters, self.lowest_layers, [rest], options, clock,
                previous, self.smoothing, self.rescoring,
            )  # fmt: skip
            waiting.extendleft(
                replace(
                    each,
                    start_s=begin + each.start_s,
                    end_s=begin + each.end_s,
                    passed=replace(each.passed, frames=None),  # these frames have been given already
                )
                for each in reversed(more)
            )

    def _batches(self, utterances: list[Utterance], options: TranscribeOptions) -> Iterator[list[int]]:
        """Positions of utterances that are worth decoding together, at most `batch_size`; one by one in order where each
        needs the text before it."""
        if options.carry_context:
            yield from ([j] for j in range(len(utterances)))
            return
        frames = [round(self.base.grid_s(utterance) * self.base.frame_rate) for utterance in utterances]
        yield from together(frames, options.batch_size, self.base.spare_frames)


class _Heard:
    """One input on its way to a Transcript."""

    def __init__(self, name: str):
        self.name = name
        self.recording: Recording | None = None
        self.parts: list[Part] = []
        self.timings: dict[str, float] = {"decode_audio": 0.0}
        self.error: BoliError | None = None
        self.complete = False

    def read(self, blocks: Iterator[np.ndarray], longest_s: float, vad: str) -> Iterator[Chunk]:
        """Its chunks; the time that reading and cutting took is kept."""
        self.recording = Recording(blocks, longest_s, lambda: voice_activity(vad))
        chunks = self.recording.chunks()
        while True:
            start = time.perf_counter()
            chunk = next(chunks, None)
            self.spend({"decode_audio": time.perf_counter() - start, "total": time.perf_counter() - start}, 1.0)
            if chunk is None:
                return
            yield chunk

    def spend(self, seconds: dict[str, float], share: float) -> None:
        for stage, s in seconds.items():
            self.timings[stage] = self.timings.get(stage, 0.0) + s * share

    def add(self, chunk: Chunk, parts: list[Part]) -> None:
        at = chunk.start_s
        self.parts += [replace(part, start_s=at + part.start_s, end_s=at + part.end_s) for part in parts]

    def text_before(self, characters: int) -> str:
        return " ".join(part.passed.hypothesis.text for part in self.parts[-3:])[-characters:]

    def result(self, languages: tuple[str, ...], frame_rate: float) -> "Transcript | BoliError":
        """languages, frame_rate: of the classifier's frames."""
        if self.error is not None:
            return self.error
        assert self.recording is not None  # it was read
        return assemble(self.name, self.recording.duration_s, self.parts, self.timings, languages, frame_rate)


def _bar(inputs: Iterable[Any]):
    from tqdm import tqdm

    return tqdm(total=len(inputs) if isinstance(inputs, Sized) else None, unit="recording", smoothing=0.1)


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
