"""Tap features of many clips, encoded once, kept in half precision, with a label for each frame."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from router.classifier import UNKNOWN
from training.augment import AugmentOptions
from training.batches import Planned
from training.classifier_recipe import HeadOptions
from training.clips import Clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.data.manifest import Record
from training.feeder import Feeder
from training.seeds import mixed_seed
from zoo.interface import BaseModel
from zoo.speech import SAMPLE_RATE

BATCH_S = 400.0  # seconds of audio encoded at once
MOST_COPIES = 24  # of one clip


@dataclass
class TapFeatures:
    """Frames of all clips end to end, on the base model's device."""

    states: torch.Tensor
    """float16 `[all frames, d]`"""
    labels: torch.Tensor
    """int64 `[all frames]`: class of each frame."""
    near: torch.Tensor
    """bool `[all frames]`: near a seam (`near_seam`)."""
    starts: np.ndarray
    lengths: np.ndarray
    """int64 `[n]`: first frame and frames of each clip."""
    shares: torch.Tensor
    """float32 `[n, classes]`: share of each clip's frames that is of a class; one-hot for one language."""
    durations_s: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def classes(self) -> np.ndarray:
        """int64 `[n]`: the class with most frames."""
        return self.shares.argmax(1).cpu().numpy()

    def batch(self, index: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """States float32 `[B, T, d]`, lengths `[B]`, frame labels `[B, T]` (-1: padding), near `[B, T]`, shares
        `[B, classes]`."""
        device = self.states.device
        lengths = torch.from_numpy(self.lengths[index]).to(device)
        starts = torch.from_numpy(self.starts[index]).to(device)
        time = torch.arange(int(self.lengths[index].max()), device=device)[None]
        real = time < lengths[:, None]
        place = (starts[:, None] + time).clamp(max=len(self.states) - 1)
        states = self.states[place].float() * real[:, :, None]
        return (
            states,
            lengths,
            torch.where(real, self.labels[place], -1),
            real & self.near[place],
            self.shares[torch.from_numpy(index).to(device)],
        )

    @classmethod
    def joined(cls, parts: "Sequence[TapFeatures]") -> "TapFeatures":
        """All of them, one after the other, copied once: they are gigabytes."""
        before = np.cumsum([0, *(len(part.states) for part in parts[:-1])])
        return cls(
            torch.cat([part.states for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.near for part in parts]),
            np.concatenate([part.starts + frames for part, frames in zip(parts, before, strict=True)]),
            np.concatenate([part.lengths for part in parts]),
            torch.cat([part.shares for part in parts]),
            np.concatenate([part.durations_s for part in parts]),
        )


def class_of(language: str, classes: Sequence[str]) -> int:
    """Index of a language's class; that of `unknown` for any other; -1 where there is no such class."""
    if language in classes:
        return classes.index(language)
    return classes.index(UNKNOWN) if UNKNOWN in classes else -1


def usable(records: Sequence[Record], classes: Sequence[str]) -> list[int]:
    """Positions of the records whose languages all have a class."""
    return [i for i, r in enumerate(records) if all(class_of(lang, classes) >= 0 for lang in r.languages)]


def encode_clips(
    base: BaseModel,
    clips: Clips,
    classes: Sequence[str],
    augment: AugmentOptions,
    seed: int,
    centred: bool = False,
) -> TapFeatures:
    """Encode all clips to the tap, in batches of equal grid; centred: as `router.heads.centred`."""
    plain = np.ones(len(clips), dtype=np.float32)
    return _encode(base, Feeder(base, augment), clips, np.zeros(len(clips)), plain, classes, seed, centred)


def copies_of(groups: Sequence[str], options: HeadOptions) -> np.ndarray:
    """int64 `[n]`: versions of each clip; small groups (a language of a corpus) get more, up to `corpus_clips` clips."""
    sizes = Counter(groups)
    wanted = (math.ceil(options.corpus_clips / sizes[group]) for group in groups)
    return np.array([max(options.copies, min(each, MOST_COPIES)) for each in wanted], dtype=np.int64)


def encode_copies(
    base: BaseModel, clips: Clips, copies: np.ndarray, options: HeadOptions, augment: AugmentOptions, seed: int
) -> tuple[TapFeatures, np.ndarray]:
    """`copies[i]` versions of clip i, each at a speed, most augmented by a seed of their own, some cut to a part; and which
    clip each of them is of, int64 `[copies.sum()]`."""
    feeders = Feeder(base, AugmentOptions()), Feeder(base, augment)
    made, which = [], []
    for copy in range(int(copies.max())):
        rng = np.random.default_rng([seed, copy, 7])
        wanted = np.flatnonzero(copies > copy)
        augmented = rng.random(len(wanted)) >= options.plain
        for number, feeder in enumerate(feeders):
            chosen = wanted[augmented == bool(number)]
            if not len(chosen):
                continue
            cut, offsets = _cropped(clips, chosen, options, base.card.longest_s, rng)
            speed = rng.uniform(options.speed[0], options.speed[1], len(cut)).astype(np.float32)
            speed = np.where(cut.lengths / speed > base.max_duration_s * SAMPLE_RATE, 1.0, speed).astype(np.float32)
            drawn = mixed_seed(seed, 2 * copy + number)
            made.append(
                _encode(base, feeder, cut, offsets, speed, options.classes, drawn, options.centred, options.seam_s)
            )
            which.append(chosen)
    return TapFeatures.joined(made), np.concatenate(which)


def _cropped(
    clips: Clips, chosen: np.ndarray, options: HeadOptions, taught_s: float, rng: np.random.Generator
) -> tuple[Clips, np.ndarray]:
    """A view of the chosen clips, some cut to a random part, and how many seconds were cut off in front of each.

    taught_s: the base was taught on no longer clips, so none is left longer; 0: not known."""
    n, whole = len(chosen), clips.lengths[chosen]
    most = np.minimum(whole, round(taught_s * SAMPLE_RATE)) if taught_s else whole
    longest = np.minimum(most, round(options.crop_longest_s * SAMPLE_RATE)) if options.crop_longest_s else most
    shortest = np.minimum(longest, round(options.crop_shortest_s * SAMPLE_RATE))
    wanted = (shortest + rng.random(n) * (longest - shortest)).astype(np.int64)
    lengths = np.where(rng.random(n) < options.crop, wanted, most)
    offsets = (rng.random(n) * (whole - lengths)).astype(np.int64)
    records = [clips.records[i] for i in chosen]
    return Clips(records, clips.samples, clips.starts[chosen] + offsets, lengths, []), offsets / SAMPLE_RATE


@torch.no_grad()
def _encode(
    base: BaseModel,
    feeder: Feeder,
    clips: Clips,
    offsets_s: np.ndarray,
    speed: np.ndarray,
    classes: Sequence[str],
    seed: int,
    centred: bool,
    seam_s: float = 0.0,
) -> TapFeatures:
    """offsets_s, speed `[n]`: what was cut off in front of each clip, and how fast it is played; seam_s: on both
    sides, as `near_seam`."""
    shape = BatchOptions(batch_size=256, max_batch_s=BATCH_S, grid_s=feeder.grid_s, shuffle=False)
    durations = clips.lengths / speed / SAMPLE_RATE
    device = next(base.module.parameters()).device
    starts, lengths = np.zeros(len(clips), dtype=np.int64), np.zeros(len(clips), dtype=np.int64)
    # One block for all frames: a small tensor for each clip, kept between the encoder's large ones that come and go,
    # leaves holes in the heap and takes several times the memory.
    most = int((np.ceil(durations * base.frame_rate) + 2).sum())
    states = torch.empty(most, base.hidden_size, dtype=torch.float16, device=device)
    labels, near = np.zeros(most, dtype=np.int64), np.zeros(most, dtype=bool)
    shares = np.zeros((len(clips), len(classes)), dtype=np.float32)
    filled = 0
    for number, members in enumerate(LengthBuckets(durations.tolist(), shape).batches()):
        index = np.asarray(members)
        grid = np.ceil(durations[index].max() / feeder.grid_s - 1e-6) * feeder.grid_s
        samples = round(min(max(grid, feeder.grid_s), base.max_duration_s) * SAMPLE_RATE)
        planned = Planned(index, speed[index], samples)
        hidden = base.encode(feeder.features(clips, planned, mixed_seed(seed, number)), until=base.tap)
        for row, i, frames in zip(hidden.values, members, hidden.lengths.tolist(), strict=True):
            starts[i], lengths[i], end = filled, frames, filled + frames
            own = row[:frames].float()
            states[filled:end] = own - own.mean(dim=0) if centred else own
            rate = base.frame_rate / float(speed[i])
            record, offset_s = clips.records[i], float(offsets_s[i])
            labels[filled:end] = frame_labels(record, frames, offset_s, rate, classes)
            near[filled:end] = near_seam(record, frames, offset_s, rate, seam_s, seam_s)
            shares[i] = np.bincount(labels[filled:end], minlength=len(classes)) / frames
            filled = end
    return TapFeatures(
        states[:filled],
        torch.from_numpy(labels[:filled]).to(device),
        torch.from_numpy(near[:filled]).to(device),
        starts,
        lengths,
        torch.from_numpy(shares).to(device),
        durations,
    )


def frame_labels(record: Record, frames: int, offset_s: float, frame_rate: float, classes: Sequence[str]) -> np.ndarray:
    """int64 `[frames]`, `frame_rate` of them for each second of the recording. Between two segments the change is
    half-way; before the first and after the last, theirs."""
    if not record.segments:
        return np.full(frames, class_of(record.lang, classes), dtype=np.int64)
    segments = sorted(record.segments, key=lambda segment: segment.start)
    which = np.searchsorted(_seams(record), _times(frames, offset_s, frame_rate))
    return np.array([class_of(segment.lang, classes) for segment in segments], dtype=np.int64)[which]


def near_seam(
    record: Record, frames: int, offset_s: float, frame_rate: float, before_s: float, behind_s: float
) -> np.ndarray:
    """bool `[frames]`: which lie less than `before_s` before or `behind_s` behind the place where another segment begins,
    half-way through the pause, in another language or not."""
    away = _times(frames, offset_s, frame_rate)[:, None] - _seams(record)[None]
    return ((away > -before_s) & (away < behind_s)).any(axis=1)


def _seams(record: Record) -> np.ndarray:
    """Half-way between each two segments: seconds `[segments - 1]`."""
    segments = sorted(record.segments, key=lambda segment: segment.start)
    return np.array([(one.end + two.start) / 2 for one, two in pairwise(segments)])


def _times(frames: int, offset_s: float, frame_rate: float) -> np.ndarray:
    return offset_s + (np.arange(frames) + 0.5) / frame_rate
