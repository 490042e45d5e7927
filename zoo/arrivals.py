"""What a source brought: is it a model, which family's, and the one that was asked for?"""

from pathlib import Path

from zoo import cache, faster_whisper, lock, pickles, registry
from zoo.card import Card
from zoo.errors import ModelError
from zoo.sources import Fetched, Request


def described(request: Request, card: Card | None, wanted: str, fetched: Fetched) -> Card:
    """The model's card. Removes pickles that stand beside safetensors. Raises ModelError where no family fits.

    card: the one boli has, if any. wanted: the family it names, or that was asked for; empty: the files decide.
    """
    folder, name = fetched.folder, request.name
    family = registry.family(wanted) if wanted else registry.family_of(folder)
    found = [] if getattr(family, "verifies_pickles", False) else pickles.pickled(folder)
    if found and not list(folder.rglob("*.safetensors")):
        names = [path.relative_to(folder).as_posix() for path in found]
        inside = request.location if request.scheme == "folder" else "FOLDER"
        unpack = "" if request.scheme == "folder" else "unpack it into FOLDER, then "
        raise pickles.refusal(name, names, f"{unpack}cd {inside}")
    for path in found:
        path.unlink()
    if family is None:
        raise no_family(request.source, folder)
    if wanted and not family.matches(folder):
        raise ModelError(
            f"{request.source} is no model of the family {family.name!r}",
            valid=", ".join(sorted(registry.targets())),
            remedy=f"boli zoo pull {cache.suggested(request.location)}-copy --from {request.source}"
            "  (under a name of its own, and without --family, its files decide)",
        )
    return card if card is not None else family.card(folder, name)


def no_family(what: str, folder: Path) -> ModelError:
    if faster_whisper.matches(folder):
        return ModelError(
            f"{what} is a copy for faster-whisper",
            valid="one that was pulled, which converts it",
            remedy=f"boli zoo pull NAME --from {folder}",
        )
    names = sorted(path.name for path in folder.iterdir())
    inside = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    return ModelError(
        f"No family knows the files of {what} ({inside or 'it is empty'})",
        valid=f"a model of {', '.join(sorted(registry.targets()))}, with its config.json or meta.yaml",
        remedy="install the package that brings its family (entry point group boli.families), then try again",
    )


def compare(request: Request, card: Card, pin: lock.Pin | None, fetched: Fetched, sums: dict[str, str]) -> None:
    """Raises ModelError when the files are not those of the lock, or of the card at its own revision."""
    if pin is not None and (found := lock.differences(pin, sums)):
        raise ModelError(
            f"{request.source} no longer gives what {lock.path()} pins: {'; '.join(found[:3])}",
            valid=f"version {pin.version}",
            remedy=f"boli zoo pull {request.name} --update && boli zoo lock {request.name}"
            "  (if the new state is wanted)",
        )
    if card.revision and card.revision == fetched.revision:
        for name in sorted(set(card.files) & set(sums)):
            if card.files[name] != sums[name]:
                raise ModelError(
                    f"{name} of {request.source} has sha256 {sums[name]}",
                    valid=f"{card.files[name]}, as the card of {card.name} says",
                    remedy=f"unset HF_ENDPOINT; boli zoo pull {request.name}  (the hub it came from gives other files)",
                )


def said_of_copy(request: Request, card: Card, fetched: Fetched, sums: dict[str, str]) -> str:
    """Whether a copy that lay on this machine has the weights that its card names; empty where nothing can be said."""
    weights = sorted(name for name in set(card.files) & set(sums) if name.endswith(".safetensors"))
    if request.scheme != "folder" or not weights or card.revision == fetched.revision:
        return ""
    other = [name for name in weights if card.files[name] != sums[name]]
    if other:
        return f"{', '.join(other)} is not what {card.name} has at revision {card.revision[:12]}"
    return f"{', '.join(weights)} has the sha256 of {card.name} at revision {card.revision[:12]}"
