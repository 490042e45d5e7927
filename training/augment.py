"""Augmentation of a whole batch on its device: rooms, channels, noise, level, and masks on the log-mel.

Everything is drawn from one generator, so equal seeds give equal batches. The channel (band, tilt, level) is varied on
purpose: corpora differ in it more than languages do, and a model must not learn to tell them apart by it.
Padding stays silent: what is behind a clip is zero when serving too.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from training.recipe import check
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

REVERB_S = 0.5  # longest room response kept, seconds
MU = 255.0  # of mu-law telephony (ITU-T G.711)


@dataclass(frozen=True)
class AugmentOptions:
    """How often and how strongly. Probabilities are per clip; pairs are [least, most], drawn evenly."""

    noise: float = 0.0
    """Probability of added noise, white to brown."""
    noise_snr_db: list[float] = field(default_factory=lambda: [5.0, 30.0])
    babble: float = 0.0
    """Probability of another clip of the batch in the background."""
    babble_snr_db: list[float] = field(default_factory=lambda: [10.0, 25.0])
    reverb: float = 0.0
    """Probability of a room: exponentially decaying noise (Polack's model)."""
    reverb_s: list[float] = field(default_factory=lambda: [0.1, 0.7])
    """Reverberation time (60 dB)."""
    channel: float = 0.0
    """Probability of a band limit and a spectral tilt."""
    tilt_db: float = 3.0
    """Tilt up to +- so many dB per octave around 1 kHz."""
    high_pass_hz: list[float] = field(default_factory=lambda: [20.0, 350.0])
    low_pass_hz: list[float] = field(default_factory=lambda: [3_000.0, 8_000.0])
    telephone: float = 0.0
    """Probability of mu-law quantisation to 8 bits."""
    gain_db: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """Level change of every clip."""
    time_masks: int = 0
    """Stretches of time masked (SpecAugment, Park et al. 2019)."""
    time_mask_s: float = 0.4
    """Longest time mask; never more than an eighth of the clip."""
    frequency_masks: int = 0
    frequency_mask_bins: int = 12
    """Widest frequency mask, mel bins."""

    def __post_init__(self):
        for name in ("noise", "babble", "reverb", "channel", "telephone"):
            check(0 <= getattr(self, name) <= 1, f"augment.{name}", getattr(self, name), "a probability, 0 to 1")
        for name in ("noise_snr_db", "babble_snr_db", "reverb_s", "high_pass_hz", "low_pass_hz", "gain_db"):
            pair = getattr(self, name)
            check(len(pair) == 2 and pair[0] <= pair[1], f"augment.{name}", pair, "[least, most]")
        check(self.reverb_s[0] > 0, "augment.reverb_s", self.reverb_s, "seconds above 0")


class Augmenter:
    """Applies `AugmentOptions` to batches."""

    def __init__(self, options: AugmentOptions, hop_samples: int = 160):
        """hop_samples: between the mel frames that `mels` masks."""
        self.options, self.hop_samples = options, hop_samples
        self.filters = options.channel > 0 or options.reverb > 0

    def waves(self, audio: "torch.Tensor", lengths: "torch.Tensor", generator: "torch.Generator") -> "torch.Tensor":
        """audio float32 `[B, n]` with zeros behind `lengths` `[B]`; the same shape back, zeros still behind."""
        import torch

        options = self.options
        draw = _Draw(len(audio), audio.device, generator)
        real = torch.arange(audio.shape[1], device=audio.device)[None] < lengths[:, None]
        if self.filters:
            audio = self._filtered(audio, draw)
        if options.babble:
            others = audio.roll(1, 0) if len(audio) > 1 else torch.zeros_like(audio)
            audio = _mix(audio, others, real, draw.even(options.babble_snr_db), draw.chosen(options.babble))
        if options.noise:
            audio = _mix(
                audio, draw.noise(audio.shape[1]), real, draw.even(options.noise_snr_db), draw.chosen(options.noise)
            )
        if options.telephone:
            peak = audio.abs().amax(1, keepdim=True).clamp(min=1e-4)
            compressed = torch.sign(audio) * torch.log1p(MU * (audio / peak).abs()) / math.log1p(MU)
            coarse = torch.round(compressed * 127) / 127
            expanded = peak * torch.sign(coarse) * torch.expm1(coarse.abs() * math.log1p(MU)) / MU
            audio = torch.where(draw.chosen(options.telephone), expanded, audio)
        if options.gain_db != [0.0, 0.0]:
            audio = audio * 10 ** (draw.even(options.gain_db) / 20)
        return torch.where(real, audio.clamp(-1, 1), 0.0)

    def mels(self, mel: "torch.Tensor", lengths: "torch.Tensor", generator: "torch.Generator") -> "torch.Tensor":
        """SpecAugment on log-mels `[B, n_mels, frames]`; `lengths` `[B]` in samples. Masks hold the clip's mean."""
        import torch

        options = self.options
        if not (options.time_masks or options.frequency_masks):
            return mel
        draw = _Draw(len(mel), mel.device, generator)
        frames = (lengths / self.hop_samples).ceil()[:, None]
        time = torch.arange(mel.shape[2], device=mel.device)[None]
        bins = torch.arange(mel.shape[1], device=mel.device)[None]
        hidden = torch.zeros(mel.shape, dtype=torch.bool, device=mel.device)
        for _ in range(options.time_masks):
            longest = options.time_mask_s * SAMPLE_RATE / self.hop_samples
            width = draw.even([0.0, 1.0]) * torch.clamp(frames / 8, max=longest)
            start = draw.even([0.0, 1.0]) * (frames - width)
            hidden |= ((time >= start) & (time < start + width))[:, None]
        for _ in range(options.frequency_masks):
            width = draw.even([0.0, float(options.frequency_mask_bins)])
            start = draw.even([0.0, 1.0]) * (mel.shape[1] - width)
            hidden |= ((bins >= start) & (bins < start + width))[:, :, None]
        return torch.where(hidden, mel.mean((1, 2), keepdim=True), mel)

    def _filtered(self, audio: "torch.Tensor", draw: "_Draw") -> "torch.Tensor":
        """Channel and room in one pass through the spectrum; the level of each clip is kept."""
        import torch

        options, n = self.options, audio.shape[1]
        size = n + int(REVERB_S * SAMPLE_RATE)
        spectrum = torch.fft.rfft(audio, size)
        hz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=audio.device)[None].clamp(min=1.0)
        if options.channel:
            low, high = draw.even(options.high_pass_hz), draw.even(options.low_pass_hz)
            tilt = draw.even([-options.tilt_db, options.tilt_db]) * torch.log2(hz / 1_000).clamp(-4, 3)
            # fourth-order slopes, as of a microphone and a line: 24 dB per octave
            response = 10 ** (tilt / 20) / torch.sqrt((1 + (low / hz) ** 8) * (1 + (hz / high) ** 8))
            spectrum = torch.where(draw.chosen(options.channel), spectrum * response, spectrum)
        if options.reverb:
            tail = torch.arange(int(REVERB_S * SAMPLE_RATE), device=audio.device)[None] / SAMPLE_RATE
            decay = torch.exp(-6.908 * tail / draw.even(options.reverb_s))  # 60 dB is a factor of exp(-6.908)
            response = draw.normal(tail.shape[1]) * decay
            response = response / response.square().sum(1, keepdim=True).sqrt() * draw.even([0.2, 1.0])
            response[:, 0] = 1.0  # the direct sound
            wet = spectrum * torch.fft.rfft(response, size)
            spectrum = torch.where(draw.chosen(options.reverb), wet, spectrum)
        filtered = torch.fft.irfft(spectrum, size)[:, :n]
        before, after = (x.square().mean(1, keepdim=True).sqrt() for x in (audio, filtered))
        return filtered * before / after.clamp(min=1e-6)


class _Draw:
    """Random numbers for one batch, one row per clip."""

    def __init__(self, size: int, device: "torch.device", generator: "torch.Generator"):
        self.size, self.device, self.generator = size, device, generator

    def even(self, bounds: list[float]) -> "torch.Tensor":
        """`[B, 1]`, evenly between the bounds."""
        import torch

        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(
            self.size, 1, device=self.device, generator=self.generator
        )

    def chosen(self, probability: float) -> "torch.Tensor":
        """bool `[B, 1]`."""
        return self.even([0.0, 1.0]) < probability

    def normal(self, width: int) -> "torch.Tensor":
        import torch

        return torch.randn(self.size, width, device=self.device, generator=self.generator)

    def noise(self, width: int) -> "torch.Tensor":
        """Noise `[B, width]` with a spectrum between white (0) and brown (6 dB per octave down)."""
        import torch

        spectrum = torch.fft.rfft(self.normal(width))
        hz = torch.arange(1, spectrum.shape[1] + 1, device=self.device)[None].float()
        return torch.fft.irfft(spectrum * hz ** -self.even([0.0, 1.0]), width)


def _mix(audio, added, real, snr_db, chosen) -> "torch.Tensor":
    """Add `added` at `snr_db`, powers taken over the real samples only."""
    import torch

    count = real.sum(1, keepdim=True).clamp(min=1)
    power = (audio.square() * real).sum(1, keepdim=True) / count
    added_power = (added.square() * real).sum(1, keepdim=True) / count
    scale = torch.sqrt(power / added_power.clamp(min=1e-12) / 10 ** (snr_db / 10))
    return torch.where(chosen, audio + scale.clamp(max=1e4) * added, audio)
