"""Clips as a causal decision hears them: of each hop's window the frames that are read, encoded once, with what is spoken in
each. One hop is a tenth of a second and a window two, so each second of sound is encoded twenty times: blocks of clips are
kept on disk, and an interrupted job goes on behind the last."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from router.following import states
from router.windows import Causal, Quiet, Windows, encoded
from training.augment import Augmenter
from training.classifier_data import frame_labels
from training.clips import Clips
from training.data.files import written_whole
from training.seeds import mixed_seed
from zoo.interface import BaseModel

BLOCK = 32  # clips encoded together


@dataclass
class Streams:
    """What is read of all clips, end to end."""

    states: torch.Tensor
    """float16 `[all frames, size]`"""
    labels: torch.Tensor
    """int64 `[all frames]`: class; -1: too quiet to say anything of the language."""
    lengths: np.ndarray
    """int64 `[n]`"""

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def read(cls, blocks: Sequence[Path], device: torch.device | str = "cpu") -> "Streams":
        """Those that `encode_streams` wrote, one block after the other; nothing is held twice."""
        from safetensors import safe_open

        few = []
        for path in blocks:
            with safe_open(path, "pt") as block:
                few.append(
                    (block.get_tensor("lengths"), block.get_tensor("labels"), block.get_slice("states").get_shape())
                )
        total = sum(shape[0] for _, _, shape in few)
        states = torch.empty((total, few[0][2][1]), dtype=torch.float16, device=device)
        at = 0
        for path in blocks:
            with safe_open(path, "pt") as block:
                rows = block.get_tensor("states")
            states[at : at + len(rows)] = rows
            at += len(rows)
        labels = torch.cat([labels for _, labels, _ in few]).to(device)
        return cls(states, labels, torch.cat([lengths for lengths, _, _ in few]).numpy())

    def batch(self, index: Sequence[int], of: torch.Tensor, behind: float = 0.0) -> torch.Tensor:
        """What `of` `[all frames, ...]` has of some clips, `[B, T, ...]` in its kind; `behind` behind each."""
        starts = np.cumsum(self.lengths) - self.lengths
        longest = int(self.lengths[index].max())
        found = torch.full((len(index), longest, *of.shape[1:]), behind, dtype=of.dtype, device=of.device)
        for row, i in enumerate(index):
            found[row, : self.lengths[i]] = of[starts[i] : starts[i] + self.lengths[i]]
        return found


def encode_streams(
    base: BaseModel,
    clips: Clips,
    classes: Sequence[str],
    options: Causal,
    finished: bool,
    folder: Path,
    augmenter: Augmenter | None = None,
    plain: float = 1.0,
    seed: int = 0,
    step: Callable[[int], None] = lambda clips: None,
) -> list[Path]:
    """Encode every clip, but for those that an earlier attempt has encoded into `folder`. Returns the blocks, in order.

    augmenter: for all clips but a share of `plain`. step: called behind each block with the clips done so far; what it raises
    ends the job. Blocks follow from clips, options and seed alone.
    """
    from safetensors.torch import save_file

    blocks = []
    for number, first in enumerate(range(0, len(clips), BLOCK)):
        path = folder / f"{number:05d}.safetensors"
        if not path.is_file():
            members = range(first, min(first + BLOCK, len(clips)))
            audios = [_sound(clips.audio(i), augmenter, plain, mixed_seed(seed, i)) for i in members]
            read = list(_read(base, audios, options, finished))
            labels = [
                _labels(clips, i, audio, len(rows), classes, base, options)
                for i, audio, rows in zip(members, audios, read, strict=True)
            ]
            lengths = torch.tensor([len(rows) for rows in read])
            block = {"states": torch.cat(read).half(), "labels": torch.cat(labels), "lengths": lengths}
            with written_whole(path) as staged:
                save_file(block, staged)
            step(min(first + BLOCK, len(clips)))
        blocks.append(path)
    return blocks


def _sound(audio: np.ndarray, augmenter: Augmenter | None, plain: float, seed: int) -> np.ndarray:
    if augmenter is None or np.random.default_rng(seed).random() < plain:
        return audio
    generator = torch.Generator().manual_seed(seed)
    return augmenter.waves(torch.from_numpy(audio)[None], torch.tensor([len(audio)]), generator)[0].numpy()


@torch.inference_mode()
def _read(base: BaseModel, audios: Sequence[np.ndarray], options: Causal, finished: bool) -> Iterator[torch.Tensor]:
    """Of each recording the states `[frames, size]` that a Follower would read, in order."""
    windows = Windows.of(base, options)
    jobs = [(i, end) for i, audio in enumerate(audios) for end in windows.ends(0, len(audio))]
    found: dict[tuple[int, int], torch.Tensor] = {}
    for members, tapped in encoded(base, [audios[i][windows.start(end) : end] for i, end in jobs]):
        for k, row, n in zip(members, states(base, tapped, finished), tapped.lengths.tolist(), strict=True):
            end = jobs[k][1]
            low, high = (frame - windows.start(end) // windows.per_frame for frame in windows.read(end))
            found[jobs[k]] = row[low : min(high, n)].cpu()
    for i in range(len(audios)):
        own = [rows for (of, _), rows in sorted(found.items(), key=lambda item: item[0]) if of == i]
        yield torch.cat(own) if own else torch.zeros(0, base.hidden_size * (2 if finished else 1))


def _labels(
    clips: Clips, i: int, audio: np.ndarray, frames: int, classes: Sequence[str], base: BaseModel, options: Causal
) -> torch.Tensor:
    per_frame = Windows.of(base, options).per_frame
    quiet = Quiet(base.frame_rate, options.quiet_db)
    silent = [quiet(audio[frame * per_frame : (frame + 1) * per_frame]) for frame in range(frames)]
    spoken = frame_labels(clips.records[i], frames, 0.0, base.frame_rate, classes)
    return torch.from_numpy(np.where(silent, -1, spoken))
