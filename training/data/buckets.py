"""Batches of clips of equal length, so that no step pays for padding.

A clip is encoded at its own grid (design.md §4.1), so a batch must hold one grid value only. Buckets are those grid
values; batches are cut inside them and shuffled across them.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.errors import DataError


@dataclass(frozen=True)
class BatchOptions:
    """How clips are grouped into batches."""

    batch_size: int = 16
    """Clips a batch, at most."""
    max_batch_s: float = 0.0
    """Seconds of (padded) audio a batch, at most; 0: no limit. Long clips then come in smaller batches."""
    grid_s: float = 1.0
    """Clips whose durations round up to the same multiple of this share a batch."""
    shuffle: bool = True
    """New order in every epoch; False: longest first, so that memory is exhausted at once or never."""
    drop_last: bool = False
    """Leave out a bucket's last, smaller batch."""
    seed: int = 0


class LengthBuckets:
    """A batch sampler: iterating yields lists of indices into `durations_s`.

    Fits `torch.utils.data.DataLoader(batch_sampler=...)`. The order is a function of (seed, epoch) alone, so a
    resumed run sees the batches an uninterrupted one would: `set_epoch(e)`, then skip `start` batches.

    durations_s: seconds of each clip. grid_of: overrides `grid_s` with the base model's own `grid_s(utterance)`.
    rank, world_size: the share of this process; every process gets the same number of batches.
    """

    def __init__(
        self,
        durations_s: Sequence[float],
        options: BatchOptions = BatchOptions(),
        *,
        grid_of: Callable[[float], float] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if options.batch_size < 1:
            raise DataError(f"batch_size is {options.batch_size}", valid="1 or more")
        if options.grid_s <= 0:
            raise DataError(f"grid_s is {options.grid_s}", valid="seconds above 0")
        if not len(durations_s):
            raise DataError("There are no clips to make batches of", remedy="boli data describe MANIFEST")
        self.options = options
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start = 0, 0
        self._indices: Sequence[int] | None = None
        grid_of = grid_of or (lambda seconds: max(1, math.ceil(seconds / options.grid_s - 1e-6)) * options.grid_s)
        self._grid = [grid_of(float(d)) for d in durations_s]
        self._durations = np.asarray(durations_s, dtype=np.float64)

    def set_epoch(self, epoch: int, *, start: int = 0, indices: Sequence[int] | None = None) -> None:
        """Choose the order of `epoch`; leave out its first `start` batches.

        indices: the clips of this epoch, repeats allowed (language-balanced sampling, mixing); None: each clip once.
        """
        self.epoch, self.start, self._indices = epoch, start, indices

    def batches(self) -> list[list[int]]:
        """Every batch of this epoch and process."""
        random = np.random.default_rng([self.options.seed, self.epoch])
        buckets: dict[float, list[int]] = defaultdict(list)
        for index in range(len(self._grid)) if self._indices is None else self._indices:
            buckets[self._grid[index]].append(int(index))
        made: list[list[int]] = []
        for grid in sorted(buckets, reverse=True):
            members = buckets[grid]
            if self.options.shuffle:
                random.shuffle(members)
            size = self._size(grid)
            cut = [members[i : i + size] for i in range(0, len(members), size)]
            if self.options.drop_last and len(cut[-1]) < size:
                cut.pop()
            made += cut
        if self.options.shuffle:
            made = [made[i] for i in random.permutation(len(made))]
        if self.world_size > 1 and made:
            # a rank with one batch fewer would leave the others waiting in all-reduce for ever
            while len(made) % self.world_size:
                made.append(made[len(made) % self.world_size - 1])
            made = made[self.rank :: self.world_size]
        return made

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches()[self.start :]

    def __len__(self) -> int:
        return max(0, len(self.batches()) - self.start)

    def padding(self) -> float:
        """Share of the encoded seconds that is padding, 0..1."""
        return 1.0 - float(self._durations.sum()) / float(sum(self._grid))

    def _size(self, grid_s: float) -> int:
        if self.options.max_batch_s <= 0:
            return self.options.batch_size
        return max(1, min(self.options.batch_size, int(self.options.max_batch_s / grid_s)))
