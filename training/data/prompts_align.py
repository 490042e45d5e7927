"""Does a recording say its transcript? Asked of espeak-ng, without a recogniser.

Transcripts of prompt packages are lists made beside the recordings, not from them. espeak-ng reads the transcript and
some other transcripts of like length aloud, and dynamic time warping of mel-cepstra says which reading lies nearest to
the recording. A transcript is believed when its own reading wins.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.fft import dct, rfft

from training.data.synthesis import Espeak, Manner, Voice
from zoo.speech import SAMPLE_RATE

HOP, WINDOW, N_FFT = SAMPLE_RATE // 50, SAMPLE_RATE // 32, 512  # 20 ms, 31 ms
N_MELS, N_CEPSTRA = 24, 12
READERS = ("m3", "f2", "klatt2")
DECOYS = 8


def _mel_filters() -> np.ndarray:
    """`[N_MELS, N_FFT // 2 + 1]` triangles, 100 to 3800 Hz: what telephone prompts hold."""
    low, high = 2595 * np.log10(1 + np.array((100, 3800)) / 700)
    edges = 700 * (10 ** (np.linspace(low, high, N_MELS + 2) / 2595) - 1)
    bins = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall))


_FILTERS = _mel_filters()


def cepstra(samples: np.ndarray) -> np.ndarray:
    """float32 `[n]` at 16 kHz to `[frames, N_CEPSTRA]`, mean and variance over the clip taken out."""
    samples = np.pad(samples, (0, max(0, WINDOW + HOP - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(rfft(frames, N_FFT)) ** 2 @ _FILTERS.T
    floor = max(float(power.max()) * 1e-5, 1e-9)
    found = dct(np.log(np.maximum(power, floor)), norm="ortho")[:, 1 : N_CEPSTRA + 1]
    return (found - found.mean(0)) / (found.std(0) + 1e-3)


def warp_cost(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance along the best path through `[Ta, d]` and `[Tb, d]`; a step in a moves 0, 1 or 2 steps in b."""
    distance = np.sqrt(np.maximum(0, (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T))
    row = np.full(len(b), np.inf)
    row[0] = distance[0, 0]
    for step in distance[1:]:
        stay, one, two = row, np.roll(row, 1), np.roll(row, 2)
        one[:1], two[:2] = np.inf, np.inf
        row = step + np.minimum(np.minimum(stay, one), two)
    return float(row[-1]) / len(a)


def believed(espeak: Espeak, recordings: Sequence[np.ndarray], texts: Sequence[str], accent: str) -> list[bool]:
    """For every recording, whether its own text's reading is nearer than those of `DECOYS` texts of like length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    place = {index: rank for rank, index in enumerate(order)}
    readings: dict[tuple[str, str], np.ndarray] = {}

    def cost(heard: np.ndarray, text: str) -> float:
        best = np.inf
        for variant in READERS:
            if (text, variant) not in readings:
                spoken = espeak.speak(text, Voice(accent, variant, Fraction(8, 11), 50, 50), Manner(150, 0))
                readings[text, variant] = cepstra(spoken)
            reading = readings[text, variant]
            if 0.4 < len(heard) / len(reading) < 2.5:
                best = min(best, warp_cost(heard, reading), warp_cost(reading, heard))
        return best

    out = []
    for index, samples in enumerate(recordings):
        heard, rank = cepstra(samples), place[index]
        near = order[max(0, rank - DECOYS) : rank + DECOYS + 1]
        decoys = sorted({texts[i] for i in near} - {texts[index]})
        decoys.sort(key=lambda text: abs(len(text) - len(texts[index])))
        own = cost(heard, texts[index])
        out.append(np.isfinite(own) and all(own < cost(heard, text) for text in decoys[:DECOYS]))
    return out
