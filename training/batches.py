"""Batches of clips of equal grid length, gathered and turned into log-mels on the device.

A plan lists, for one epoch, which clips share a batch and how fast each is played; it follows from (seed, epoch)
alone, so a resumed job goes on with the very batches that an uninterrupted one would have seen.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from training.clips import PCM, Clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.data.sampling import balanced, mixed
from training.recipe import check
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Planned:
    """One batch of a plan."""

    index: np.ndarray
    """int64 `[B]` clips."""
    speed: np.ndarray
    """float32 `[B]`; 1.1 plays the clip 10 % faster."""
    samples: int
    """Grid length that every clip of the batch is padded to."""


@dataclass(frozen=True)
class PlanOptions:
    """How clips are drawn, played and grouped."""

    batch_clips: int = 32
    """Clips per batch, at most."""
    batch_s: float = 0.0
    """Padded seconds of audio per batch, at most; 0: no limit. Long clips then come in smaller batches."""
    alpha: float = 1.0
    """A language's share of an epoch is proportional to its clips ** alpha: 1 as in the data, 0 all equal."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Fixed shares instead, by manifest (file name without ending) or by language."""
    window: int = 100
    """The ratios hold in every window of so many clips, not only on average."""
    speed: list[float] = field(default_factory=lambda: [1.0, 1.0])
    """Slowest and fastest playing of a clip; drawn evenly for each clip in each epoch."""

    def __post_init__(self):
        check(self.batch_clips > 0, "plan.batch_clips", self.batch_clips, "a whole number above 0")
        check(0 <= self.alpha <= 1, "plan.alpha", self.alpha, "0 (all languages equal) to 1 (as in the data)")
        check(
            len(self.speed) == 2 and 0.5 <= self.speed[0] <= self.speed[1] <= 2,
            "plan.speed",
            self.speed,
            "[slowest, fastest] within 0.5 to 2",
        )


def plan_epoch(
    clips: Clips, options: PlanOptions, grid_s: float, max_duration_s: float, seed: int, epoch: int
) -> list[Planned]:
    """Batches of one epoch, in random order, every one of equal grid length.

    grid_s: step of the grid; the model's whole context for models that pad everything to 30 s.
    """
    n = len(clips)
    speed = np.random.default_rng([seed, epoch, 3]).uniform(options.speed[0], options.speed[1], n).astype(np.float32)
    durations = clips.lengths / SAMPLE_RATE
    speed = np.where(durations / speed > max_duration_s, 1.0, speed).astype(np.float32)
    languages = [record.lang for record in clips.records]
    if options.ratios:
        sources = languages if set(options.ratios) <= set(languages) else [clips.source(i) for i in range(n)]
        drawn = mixed(sources, options.ratios, window=options.window, seed=seed, epoch=epoch)
    else:
        drawn = balanced(languages, alpha=options.alpha, seed=seed, epoch=epoch)
    # Buckets are cut inside stretches of the drawn order, so that the ratios stay kept all along the epoch; a
    # stretch is long enough that few batches are left part-filled.
    stretch = max(options.window, 64 * options.batch_clips)
    parts = max(1, round(len(drawn) / stretch))
    batches: list[Planned] = []
    for part, chosen in enumerate(np.array_split(np.asarray(drawn), parts)):
        shape = BatchOptions(
            batch_size=options.batch_clips, max_batch_s=options.batch_s, grid_s=grid_s, seed=seed * 1_000 + part
        )
        buckets = LengthBuckets((durations / speed)[chosen], shape)
        buckets.set_epoch(epoch)
        for members in buckets.batches():
            index = chosen[members]
            longest = float((clips.lengths[index] / speed[index]).max())
            grid = max(1, math.ceil(longest / (grid_s * SAMPLE_RATE) - 1e-6)) * grid_s
            batches.append(Planned(index, speed[index], round(min(grid, max_duration_s) * SAMPLE_RATE)))
    return batches


def gather(clips: Clips, batch: Planned, device: str) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Audio float32 `[B, samples]` on `device`, zeros behind each clip, and its lengths int64 `[B]`.

    Speed is changed by cubic interpolation between samples, as a tape would: pitch and tempo together.
    """
    import torch

    samples = clips.samples
    starts = torch.from_numpy(clips.starts[batch.index]).to(samples.device, non_blocking=True)[:, None]
    last = torch.from_numpy(clips.lengths[batch.index] - 1).to(samples.device, non_blocking=True)[:, None]
    time = torch.arange(batch.samples, device=samples.device)[None]
    if np.all(batch.speed == 1.0):
        lengths = (last + 1).clamp(max=batch.samples)
        audio = samples[starts + torch.minimum(time, last)].float()
    else:
        speed = torch.from_numpy(batch.speed).to(samples.device, non_blocking=True)[:, None]
        lengths = torch.ceil((last + 1) / speed).long().clamp(max=batch.samples)
        position = time * speed
        before = position.floor()
        fraction = position - before
        before = before.long()
        p0, p1, p2, p3 = (
            samples[starts + torch.minimum((before + k).clamp(min=0), last)].float() for k in (-1, 0, 1, 2)
        )
        audio = p1 + 0.5 * fraction * (
            p2 - p0 + fraction * (2 * p0 - 5 * p1 + 4 * p2 - p3 + fraction * (3 * (p1 - p2) + p3 - p0))
        )
    audio = torch.where(time < lengths, audio / PCM, 0.0)
    return audio.to(device), lengths[:, 0].to(device)


class LogMel:
    """Whisper's log-mel of a batch, on any device: equal to WhisperFeatureExtractor on each clip by itself."""

    def __init__(self, extractor, device: str):
        import torch

        self.fft, self.hop = extractor.n_fft, extractor.hop_length
        self.window = torch.hann_window(self.fft, device=device)
        self.filters = torch.from_numpy(np.asarray(extractor.mel_filters)).to(device, torch.float32).T.contiguous()

    def __call__(self, audio: "torch.Tensor") -> "torch.Tensor":
        """float32 `[B, samples]` to `[B, n_mels, samples / hop]`; each clip is scaled by its own loudest bin."""
        import torch

        spectrum = torch.stft(audio, self.fft, self.hop, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        log = (self.filters @ power).clamp(min=1e-10).log10()
        return (torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
