"""What a report is made from: loaded when a section first asks for it, and shared by all."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.cache import Cache
from analysis.inputs import Choice, load_base, read_clips

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
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
        """All that are meant, but those trained on a share of the data: they belong to the section on transfer."""
        from analysis.deltas import of_stored
        from analysis.hearing import is_few_shot
        from analysis.inputs import choose, open_store

        found = choose(open_store(self.choice.store), self.choice)
        return of_stored([stored for stored in found if not is_few_shot(stored)] or found)

    @cached_property
    def comparable(self) -> "Adapters":
        """Those of `adapters` that touch the same sites, the most frequent choice of sites."""
        from analysis.deltas import of_stored

        sites = [frozenset(stored.record.update_norms) for stored in self.adapters.stored]
        usual = max(sites, key=lambda each: (sites.count(each), len(each)))
        left = [stored for stored, own in zip(self.adapters.stored, sites, strict=True) if own != usual]
        if not left:
            return self.adapters
        kept = of_stored([stored for stored in self.adapters.stored if stored not in left], verify=False)
        names = ", ".join(self.adapters.labels[stored.name] for stored in left)
        return replace(kept, notes=(*kept.notes, f"left out, since they touch other sites: {names}"))

    @cached_property
    def served(self) -> "list[StoredAdapter]":
        """One a language, as the router chooses."""
        from analysis.hearing import one_a_language

        return one_a_language(self.adapters.stored)

    @cached_property
    def served_and_twins(self) -> "list[StoredAdapter]":
        """`served`, and their like of another seed: the ceiling of what can be alike."""
        from analysis.similarity import two_seeds_of

        every = self.adapters.stored
        pairs = [{every[i], every[j]} for i, j in two_seeds_of(every)]
        twins = set().union(*(pair for pair in pairs if pair & set(self.served)))
        return [stored for stored in every if stored in twins or stored in self.served]

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
