"""Pieces of speech to build code-switched clips from: whole clips, and stretches cut out of longer ones.

A piece starts and ends with speech (20 ms margin), so that a segment's times are those of its speech. Words are known
where the whole clip is used, or where the manifest gives word times (`words: [{"start", "end", "text"}]`); a stretch
cut at a pause has `text=None`: its times and language are exact, its words are not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data.levels import FRAME_SAMPLES, active, at_level, frame_levels, speech_bounds
from training.data.manifest import Record
from zoo.speech import SAMPLE_RATE

MARGIN_S = 0.02
SHORTEST_S = 0.25  # below this nothing can be heard
LEVEL_DB = -26.0  # of every piece: no piece may be told by its loudness
BANDS = 24
CORRECTION_DB = 12.0  # most a band is moved to match the channel
CHANNEL_CLIPS = 12  # clips that a voice's spectrum is measured on


@dataclass(frozen=True)
class Piece:
    """Speech of one person in one language."""

    audio: np.ndarray
    """float32 `[n]`, speech at -26 dB relative to full scale."""
    text: str | None
    """None where the words are not known."""
    record: Record

    @property
    def seconds(self) -> float:
        return len(self.audio) / SAMPLE_RATE


def pieces(record: Record, audio: np.ndarray, longest_s: float) -> list[Piece]:
    """All pieces of a clip that last at most `longest_s`, those with known words first.

    audio: float32 `[n]`, the clip. Empty where nothing fits.
    """
    start, stop = speech_bounds(audio, MARGIN_S)
    if not len(audio) or stop - start < SHORTEST_S * SAMPLE_RATE:
        return []
    if stop - start <= longest_s * SAMPLE_RATE:
        return [Piece(at_level(audio[start:stop], LEVEL_DB), record.text, record)]
    words = record.extra.get("words")
    if words:
        return [
            Piece(at_level(audio[a:b], LEVEL_DB), text, record)
            for a, b, text in _by_words(words, longest_s, len(audio))
        ]
    return [Piece(at_level(audio[a:b], LEVEL_DB), None, record) for a, b in _by_pauses(audio, longest_s)]


def _by_words(words: Sequence[dict], longest_s: float, n: int) -> list[tuple[int, int, str]]:
    """Runs of whole words, as long as fits."""
    runs: list[list[dict]] = []
    for word in words:
        if runs and word["end"] - runs[-1][0]["start"] <= longest_s - 2 * MARGIN_S:
            runs[-1].append(word)
        elif word["end"] - word["start"] <= longest_s - 2 * MARGIN_S:
            runs.append([word])
    found = []
    for run in runs:
        start, stop = max(0.0, run[0]["start"] - MARGIN_S), min(n / SAMPLE_RATE, run[-1]["end"] + MARGIN_S)
        if stop - start >= SHORTEST_S:
            text = " ".join(word["text"] for word in run)
            found.append((round(start * SAMPLE_RATE), round(stop * SAMPLE_RATE), text))
    return found


def _by_pauses(audio: np.ndarray, longest_s: float) -> list[tuple[int, int]]:
    """Stretches between pauses of 60 ms or more, joined as long as they fit; longer ones are cut at their quietest."""
    levels = frame_levels(audio)
    speech = active(levels, below_peak_db=25.0)
    most, least_pause = int(longest_s * SAMPLE_RATE / FRAME_SAMPLES) - 2, 3
    stretches: list[list[int]] = []
    for frame in np.flatnonzero(speech).tolist():
        if stretches and frame - stretches[-1][1] < least_pause:
            stretches[-1][1] = frame + 1
        else:
            stretches.append([frame, frame + 1])
    cut: list[list[int]] = []
    for start, stop in stretches:
        while stop - start > most:
            window = levels[start + most // 2 : start + most]
            at = start + most // 2 + int(np.argmin(window)) + 1
            cut.append([start, at])
            start = at
        cut.append([start, stop])
    joined: list[list[int]] = []
    for start, stop in cut:
        if joined and stop - joined[-1][0] <= most:
            joined[-1][1] = stop
        else:
            joined.append([start, stop])
    bounds = [(max(0, (a - 1) * FRAME_SAMPLES), min(len(audio), (b + 1) * FRAME_SAMPLES)) for a, b in joined]
    return [(a, b) for a, b in bounds if b - a >= SHORTEST_S * SAMPLE_RATE]


def spectrum_db(audio: np.ndarray) -> np.ndarray:
    """Long-term spectrum of the speech in 24 bands evenly spaced on the mel scale, dB; float64 `[24]`.

    audio: float32 `[n]`.
    """
    size = 512
    if len(audio) < size:
        audio = np.pad(audio, (0, size - len(audio)))
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    loud = power.sum(axis=1)
    mean = power[loud >= np.percentile(loud, 50)].mean(axis=0)
    centres = np.concatenate([[0.0], band_centres(), [SAMPLE_RATE / 2]])
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    bands = [
        mean[(frequency >= (low + centre) / 2) & (frequency <= (centre + high) / 2)]
        for low, centre, high in zip(centres[:-2], centres[1:-1], centres[2:], strict=True)
    ]
    return 10 * np.log10(np.array([max(float(band.mean()) if len(band) else 0.0, 1e-12) for band in bands]))


def band_centres() -> np.ndarray:
    """Hz of the middle of each band; `[24]`."""
    mel = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + 7600 / 700), BANDS)
    return 700 * (10 ** (mel / 2595) - 1)


def with_spectrum(audio: np.ndarray, now_db: np.ndarray, wanted_db: np.ndarray) -> np.ndarray:
    """The audio filtered so that a channel with spectrum `now_db` gets `wanted_db`, at most 12 dB a band."""
    change = wanted_db - now_db
    change = np.clip(change - np.median(change), -CORRECTION_DB, CORRECTION_DB)
    size = len(audio) + 1024
    frequency = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    gain = 10 ** (np.interp(frequency, band_centres(), change) / 20)
    return np.fft.irfft(np.fft.rfft(audio, size) * gain, size)[: len(audio)].astype(np.float32)
