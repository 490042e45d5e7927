"""Where a chunk is cut between two languages, and what each segment is encoded and decoded with.

Segments share no frame and leave none out. A segment is *encoded* with some audio beyond its seams, as context, and
*decoded* from its own frames alone: so no word is heard twice, and none is lost between two decoders.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from zoo.interface import Hidden
from zoo.speech import SAMPLE_RATE, Utterance


@dataclass(frozen=True)
class Stretch:
    """One segment's audio as it is encoded: context, its own frames, context, and silence up to the grid."""

    utterance: Utterance
    left: int
    """Frames of context in front."""
    own: int
    right: int
    kept: int
    """Frames the decoder sees: its own, and silence up to what the segment alone would have been padded to."""


def frame_samples(base) -> int:
    """Samples of one encoder frame."""
    return round(SAMPLE_RATE / base.frame_rate)


def at_quietest(audio: np.ndarray, cuts: Sequence[int], frames: int, per_frame: int, most: int) -> list[int]:
    """Each cut moved, by at most `most` frames and never over a third of its neighbours, to where it is quietest.

    audio: float32 `[n]`; cuts: frames, rising, inside 1 to `frames` - 1; per_frame: samples of a frame. Among equally
    quiet places the nearest. Rising again, of the same number.
    """
    edges = [0, *cuts, frames]
    power = np.zeros(frames)
    whole = audio[: frames * per_frame].astype(np.float64) ** 2
    whole = np.pad(whole, (0, frames * per_frame - len(whole)))
    power[:] = whole.reshape(frames, per_frame).mean(axis=1)
    level = 10 * np.log10(power + 1e-9)
    around = np.concatenate([[level[0]], (level[:-1] + level[1:]) / 2])  # of the two frames that a cut parts
    moved = []
    for before, cut, after in zip(edges, edges[1:], edges[2:], strict=False):
        first = cut - min(most, (cut - before) // 3)
        last = cut + min(most, (after - cut) // 3)
        places = np.arange(first, last + 1)
        cost = around[first : last + 1] + 1e-3 * np.abs(places - cut)
        moved.append(int(places[cost.argmin()]))
    return moved


def stretch(base, audio: np.ndarray, start: int, end: int, context: int, name: str = "") -> Stretch:
    """Frames `start` to `end` of a chunk with up to `context` frames of it on each side.

    audio: the whole chunk, float32 `[n]`, short enough for one pass.
    """
    per_frame = frame_samples(base)
    frames = -(-len(audio) // per_frame)
    left, right = min(context, start), min(context, frames - end)
    own = audio[start * per_frame : end * per_frame]
    room = round(base.max_duration_s * base.frame_rate) - left - right
    kept = min(room, round(base.grid_s(Utterance(own)) * base.frame_rate))
    heard = audio[(start - left) * per_frame : (end + right) * per_frame]
    total = (left + kept + right) * per_frame
    heard = np.pad(heard, (0, max(0, total - len(heard))))
    return Stretch(Utterance(heard, name), left, end - start, right, kept)


def own_frames(hidden: Hidden, stretches: Sequence[Stretch]) -> Hidden:
    """What the decoder sees of each row: its own frames, then those of the silence behind; `[B, kept, d]`.

    All stretches have equal `kept`. Their positions are the context's late, as if the clip began with a pause.
    """
    device, total = hidden.values.device, hidden.values.shape[1]
    kept = max(one.kept for one in stretches)
    index = torch.full(
        (len(stretches), kept), total - 1, device=device
    )  # an encoder may give a frame less than expected
    for row, one in zip(index, stretches, strict=True):
        own = torch.arange(one.left, min(one.left + one.own, total), device=device)
        behind = torch.arange(one.left + one.own + one.right, max(total, one.left + one.own + one.right), device=device)
        seen = torch.cat([own, behind])[:kept]
        row[: len(seen)] = seen
    values = hidden.values.gather(1, index[:, :, None].expand(-1, -1, hidden.values.shape[2]))
    lengths = torch.tensor([one.own for one in stretches], device=device)
    return replace(hidden, values=values, lengths=lengths)
