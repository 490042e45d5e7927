"""Cuts long audio into chunks that one pass of the base model can take, at its quietest points."""

from dataclasses import dataclass

import numpy as np

from zoo.speech import SAMPLE_RATE

FRAME_SAMPLES = 320  # 20 ms: the step at which loudness is looked at
SEARCH_S = 5.0  # a cut is sought this far back from the longest chunk


@dataclass(frozen=True)
class Chunk:
    """A stretch of one recording: samples, and where it starts, in seconds."""

    audio: np.ndarray
    start_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + len(self.audio) / SAMPLE_RATE


def cut(audio: np.ndarray, longest_s: float) -> list[Chunk]:
    """audio float32 `[n]` at 16 kHz -> chunks of at most `longest_s`; together they are the whole, nothing dropped."""
    longest = int(longest_s * SAMPLE_RATE)
    chunks, start = [], 0
    while len(audio) - start > longest:
        stop = start + longest
        first = max(start + FRAME_SAMPLES, stop - int(SEARCH_S * SAMPLE_RATE))
        frames = (stop - first) // FRAME_SAMPLES
        loudness = (audio[first : first + frames * FRAME_SAMPLES].reshape(frames, FRAME_SAMPLES) ** 2).mean(axis=1)
        quiet = np.convolve(loudness, np.ones(5) / 5, mode="same")
        at = first + int(np.argmin(quiet)) * FRAME_SAMPLES + FRAME_SAMPLES // 2
        chunks.append(Chunk(audio[start:at], start / SAMPLE_RATE))
        start = at
    chunks.append(Chunk(audio[start:], start / SAMPLE_RATE))
    return chunks
