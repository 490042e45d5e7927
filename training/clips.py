"""All clips of a job in memory: 16-bit samples end to end, on the device where they fit.

Decoding a clip again in every epoch starves a fast device; an hour of speech is 115 MB as 16-bit samples.
"""

import os
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.data.manifest import Record
from training.recipe import DataOptions
from zoo.errors import AudioError, DataError
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

PCM = 32_767.0  # int16 value of full scale
BLOCK_CLIPS = 1024  # joined at once while loading: small arrays, once freed, stay with the process; large ones do not
MAX_NAMED = 5  # skipped clips named in a message


@dataclass
class Clips:
    """Clips laid end to end."""

    records: list[Record]
    samples: "np.ndarray | torch.Tensor"
    """int16 `[all samples]`, mono, 16 kHz."""
    starts: np.ndarray
    """int64 `[n]` first sample of each clip."""
    lengths: np.ndarray
    """int64 `[n]` samples of each clip."""
    skipped: list[str]
    """Clips left out, each with the reason."""
    sources: list[str] = field(default_factory=list)
    """Manifest of each clip, by file name without ending."""

    def __len__(self) -> int:
        return len(self.records)

    @property
    def hours(self) -> float:
        return float(self.lengths.sum()) / SAMPLE_RATE / 3600

    def source(self, index: int) -> str:
        return self.sources[index] if self.sources else ""

    def audio(self, index: int) -> np.ndarray:
        """float32 `[n_samples]` of one clip."""
        part = self.samples[self.starts[index] : self.starts[index] + self.lengths[index]]
        part = part if isinstance(part, np.ndarray) else part.cpu().numpy()
        return part.astype(np.float32) / PCM

    def to(self, device: str, share: float = 0.5) -> "Clips":
        """Samples as a tensor: on `device` where they take at most `share` of its free memory, else on the CPU."""
        import torch

        samples = self.samples if isinstance(self.samples, torch.Tensor) else torch.from_numpy(self.samples)
        if device.startswith("cuda") and samples.nbytes < share * torch.cuda.mem_get_info(device)[0]:
            samples = samples.to(device)
        self.samples = samples
        return self


def load_clips(records: Sequence[Record], options: DataOptions, sources: Sequence[str] = ()) -> Clips:
    """Decode `records` in parallel; `sources` names the manifest of each. Clips that cannot be read, or are too short
    or too long, are skipped and named.

    Threads, not processes: libsndfile and numpy release the interpreter lock, and nothing has to be copied back.
    Raises DataError where nothing is left.
    """
    workers = options.workers or os.cpu_count() or 1
    kept: list[Record] = []
    named: list[str] = []
    skipped: list[str] = []
    lengths: list[int] = []
    blocks: list[np.ndarray] = []
    with ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(records), BLOCK_CLIPS):
            held: list[np.ndarray] = []
            part = records[first : first + BLOCK_CLIPS]
            for i, audio in enumerate(pool.map(lambda record: _load(record, options), part), start=first):
                if isinstance(audio, str):
                    skipped.append(audio)
                    continue
                kept.append(records[i])
                named += [sources[i]] if sources else []
                lengths.append(len(audio))
                held.append(audio)
            if held:
                blocks.append(np.concatenate(held))
    if not kept:
        why = "; ".join(skipped[:MAX_NAMED]) or "the manifests are empty"
        raise DataError(f"None of the {len(records)} clips can be used: {why}", remedy="boli data describe MANIFEST")
    samples = _joined(blocks)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Clips(kept, samples, starts, np.array(lengths, dtype=np.int64), skipped, named)


def _joined(blocks: list[np.ndarray]) -> np.ndarray:
    """All of `blocks` end to end; the list is emptied. Each is given back as soon as it is copied: a corpus of 60 hours is 7 GB once."""
    samples = np.empty(sum(len(block) for block in blocks), dtype=np.int16)
    at = 0
    blocks.reverse()
    while blocks:
        block = blocks.pop()
        samples[at : at + len(block)] = block
        at += len(block)
    return samples


def describe_skipped(clips: Clips) -> str:
    """One line for the log."""
    more = f" and {len(clips.skipped) - MAX_NAMED} more" if len(clips.skipped) > MAX_NAMED else ""
    return f"{len(clips.skipped)} clips skipped: {'; '.join(clips.skipped[:MAX_NAMED])}{more}"


def _load(record: Record, options: DataOptions) -> "np.ndarray | str":
    """int16 samples, or why there are none."""
    try:
        audio = _plain_wav(record.path) if not record.offset else None
        if audio is None:
            audio = np.round(np.clip(record.load(), -1, 1) * PCM).astype(np.int16)
    except (AudioError, OSError) as error:
        return f"{record.id} ({error})"
    duration = len(audio) / SAMPLE_RATE
    if not options.min_duration_s <= duration <= options.max_duration_s:
        return f"{record.id} ({duration:.2f} s, wanted {options.min_duration_s:g} to {options.max_duration_s:g} s)"
    return audio


def _plain_wav(path: Path) -> np.ndarray | None:
    """int16 samples of a file that already is what we want (the common case of prepared corpora), else None."""
    if path.suffix != ".wav":
        return None
    try:
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (SAMPLE_RATE, 1, 2):
                return None
            return np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
    except (wave.Error, EOFError):
        return None
