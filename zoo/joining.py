"""Clips of several grids in one decode.

A decoder's step reads all its weights, for two clips as for eight. So clips that were encoded apart, each on its own
grid, are decoded together: the shorter are filled up, and their decoder does not see what they were filled with.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from zoo.errors import ModelError
from zoo.interface import Hidden


def join(states: Sequence[Hidden]) -> Hidden:
    """One after the other as the rows of one batch, `[sum of B, longest T, d]`. Raises ModelError where they stand after
    different layers."""
    first = states[0]
    if len(states) == 1:
        return first
    if len({(one.layer, one.done) for one in states}) != 1:
        raise ModelError(
            f"Hidden states after layers {[one.layer for one in states]} cannot be joined", valid="states of one layer"
        )
    longest = max(one.values.shape[1] for one in states)
    return replace(
        first,
        values=torch.cat([F.pad(one.values, (0, 0, 0, longest - one.values.shape[1])) for one in states]),
        lengths=torch.cat([one.lengths for one in states]),
        seen=torch.cat([frames_seen(one) for one in states]),
    )


def frames_seen(states: Hidden) -> torch.Tensor:
    """int64 `[B]`: how many frames of each row the decoder may look at."""
    if states.seen is not None:
        return states.seen
    count, frames = states.values.shape[:2]
    return torch.full((count,), frames, device=states.values.device)


def frame_mask(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """bool `[B, frames]`: which frames of each row lie before its length."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def together(frames: Sequence[int], most: int, spare: int) -> list[list[int]]:
    """Which clips to decode together: positions in `frames`, longest first.

    frames: of each clip; most: clips of a batch; spare: frames that a batch may be filled up with before another step
    costs less.
    """
    batches: list[list[int]] = []
    filled = 0
    for i in sorted(range(len(frames)), key=lambda i: -frames[i]):
        longer = frames[batches[-1][0]] - frames[i] if batches else 0
        if not batches or len(batches[-1]) == most or filled + longer > spare:
            batches.append([])
            filled = longer = 0
        batches[-1].append(i)
        filled += longer
    return batches
