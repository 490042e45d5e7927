"""What a report is made from: loaded when a section first asks for it, and shared by all."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cache import Cache
from analysis.inputs import Choice, load_base, read_clips

if TYPE_CHECKING:
    from analysis.deltas import Adapters
    from analysis.hearing import Listener
    from training.clips import Clips
    from training.data.manifest import Record
    from zoo.interface import BaseModel


@dataclass
class Inputs:
    """Choices of one report, and what they name."""

    choice: Choice
    manifests: tuple[Path, ...]
    cache: Cache
    train: tuple[Path, ...] = ()
    """Manifests the adapters were trained on: which words they know."""
    model: str | None = None
    subset: str | None = None
    limit: int = 0
    """At most so many clips per language; 0: all."""
    layer_clips: int = 16
    """Clips per language that are transcribed with each layer off and alone."""
    scopes: tuple[str, ...] = ("part", "layer")
    """What is switched off and on alone: of part, layer, module."""
    latency_clips: int = 8
    sentences: int = 60
    bootstrap: int = 1000
    seed: int = 0
    device: str = "cpu"
    batch_size: int = 16
    show: bool = False
    """Bars on stderr."""

    @cached_property
    def clips(self) -> "Clips":
        return read_clips(self.manifests, subset=self.subset, limit=self.limit)

    @cached_property
    def adapters(self) -> "Adapters":
        from analysis.deltas import read_adapters

        return read_adapters(self.choice)

    def fresh_base(self) -> "BaseModel":
        """The base as it lies on disk, without a bank: for one section, and forgotten with it."""
        return load_base(self.adapters.stored, self.model, self.device)

    @cached_property
    def listener(self) -> "Listener":
        from analysis.hearing import listen

        return listen(self.choice, self.cache, model=self.model, device=self.device, batch_size=self.batch_size)

    @cached_property
    def vocabulary(self) -> "list[Record]":
        from training.data.manifest import read_manifest

        return [record for path in self.train for record in read_manifest(path, check_audio=False)]
