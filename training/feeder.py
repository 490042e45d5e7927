"""From clips in memory to a base model's features, on the device, augmented."""

import torch

from training.augment import Augmenter, AugmentOptions
from training.batches import LogMel, Planned, gather
from training.clips import Clips
from zoo.interface import BaseModel, Features
from zoo.speech import SAMPLE_RATE, Utterance


class Feeder:
    """Makes `Features` as `base.features` would, without leaving the device where the features are log-mels."""

    def __init__(self, base: BaseModel, augment: AugmentOptions):
        self.base = base
        parameter = next(base.module.parameters())
        self.device, self.dtype = str(parameter.device), parameter.dtype
        if not self.dtype.is_floating_point:
            self.dtype = torch.float32
        self.grid_s = grid_step(base)
        extractor = getattr(base, "extractor", None)
        self.augmenter = Augmenter(augment, getattr(extractor, "hop_length", 160))
        # A family whose features are Whisper's log-mels gets them from the device; any other makes its own.
        self.log_mel = LogMel(extractor, self.device) if hasattr(extractor, "mel_filters") else None

    @torch.no_grad()
    def features(self, clips: Clips, planned: Planned, seed: int) -> Features:
        """One batch; the same seed gives the same augmentation."""
        generator = torch.Generator(self.device).manual_seed(seed)
        audio, lengths = gather(clips, planned, self.device)
        audio = self.augmenter.waves(audio, lengths, generator)
        if self.log_mel is None:
            rows = zip(audio, lengths.tolist(), strict=True)
            return self.base.features([Utterance(row[:n].cpu().numpy()) for row, n in rows])
        values = self.augmenter.mels(self.log_mel(audio), lengths, generator).to(self.dtype)
        frames = torch.ceil(lengths * (self.base.frame_rate / SAMPLE_RATE)).long().clamp(min=1)
        return Features(values, frames, self.base.context)


def grid_step(base: BaseModel) -> float:
    """Step of the grid that clips are padded to, in seconds; the whole context where everything is padded to it."""
    return base.card.grid_s if base.context == "dynamic" else base.max_duration_s
