"""Cuts recordings into chunks that one pass of the base model can take.

A recording that fits is one chunk. A longer one is read block by block and cut in its pauses, so memory stays that of a
few blocks. No speech is dropped: the only samples left out lie inside stretches of at least 3 s that the voice activity
detector holds for silence *and* that are quiet (below -45 dBFS); half a second of them stays at each end.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from router.vad import WINDOW_SAMPLES, VoiceActivity, loudness_db
from zoo.speech import SAMPLE_RATE

SILENCE_PEAK = 1e-4  # a recording that never exceeds this (-80 dBFS) holds nothing to hear
SPEECH = 0.1  # a window above this probability of speech is never silence
QUIET_DB = -45.0
SMOOTHED = 5  # windows (160 ms) that a pause is looked at over
LATENESS = 0.3  # what a cut at the very beginning of the range costs against one at its end


def windows_in(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / WINDOW_SAMPLES)


SILENCE = windows_in(3.0)  # shorter silence stays in its chunk
PAD = windows_in(0.5)  # silence kept before and after speech


@dataclass(frozen=True)
class Chunk:
    """A stretch of one recording: samples float32 `[n]` at 16 kHz, and where it starts, in seconds."""

    audio: np.ndarray
    start_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.audio) / SAMPLE_RATE


class Recording:
    """Cuts one recording while it is read; afterwards it knows how long it was.

    blocks: float32 `[n]` at 16 kHz; longest_s: what one pass can take; detector: makes a fresh detector.
    """

    def __init__(self, blocks: Iterable[np.ndarray], longest_s: float, detector: Callable[[], VoiceActivity]):
        self._blocks, self._detector = iter(blocks), detector
        self._limit = int(longest_s * SAMPLE_RATE)
        self.samples = 0
        """Read so far."""

    @property
    def duration_s(self) -> float:
        return self.samples / SAMPLE_RATE

    def chunks(self) -> Iterator[Chunk]:
        """In order; none where there is nothing but silence. The reader's errors (a file that breaks off) come out
        here."""
        held: list[np.ndarray] = []
        while self.samples <= self._limit and (block := self._read()) is not None:
            held.append(block)
        if not held:
            return
        audio = np.concatenate(held) if len(held) > 1 else held[0]
        if self.samples > self._limit:
            yield from self._cut(audio)
        elif not self._is_silent(audio):
            yield Chunk(audio, 0.0)

    def _read(self) -> np.ndarray | None:
        block = next(self._blocks, None)
        self.samples += 0 if block is None else len(block)
        return block

    def _is_silent(self, audio: np.ndarray) -> bool:
        if float(np.abs(audio).max()) < SILENCE_PEAK:
            return True
        windows = _framed(np.pad(audio, (0, -len(audio) % WINDOW_SAMPLES)))
        return bool((loudness_db(windows) < QUIET_DB).all() and (self._detector()(windows) < SPEECH).all())

    def _cut(self, buffer: np.ndarray) -> Iterator[Chunk]:
        """buffer: what was read so far, more than one pass can take."""
        detector = self._detector()
        longest = self._limit // WINDOW_SAMPLES
        speech, level = np.zeros(0), np.zeros(0)  # of each whole window in the buffer
        start, ended = 0, False  # start: position of the buffer in the recording, in samples
        while True:
            while not ended and len(buffer) <= self._limit:
                block = self._read()
                ended = block is None
                buffer = buffer if block is None else np.concatenate([buffer, block])
            fresh = _framed(buffer[len(speech) * WINDOW_SAMPLES :])
            speech = np.concatenate([speech, detector(fresh)])
            level = np.concatenate([level, loudness_db(fresh)])
            silent = (speech < SPEECH) & (level < QUIET_DB)
            lead = int(np.argmin(silent)) if not silent.all() else len(silent)
            if ended and lead == len(silent):  # only silence is left
                return
            if lead >= SILENCE - PAD:
                drop = (lead - PAD) * WINDOW_SAMPLES
            else:
                rest = ended and len(buffer) <= self._limit
                stop = _first_silence(silent[:longest], lead)
                if stop is None and not rest:
                    stop = _into_silence(_pause(speech[:longest], level[:longest]), silent[:longest])
                end = len(buffer) if stop is None else stop * WINDOW_SAMPLES
                yield Chunk(buffer[:end].copy(), start / SAMPLE_RATE)  # a copy: a view would hold the whole buffer
                drop = end
            buffer, start = buffer[drop:], start + drop
            speech, level = speech[drop // WINDOW_SAMPLES :], level[drop // WINDOW_SAMPLES :]


def _framed(audio: np.ndarray) -> np.ndarray:
    """`[n]` -> `[windows, 512]`; a last window that is not whole is left out."""
    return audio[: len(audio) // WINDOW_SAMPLES * WINDOW_SAMPLES].reshape(-1, WINDOW_SAMPLES)


def _first_silence(silent: np.ndarray, after: int) -> int | None:
    """Where the chunk ends before the first long silence behind `after`, half a second into it; None without one."""
    run = 0
    for i in range(after, len(silent)):
        run = run + 1 if silent[i] else 0
        if run >= SILENCE:
            return i + 1 - run + PAD
    return None


def _into_silence(stop: int, silent: np.ndarray) -> int:
    """A cut in silence moves half a second into it, where there is so much: what follows may be left out."""
    first = last = stop
    while first > 0 and silent[first - 1]:
        first -= 1
    while last < len(silent) and silent[last]:
        last += 1
    return max(stop, min(first + PAD, last))


def _pause(speech: np.ndarray, level: np.ndarray) -> int:
    """The best window to cut at: little speech, quiet, and rather late than early, never in the first third."""
    first = len(speech) // 3
    kernel = np.ones(SMOOTHED) / SMOOTHED
    loud = (level - level.min()) / max(float(np.ptp(level)), 1e-9)
    cost = np.convolve(speech + loud, kernel, mode="same")[first:]
    cost[-SMOOTHED // 2 :] = np.inf  # the convolution sees zeros behind the end
    cost = cost + LATENESS * np.linspace(1, 0, len(cost))
    return first + int(np.argmin(cost))
