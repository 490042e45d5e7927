"""The endless stream of batches an adapter learns from, made on the device."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset

from training.adapter_recipe import AdapterRecipe
from training.batches import Planned, plan_epoch
from training.clips import Clips
from training.feeder import Feeder
from training.seeds import mixed_seed
from zoo.errors import DataError, ModelError
from zoo.interface import BaseModel


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
        self.feeder = Feeder(base, recipe.augment)

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
            self.clips, self.recipe.plan, self.feeder.grid_s, self.base.max_duration_s, self.recipe.run.seed, epoch
        )
        plan += plan[: -len(plan) % self.ranks]
        return plan[self.rank :: self.ranks]

    def batch(self, planned: Planned, seed: int) -> dict[str, Any]:
        records = [self.clips.records[i] for i in planned.index]
        labels = self.base.labels([record.text for record in records], [record.lang for record in records])
        features = self.feeder.features(self.clips, planned, seed)
        return {"values": features.values, "frames": features.lengths, "labels": labels.to(self.feeder.device)}


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
