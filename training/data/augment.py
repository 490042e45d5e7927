"""Augmentation of a whole batch at once, on the device the batch lies on.

Waveforms: speed, reverberation, channel (band limits, spectral tilt, slow ripple), noise, codec, level. Features:
SpecAugment. The channel matters here: within one corpus the long-term spectrum alone tells languages apart (facts.md),
so a language classifier that never sees other channels learns the microphone.

Every random number of a clip follows from (seed, epoch, clip), not from the batch it happens to be in: a resumed run,
another batch size and another device hear the same clip.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from training.data.levels import PEAK_LIMIT
from zoo.errors import RecipeError
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

NOISE_BANK_S = 20.0
MU = 255.0
NOISE_COLOURS = 4  # amplitude falls as f^0, f^-0.5 (pink), f^-1 (brown), f^-1.5
MARGIN = 800  # samples of silence between a clip and its own start, where a spectrum wraps round


@dataclass(frozen=True)
class AugmentOptions:
    """How likely each change is, and how strong. Probabilities are per clip."""

    speed: float = 0.5
    """Probability of playing faster or slower (pitch moves too; Ko et al. 2015)."""
    speed_range: tuple[float, float] = (0.9, 1.1)
    reverberation: float = 0.3
    reverberation_s: tuple[float, float] = (0.1, 0.6)
    """Time until the echo has fallen by 60 dB."""
    channel: float = 0.5
    """Probability of a random channel: band limits, tilt and ripple."""
    low_hz: tuple[float, float] = (20.0, 300.0)
    """Lower edge of the band."""
    high_hz: tuple[float, float] = (3000.0, 7900.0)
    """Upper edge of the band; 3,400 is a telephone."""
    tilt_db: float = 3.0
    """Largest tilt, dB per octave either way, around 1 kHz."""
    ripple_db: float = 4.0
    """Largest slow ripple of the frequency response."""
    noise: float = 0.5
    noise_db: tuple[float, float] = (5.0, 30.0)
    """Speech to noise ratio."""
    codec: float = 0.2
    """Probability of codec-like damage: 8-bit mu-law, or weak spectral detail removed as MP3 does."""
    level: float = 0.5
    level_db: tuple[float, float] = (-15.0, 5.0)
    """Gain; what exceeds full scale is clipped, as a recorder does."""
    time_masks: int = 2
    time_mask: float = 0.05
    """Longest time mask, as a share of the clip's own frames."""
    frequency_masks: int = 2
    frequency_mask: int = 15
    """Widest frequency mask, in mel bands."""
    seed: int = 0

    def __post_init__(self):
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in ("speed", "reverberation", "channel", "noise", "codec", "level", "time_mask"):
                if not 0 <= value <= 1:
                    raise RecipeError(f"Option augment.{option.name} is {value}", valid="a probability, 0 to 1")
            elif isinstance(value, list | tuple) and (len(value) != 2 or value[0] > value[1]):
                raise RecipeError(f"Option augment.{option.name} is {value}", valid="two numbers, the lower one first")
        if not 0.5 <= self.speed_range[0] <= self.speed_range[1] <= 2:
            raise RecipeError(f"Option augment.speed_range is {self.speed_range}", valid="within 0.5 to 2")


@dataclass
class Draws:
    """The random numbers of a batch, on the CPU; float64 `[B]` each unless said otherwise. 0 where a change is off."""

    speed: np.ndarray
    reverberation_s: np.ndarray
    reverberation_wet: np.ndarray
    channel: np.ndarray
    low_hz: np.ndarray
    high_hz: np.ndarray
    tilt_db: np.ndarray
    ripple: np.ndarray
    """`[B, 3]`: depth in dB, cycles per octave, phase."""
    noise_db: np.ndarray
    noise_colour: np.ndarray
    codec: np.ndarray
    """0 none, 1 mu-law, 2 spectral."""
    gain_db: np.ndarray
    offset: np.ndarray
    """int64 `[B, 2]`: where in the noise bank noise and echo start."""
    noise: np.ndarray
    """bool `[B]`"""


def draw(clips: Sequence[int], options: AugmentOptions, epoch: int = 0) -> Draws:
    """Random numbers for the clips with these indices in the data set."""
    rows = []
    for clip in clips:
        random = np.random.default_rng([options.seed, epoch, int(clip)])
        on = random.random(6) < (
            options.speed, options.reverberation, options.channel, options.noise, options.codec, options.level,
        )  # fmt: skip
        spread = random.random(12)

        def between(bounds: Sequence[float], which: int, log: bool = False, spread=spread) -> float:
            low, high = bounds
            return low * (high / low) ** spread[which] if log else low + (high - low) * spread[which]

        rows.append((
            between(options.speed_range, 0) if on[0] else 1.0,
            between(options.reverberation_s, 1) if on[1] else 0.0,
            between((0.1, 0.6), 2) if on[1] else 0.0,
            float(on[2]),
            between(options.low_hz, 3, log=True),
            between(options.high_hz, 4, log=True),
            between((-options.tilt_db, options.tilt_db), 5),
            (between((0, options.ripple_db), 6), between((0.2, 1.0), 7), between((0, 2 * math.pi), 8)),
            between(options.noise_db, 9),
            int(spread[10] * NOISE_COLOURS),
            (1 + int(spread[11] * 2)) if on[4] else 0,
            random.uniform(*options.level_db) if on[5] else 0.0,
            random.integers(0, round(NOISE_BANK_S * SAMPLE_RATE), 2),
            bool(on[3]),
        ))  # fmt: skip
    return Draws(*(np.array(column) for column in zip(*rows, strict=True)))


class Augmenter:
    """Changes batches of waveforms. Holds a bank of noises on the device of the first batch."""

    def __init__(self, options: AugmentOptions = AugmentOptions()):
        self.options = options
        self._bank: torch.Tensor | None = None

    def __call__(
        self, audio: "torch.Tensor", lengths: "torch.Tensor", clips: Sequence[int], epoch: int = 0
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Changed audio float32 `[B, n']` and lengths int64 `[B]`; `n'` differs from n where speed was changed.

        audio: float32 `[B, n]`, 16 kHz, zeros after each clip's length. lengths: int64 `[B]` samples.
        clips: index of each clip in the data set.
        """
        import torch

        draws = draw(clips, self.options, epoch)
        audio = audio.to(torch.float32)
        with torch.no_grad():
            if (draws.speed != 1).any():
                audio, lengths = resampled(audio, lengths, draws.speed)
            real = torch.arange(audio.shape[1], device=audio.device)[None] < lengths[:, None]
            level = _rms(audio, lengths)
            if (draws.reverberation_s > 0).any():
                audio = self._reverberate(audio, draws)
            if draws.channel.any():
                audio = _filtered(audio, draws)
            # echo and channel change colour, not loudness: that is `level`'s part
            audio = audio * real
            audio = audio * (level / _rms(audio, lengths))[:, None]
            if draws.noise.any():
                audio = audio + self._noise(audio, lengths, draws)
            if draws.codec.any():
                audio = _codec(audio, draws)
            gain = 10 ** (_on(draws.gain_db, audio) / 20)
            # only `level` may clip; anything else that grew too loud is turned down
            peak = audio.abs().amax(dim=1).clamp_min(1e-9)
            gain = torch.where(_on(draws.gain_db > 0, audio).bool(), gain, gain.minimum(PEAK_LIMIT / peak))
            audio = (audio * gain[:, None]).clamp(-1.0, 1.0) * real
        return audio, lengths

    def bank(self, like: "torch.Tensor") -> "torch.Tensor":
        """float32 `[4, 320000]` noises with spectra f^0, f^-0.5, f^-1, f^-1.5 in amplitude, RMS 1."""
        import torch

        if self._bank is None or self._bank.device != like.device:
            n = round(NOISE_BANK_S * SAMPLE_RATE)
            white = np.random.default_rng([self.options.seed, 77]).standard_normal((NOISE_COLOURS, n))
            spectrum = np.fft.rfft(white)
            frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 40.0)
            spectrum *= frequency[None] ** (-0.5 * np.arange(NOISE_COLOURS)[:, None])
            noise = np.fft.irfft(spectrum, n)
            noise /= np.sqrt(np.mean(noise**2, axis=1, keepdims=True))
            self._bank = torch.from_numpy(noise.astype(np.float32)).to(like.device)
        return self._bank

    def _from_bank(self, rows: "torch.Tensor", starts: "torch.Tensor", n: int, like: "torch.Tensor") -> "torch.Tensor":
        import torch

        bank = self.bank(like)
        positions = (starts[:, None] + torch.arange(n, device=like.device)[None]) % bank.shape[1]
        return bank[rows[:, None], positions]

    def _noise(self, audio, lengths, draws: Draws):
        """Noise `[B, n]` at the drawn ratio below the clip's RMS; zeros where none was drawn."""
        rows, starts = _on(draws.noise_colour, audio).long(), _on(draws.offset[:, 0], audio).long()
        noise = self._from_bank(rows, starts, audio.shape[1], audio)
        wanted = _rms(audio, lengths) * 10 ** (-_on(draws.noise_db, audio) / 20)
        return noise * (wanted / _rms(noise, lengths) * _on(draws.noise, audio))[:, None]

    def _reverberate(self, audio, draws: Draws):
        """Convolution with an exponentially decaying noise behind the direct sound (Polack's model)."""
        import torch

        n = round(self.options.reverberation_s[1] * SAMPLE_RATE)
        time = torch.arange(n, device=audio.device) / SAMPLE_RATE
        seconds = _on(draws.reverberation_s, audio).clamp_min(1e-3)
        decay = 10 ** (-3.0 * time[None] / seconds[:, None])  # -60 dB at `seconds`
        starts = _on(draws.offset[:, 1], audio).long()
        echo = self._from_bank(torch.zeros_like(starts), starts, n, audio) * decay
        echo = echo / echo.square().sum(dim=1, keepdim=True).sqrt() * _on(draws.reverberation_wet, audio)[:, None]
        echo[:, 0] = 1.0
        size = 1 << (audio.shape[1] + n - 1).bit_length()
        wet = torch.fft.irfft(torch.fft.rfft(audio, size) * torch.fft.rfft(echo, size), size)
        return wet[:, : audio.shape[1]]


def resampled(audio: "torch.Tensor", lengths: "torch.Tensor", speed: np.ndarray):
    """Each clip played at its own speed: `[B, n]` -> `[B, n']`. Speeds are rounded to a hundredth.

    By cutting or padding the spectrum, which is exact below the lower of the two Nyquist frequencies: a clip of
    q * m samples becomes one of 100 * m for a speed of q / 100, m chosen so that both transforms are fast.
    """
    import torch
    from scipy.fft import next_fast_len

    hundredths = np.round(np.asarray(speed) * 100).astype(int)
    q = torch.as_tensor(hundredths, device=lengths.device)
    new_lengths = ((lengths * 100 + q - 1) // q).clamp_min(1)
    out = torch.zeros(audio.shape[0], int(new_lengths.max()), device=audio.device)
    for row, (step, length) in enumerate(zip(hundredths.tolist(), lengths.tolist(), strict=True)):
        new_length = -(-length * 100 // step)
        if step == 100:
            out[row, :length] = audio[row, :length]
            continue
        m = next_fast_len(-(-(length + MARGIN) // step), real=True)
        spectrum = torch.fft.rfft(audio[row, :length], step * m)[: 100 * m // 2 + 1]
        out[row, :new_length] = torch.fft.irfft(spectrum, 100 * m)[:new_length] * (100 / step)
    return out, new_lengths


def _filtered(audio, draws: Draws):
    """One frequency response per clip: band limits (24 dB/octave), tilt around 1 kHz, and a slow ripple."""
    import torch

    n = audio.shape[1]
    frequency = torch.fft.rfftfreq(n + SAMPLE_RATE // 4, 1 / SAMPLE_RATE).to(audio.device).clamp_min(1.0)
    octave = torch.log2(frequency / 1000.0)[None]
    low, high = _on(draws.low_hz, audio)[:, None], _on(draws.high_hz, audio)[:, None]
    ripple = _on(draws.ripple, audio)
    gain_db = _on(draws.tilt_db, audio)[:, None] * octave.clamp(-4, 3)
    gain_db = gain_db + ripple[:, :1] * torch.sin(2 * math.pi * ripple[:, 1:2] * octave + ripple[:, 2:])
    gain_db = (
        gain_db
        - 10 * torch.log10(1 + (low / frequency[None]) ** 8)
        - 10 * torch.log10(1 + (frequency[None] / high) ** 8)
    )
    response = 10 ** (gain_db * _on(draws.channel, audio)[:, None] / 20)
    size = n + SAMPLE_RATE // 4  # room for the filter's tails, which would wrap round
    return torch.fft.irfft(torch.fft.rfft(audio, size) * response, size)[:, :n]


def _codec(audio, draws: Draws):
    """8-bit mu-law (G.711) where 1 was drawn, an MP3-like loss of weak spectral detail where 2 was."""
    import torch

    audio = audio.clone()
    for kind, damaged in ((1, _mu_law), (2, _spectral)):
        rows = torch.as_tensor(np.flatnonzero(draws.codec == kind), device=audio.device)
        if len(rows):
            audio[rows] = damaged(audio[rows])
    return audio


def _mu_law(audio):
    import torch

    peak = audio.abs().amax(dim=1, keepdim=True).clamp_min(1e-6)
    scaled = audio / peak
    companded = scaled.sign() * torch.log1p(MU * scaled.abs()) / math.log1p(MU)
    steps = torch.round(companded * 127) / 127
    return steps.sign() * torch.expm1(steps.abs() * math.log1p(MU)) / MU * peak


def _spectral(audio):
    """What lies 30 dB below the strongest of its neighbourhood is not sent; the rest in steps of 2 dB."""
    import torch

    window = torch.hann_window(512, device=audio.device)
    spectrum = torch.stft(audio, 512, 256, window=window, return_complex=True)
    magnitude = spectrum.abs()
    loudest = torch.nn.functional.max_pool1d(magnitude.transpose(1, 2), 31, 1, 15).transpose(1, 2)
    level = torch.log(magnitude.clamp_min(1e-9))
    gain = torch.exp(torch.round(level / 0.23) * 0.23 - level) * (magnitude > loudest * 0.03)
    return torch.istft(spectrum * gain, 512, 256, window=window, length=audio.shape[1])


def spec_augment(
    features: "torch.Tensor", lengths: "torch.Tensor", clips: Sequence[int], options: AugmentOptions, epoch: int = 0
) -> "torch.Tensor":
    """Time and frequency masks (Park et al. 2019) filled with the clip's mean, in real frames only.

    features: float `[B, bands, frames]`; lengths: int64 `[B]` real frames.
    """
    import torch

    batch, bands, frames = features.shape
    starts = np.zeros((batch, options.time_masks + options.frequency_masks, 2))
    for row, clip in enumerate(clips):
        random = np.random.default_rng([options.seed, epoch, int(clip), 3])
        starts[row] = random.random(starts.shape[1:])
    spread = _on(starts, features)
    real = lengths.to(features.device, torch.float32)[:, None]
    time = torch.arange(frames, device=features.device)[None, None]
    width = (spread[:, : options.time_masks, 0] * (options.time_mask * real)).floor()
    start = (spread[:, : options.time_masks, 1] * (real - width)).floor()
    masked = ((time >= start[..., None]) & (time < (start + width)[..., None])).any(dim=1)[:, None, :]
    band = torch.arange(bands, device=features.device)[None, None]
    width = (spread[:, options.time_masks :, 0] * (options.frequency_mask + 1)).floor()
    start = (spread[:, options.time_masks :, 1] * (bands - width)).floor()
    masked = masked | ((band >= start[..., None]) & (band < (start + width)[..., None])).any(dim=1)[:, :, None]
    inside = time[:, 0][:, None, :] < real[:, :, None]
    mean = (features * inside).sum(dim=(1, 2), keepdim=True) / (real[:, :, None] * bands).clamp_min(1)
    return torch.where(masked & inside, mean.to(features.dtype), features)


def _on(values: np.ndarray, like: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.as_tensor(np.asarray(values, dtype=np.float32)).to(like.device)


def _rms(audio: "torch.Tensor", lengths: "torch.Tensor") -> "torch.Tensor":
    """`[B]` root mean square over the real samples (zeros after them)."""
    import torch

    real = torch.arange(audio.shape[1], device=audio.device)[None] < lengths[:, None]
    return ((audio * real).square().sum(dim=1) / lengths.clamp_min(1)).sqrt().clamp_min(1e-7)
