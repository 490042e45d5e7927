"""Where families of base models register.

A family joins through one hook, the entry point group `boli.families`: a name and the `module:object` that holds it.
Third parties write it into their own pyproject.toml:

    [project.entry-points."boli.families"]
    mymodel = "mypackage.mymodel:family"

The built-in families stand in `BUILTIN`, one line each, so that the rooms also run from a clone that was never
installed. An installed clone announces them a second time, with the same object; that is no duplicate. One name with
two objects is.
"""

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from zoo.card import Card
from zoo.errors import ModelError

if TYPE_CHECKING:
    from zoo.interface import BaseModel

GROUP = "boli.families"

BUILTIN = {
    "espnet": "zoo.espnet_family:family",
    "owsm": "zoo.owsm_family:family",
    "whisper": "zoo.whisper_family:family",
}


@runtime_checkable
class Family(Protocol):
    """The code that knows one kind of base model.

    One more member is optional: `verifies_pickles = True` says that the family reads pickled weights with
    `weights_only` and checks every key itself. Without it the zoo refuses them.
    """

    name: str

    def matches(self, folder: Path) -> bool:
        """Does `folder` hold a model of this family? Reads small files only, never weights."""

    def card(self, folder: Path, name: str) -> Card:
        """Describe the model in `folder` under the name `name`. Raises ModelError where it is incomplete."""

    def load(
        self,
        folder: Path,
        card: Card,
        *,
        device: str,
        dtype: str,
        context: str | None,
        tap: int | None,
        quantize: str | None,
    ) -> "BaseModel": ...


def targets() -> dict[str, str]:
    """Name of every registered family -> its `module:object`. Imports none of them.

    Raises ModelError when two packages claim one name.
    """
    found = dict(BUILTIN)
    for entry in entry_points(group=GROUP):
        if found.setdefault(entry.name, entry.value) != entry.value:
            raise ModelError(
                f"Family {entry.name!r} is registered twice: as {found[entry.name]} and as {entry.value}",
                valid=f"one object for each name in the entry point group {GROUP}",
                remedy=f"pip uninstall {_distribution(entry)}",
            )
    return found


def family(name: str) -> Family:
    """The family registered as `name`. Raises ModelError for an unknown name or one that cannot be imported."""
    known = targets()
    if name not in known:
        raise ModelError(
            f"No family is called {name!r}",
            valid=", ".join(sorted(known)),
            remedy="boli zoo list --families",
        )
    module, _, attribute = known[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"Family {name!r} is registered as {known[name]}, which cannot be imported: {error}",
            valid="module:object, importable",
            remedy=f'python -c "import {module}"  (it shows the full reason)',
        ) from error


def family_of(folder: Path) -> Family | None:
    """The family whose files lie in `folder`, None where no family knows them.

    Raises ModelError when several do: a guess would load the wrong network.
    """
    matching = [candidate for candidate in map(family, sorted(targets())) if candidate.matches(folder)]
    if len(matching) > 1:
        names = ", ".join(candidate.name for candidate in matching)
        raise ModelError(
            f"{folder} is claimed by several families: {names}",
            valid="one family for a folder",
            remedy=f"boli zoo pull {folder.name} --from {folder} --family {matching[0].name}",
        )
    return matching[0] if matching else None


def _distribution(entry) -> str:
    return entry.dist.name if entry.dist is not None else "one of the two packages"
