"""The endless stream of batches an adapter learns from, made on the device."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import IterableDataset

from training.adapter_recipe import AdapterRecipe
from training.augment import Augmenter
from training.batches import LogMel, Planned, gather, plan_epoch
from training.clips import Clips
from training.seeds import mixed_seed
from zoo.errors import DataError, ModelError
from zoo.interface import BaseModel
from zoo.speech import Utterance


class Stream(IterableDataset):
    """Batches number `start` to `length`, epoch after epoch; `{values, frames, labels}`, ready on the device.

    What batch n holds, its speed and its augmentation follow from (seed, epoch, place in the epoch) alone: a resumed
    job goes on with the very batch that an interrupted one would have seen next.
    """

    def __init__(
        self, base: BaseModel, clips: Clips, recipe: AdapterRecipe, length: int, rank: int = 0, ranks: int = 1
    ):
        self.base, self.clips, self.recipe, self.length = base, clips, recipe, length
        self.rank, self.ranks = rank, ranks
        self.start = 0
        self.device = str(next(base.module.parameters()).device)
        self.augmenter = Augmenter(recipe.augment)
        self.grid_s = grid_step(base)
        extractor = getattr(base, "extractor", None)
        # A family whose features are Whisper's log-mels gets them from the device; any other makes its own.
        self.log_mel = LogMel(extractor, self.device) if hasattr(extractor, "mel_filters") else None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        number, epoch = 0, 0
        while number < self.length:
            plan = self.epoch(epoch)
            for place, planned in enumerate(plan):
                if self.start <= number < self.length:
                    yield self.batch(planned, mixed_seed(self.recipe.run.seed, epoch, place * self.ranks + self.rank))
                number += 1
            epoch += 1

    def epoch(self, epoch: int) -> list[Planned]:
        """This process's batches of one epoch; every process has as many."""
        plan = plan_epoch(
            self.clips, self.recipe.plan, self.grid_s, self.base.max_duration_s, self.recipe.run.seed, epoch
        )
        plan += plan[: -len(plan) % self.ranks]
        return plan[self.rank :: self.ranks]

    def batch(self, planned: Planned, seed: int) -> dict[str, Any]:
        records = [self.clips.records[i] for i in planned.index]
        labels = self.base.labels([record.text for record in records], [record.lang for record in records])
        with torch.no_grad():
            generator = torch.Generator(self.device).manual_seed(seed)
            audio, lengths = gather(self.clips, planned, self.device)
            audio = self.augmenter.waves(audio, lengths, generator)
            if self.log_mel is None:
                clips = [Utterance(row[:n].cpu().numpy()) for row, n in zip(audio, lengths.tolist(), strict=True)]
                features = self.base.features(clips)
                values, frames = features.values, features.lengths
            else:
                values = self.log_mel(audio).to(next(self.base.module.parameters()).dtype)
                frames = torch.ceil(lengths * (self.base.frame_rate / 16_000)).long().clamp(min=1)
            values = self.augmenter.mels(values, lengths, generator) if values.ndim == 3 else values
        return {"values": values, "frames": frames, "labels": labels.to(self.device)}


def grid_step(base: BaseModel) -> float:
    """Step of the grid that clips are padded to, in seconds; the whole context where everything is padded to it."""
    return base.card.grid_s if base.context == "dynamic" else base.max_duration_s


def fitting(base: BaseModel, clips: Clips) -> Clips:
    """The clips whose text the decoder has room for; the others are named in `skipped`. Raises DataError for none."""
    kept, skipped = [], []
    for i, record in enumerate(clips.records):
        try:
            base.labels([record.text], [record.lang])
            kept.append(i)
        except ModelError as error:
            skipped.append(f"{record.id} ({error})")
    if not kept:
        raise DataError(f"None of the {len(clips)} clips fits the base model: {skipped[0]}")
    if not skipped:
        return clips
    sources = [clips.sources[i] for i in kept] if clips.sources else []
    records = [clips.records[i] for i in kept]
    return Clips(records, clips.samples, clips.starts[kept], clips.lengths[kept], clips.skipped + skipped, sources)
