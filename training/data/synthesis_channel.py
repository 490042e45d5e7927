"""Rooms, noises, microphones and codecs, drawn alike for every language.

The long-term spectrum alone tells the languages of small corpora apart, because each was recorded its own way. So
every clip, whatever its language and source, passes through a channel drawn from one distribution: a room, a spectral
tilt with a few bumps, a band limit, a noise, a codec, a level. Room and filter are one product in the frequency domain;
noises and room responses come from a bank made once per process. About 3 ms for a clip of 3 s.
"""

import io
from collections import deque
from dataclasses import dataclass

import numpy as np
import soundfile
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import decimate, resample_poly

from zoo.speech import SAMPLE_RATE

N_ROOMS = 48
NOISE_S = 12  # seconds of each noise in the bank
COLOURS = {"white": 0.0, "pink": -0.5, "brown": -1.0, "blue": 0.4}  # exponent of the amplitude spectrum


@dataclass(frozen=True)
class ChannelOptions:
    """How often each part of a channel is drawn. Each field's text serves as the help of the option of its name."""

    room: float = 0.4
    """Share of clips in a room (reverberation time 0.1 to 0.6 s)."""
    filter: float = 0.7
    """Share of clips through a spectral tilt with bumps."""
    band: float = 0.3
    """Share of clips with a narrowed band (telephone and the like)."""
    noise: float = 0.7
    """Share of clips with noise (5 to 40 dB below the speech)."""
    codec: float = 0.2
    """Share of clips through a codec (mu-law, A-law, GSM, Opus, Vorbis, MP3)."""


class Channels:
    """The bank of rooms and noises of one process, and the clips heard lately, which make the babble."""

    def __init__(self, seed: int, options: ChannelOptions = ChannelOptions()):
        rng = np.random.default_rng(seed)
        self.options = options
        self._rooms = [_room(rng) for _ in range(N_ROOMS)]
        self._noises = [_coloured(rng, NOISE_S * SAMPLE_RATE, exponent) for exponent in COLOURS.values()]
        self._noises.append(_hum(rng, NOISE_S * SAMPLE_RATE))
        self._lately: deque[np.ndarray] = deque(maxlen=12)

    def apply(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 `[n]` at 16 kHz to float32 `[n]`, the same length and timing."""
        options, n = self.options, len(samples)
        self._lately.append(samples)
        samples = self._colour(samples, rng)
        if rng.random() < options.noise:
            samples = samples + self._noise(n, rng) * (_rms(samples) * 10 ** (-rng.uniform(5, 40) / 20))
        peak = float(np.abs(samples).max())
        level = 10 ** (rng.uniform(-34, -14) / 20)
        samples = samples * min(level / max(_rms(samples), 1e-6), 0.99 / max(peak, 1e-6))
        if rng.random() < options.codec:
            samples = codec(samples, rng)
        return samples.astype(np.float32)

    def _colour(self, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Room, tilt, bumps and band limit in one multiplication of spectra."""
        options, n = self.options, len(samples)
        in_room, filtered, banded = rng.random(3) < (options.room, options.filter, options.band)
        if not (in_room or filtered or banded):
            return samples
        room = self._rooms[rng.integers(N_ROOMS)] if in_room else None
        size = next_fast_len(n + (len(room) if room is not None else 1024), real=True)
        spectrum = rfft(samples, size)
        if room is not None:
            spectrum *= rfft(room, size)
        if filtered or banded:
            spectrum *= _response(np.arange(len(spectrum)) * (SAMPLE_RATE / size), rng, filtered, banded)
        return irfft(spectrum, size)[:n].astype(np.float32)

    def _noise(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`[n]` samples of unit rms: one of the bank's noises, or babble of the clips heard lately."""
        if len(self._lately) > 4 and rng.random() < 0.3:
            noise: np.ndarray = np.zeros(n, np.float32)
            for index in rng.choice(len(self._lately) - 1, size=min(3, len(self._lately) - 1), replace=False):
                noise += np.resize(np.roll(self._lately[index], rng.integers(8000)), n)
        else:
            bank = self._noises[rng.integers(len(self._noises))]
            start = rng.integers(len(bank))
            noise = np.take(bank, range(start, start + n), mode="wrap")
        return noise / max(_rms(noise), 1e-6)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0


def _room(rng: np.random.Generator) -> np.ndarray:
    """A direct path, a few early echoes and an exponentially decaying tail, `[up to 0.4 s]`."""
    decay_s = rng.uniform(0.1, 0.6)  # time to fall by 60 dB
    n = int(min(decay_s, 0.4) * SAMPLE_RATE)
    time = np.arange(n) / SAMPLE_RATE
    tail = rng.standard_normal(n) * 10 ** (-3 * time / decay_s)
    tail[: int(0.002 * SAMPLE_RATE)] = 0
    for _ in range(rng.integers(2, 7)):
        tail[rng.integers(30, min(n, 600))] += rng.uniform(-4, 4)
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / np.sqrt(np.sum(tail**2))  # direct-to-reverberant ratio 0 to 12 dB
    tail[0] = 1.0
    return tail.astype(np.float32)


def _coloured(rng: np.random.Generator, n: int, exponent: float) -> np.ndarray:
    spectrum = rfft(rng.standard_normal(n))
    frequency = np.maximum(np.arange(len(spectrum)) * SAMPLE_RATE / n, 40.0)
    noise = irfft(spectrum * frequency**exponent, n)
    return (noise / _rms(noise)).astype(np.float32)


def _hum(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mains hum with harmonics over a low hiss."""
    time = np.arange(n) / SAMPLE_RATE
    hum = sum(rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * 50 * k * time + rng.uniform(0, 6)) for k in range(1, 12))
    hum = hum + 0.3 * _coloured(rng, n, -0.5)
    return (hum / _rms(hum)).astype(np.float32)


def _response(frequency: np.ndarray, rng: np.random.Generator, filtered: bool, banded: bool) -> np.ndarray:
    """Amplitude response `[bins]` at `frequency` in Hz."""
    octaves = np.log2(np.maximum(frequency, 50.0) / 1000.0)
    gain_db = np.zeros(len(frequency))
    if filtered:
        gain_db += rng.uniform(-4, 4) * octaves
        for _ in range(rng.integers(1, 4)):
            gain_db += rng.uniform(-9, 9) * np.exp(
                -0.5 * ((octaves - rng.uniform(-2.5, 2.8)) / rng.uniform(0.2, 0.7)) ** 2
            )
    if banded:
        low, high = rng.choice((0, 80, 200, 300)), rng.choice((3400, 3800, 5000, 6500))
        gain_db -= 60 * np.clip((frequency - high) / (0.12 * high), 0, 1)
        if low:
            gain_db -= 40 * np.clip((low - frequency) / (0.5 * low), 0, 1)
    return 10 ** (np.clip(gain_db, -70, 24) / 20)


def codec(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Encode and decode float32 `[n]`; the result has the same length and no added delay."""
    n = len(samples)
    kind = rng.choice(("ulaw", "alaw", "gsm", "opus", "opus", "vorbis", "mp3"))
    if kind in ("ulaw", "alaw", "gsm"):
        narrow = decimate(samples, 2, ftype="fir") if n > 80 else samples[::2]
        form, subtype = ("WAV", "GSM610") if kind == "gsm" else ("AU", kind.upper())
        decoded = _through(narrow, SAMPLE_RATE // 2, form, subtype)
        decoded = resample_poly(decoded, 2, 1)
    else:
        # Vorbis refuses a level that is 1 but for rounding.
        form, subtype = {"opus": ("OGG", "OPUS"), "vorbis": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III")}[kind]
        decoded = _through(samples, SAMPLE_RATE, form, subtype, compression=min(0.99, float(rng.uniform(0.6, 1.0))))
        if kind == "mp3":
            decoded = _align(decoded, samples)
    decoded = decoded[:n]
    return np.pad(decoded, (0, n - len(decoded))).astype(np.float32)


def _through(samples: np.ndarray, rate: int, form: str, subtype: str, **options) -> np.ndarray:
    buffer = io.BytesIO()
    if options:
        options["compression_level"] = options.pop("compression")
    soundfile.write(buffer, np.clip(samples, -1, 1), rate, format=form, subtype=subtype, **options)
    buffer.seek(0)
    decoded, got = soundfile.read(buffer, dtype="float32")
    return decoded if got == rate else resample_poly(decoded, rate, got).astype(np.float32)


def _align(decoded: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Take the encoder's delay (up to 2500 samples) off again, found by cross-correlation."""
    size = next_fast_len(len(decoded) + len(samples), real=True)
    correlation = irfft(rfft(decoded, size) * np.conj(rfft(samples, size)), size)[:2500]
    return decoded[int(np.argmax(correlation)) :]
