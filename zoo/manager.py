"""The manager: which models there are, where their files lie, and pulling and removing them.

Loading never uses the network. Pulling stages, checks, records and then renames, so that at any moment a model's
folder is whole or is not there; see zoo.cache for the places.
"""

import difflib
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as remembered
from pathlib import Path

import filelock

from zoo import arrivals, cache, checksum, lock, pickles, registry
from zoo.cache import Entry, Manifest
from zoo.card import Card
from zoo.errors import ModelError
from zoo.progress import Progress, Silent
from zoo.sources import Request, builtin, espnet_table, parse, source

CARDS = Path(__file__).parent / "cards"


@remembered
def cards() -> dict[str, Card]:
    """Name -> Card of the models that boli knows by name. Raises ModelError for a broken or doubled card."""
    found: dict[str, Card] = {}
    for file in sorted(CARDS.glob("*.json")):
        for data in json.loads(file.read_text(encoding="utf-8")):
            card = Card.from_dict(data)
            if card.name in found:
                raise ModelError(
                    f"Two cards are called {card.name!r}", valid="one card for a name", remedy=f"edit {file}"
                )
            found[card.name] = card
    return found


def find(name: str) -> Entry | None:
    """The version of `name` in the cache that `load` would take, None where there is none.

    `name@revision` asks for one revision (a commit or its beginning, or the branch or tag it was pulled by). Else the
    project's lock decides, else the card's pinned revision, else the newest pull.
    """
    name, _, revision = name.partition("@")
    found = list(cache.entries(name))
    if revision:
        return next((e for e in found if revision == e.manifest.requested or _begins(e, revision)), None)
    if pin := lock.read().get(name):
        return next((e for e in found if e.version == pin.version), None)
    pinned = _pinned(cards()[name]) if name in cards() else ""
    if pinned:
        return next((e for e in found if e.manifest.revision == pinned), None) or next(
            (e for e in found if not e.manifest.source.startswith(("hub:", "builtin:"))), None
        )
    return next(iter(found), None)


def _pinned(card: Card) -> str:
    scheme, _, location = card.source.partition(":")
    return builtin.revision(location) if scheme == "builtin" else card.revision


def _begins(entry: Entry, revision: str) -> bool:
    return len(revision) >= 7 and (entry.version.startswith(revision) or entry.manifest.revision.startswith(revision))


def resolve(name: str) -> tuple[Card, Path]:
    """Card and folder of a model, its files verified. No network; a built-in model is made when it is not there yet.

    name: a card, `name@revision`, a hub id that was pulled, a local folder, or a local archive, which is unpacked into
    the cache once.
    Raises ModelError when it is unknown, not pulled, damaged, or not what the project's lock pins.
    """
    plain = name.partition("@")[0]
    known = cards().get(plain)
    if known is not None and known.source.startswith("repo:"):
        return _in_place(known)
    folder = Path(name).expanduser()
    if not cache.is_name(plain) and not folder.exists() and (row := espnet_table.find(plain)):
        return resolve(row.name)
    if known is None and (name.startswith((".", "/", "~")) or not cache.is_name(plain)):
        if folder.is_file():
            return _unpacked(folder.resolve())
        if not folder.is_dir():
            raise ModelError(
                f"{name} is no folder", valid="a folder with a model's files, or a name", remedy="boli zoo list"
            )
        return _local(folder.resolve(), name)
    entry = find(name)
    if entry is None and known is None and plain not in lock.read():
        if folder.is_dir():
            return _local(folder.resolve(), name)
        if folder.is_file():
            return _unpacked(folder.resolve())
    if entry is None and known is not None and known.source.startswith("builtin:"):
        pull(plain)
        entry = find(name)
    if entry is None:
        raise _not_pulled(name)
    verify_entry(entry)
    return _card(entry), entry.folder


def _card(entry: Entry) -> Card:
    """The card boli ships where it has one (its tap may be measured since the pull), with what was really pulled."""
    card = cards().get(entry.name, entry.card)
    manifest = entry.manifest
    return replace(
        card,
        source=manifest.source,
        revision=manifest.revision,
        files=dict(manifest.files),
        size_bytes=manifest.size_bytes,
    )


def _in_place(card: Card) -> tuple[Card, Path]:
    scheme, location = parse(card.source)
    folder = source(scheme).fetch(Request(card.name, scheme, location), Path()).folder
    seen = cache.verified_file(card.name, "repository")
    if damages := checksum.damages(folder, card.files, seen):
        raise ModelError(
            f"{card.name} is damaged: {damages[0]}",
            valid="the files as they are in the repository",
            remedy=f"git checkout -- {location}",
        )
    return card, folder


def _local(folder: Path, name: str) -> tuple[Card, Path]:
    family = registry.family_of(folder)
    if family is None:
        raise arrivals.no_family(name, folder)
    return family.card(folder, name), folder


def _unpacked(archive: Path) -> tuple[Card, Path]:
    """An archive's content, called by its stem and the beginning of its sha256, so that a changed archive is another
    model and a moved one is the same."""
    stem = cache.suggested(archive.name)
    seen = cache.verified_file(f"{stem}-{hashlib.sha256(str(archive).encode()).hexdigest()[:12]}", "archive")
    digest = checksum.sha256_once(archive, seen)
    name = f"{stem}-{digest[:12]}"
    entry = next(cache.entries(name), None)
    if entry is None or entry.damages(full=False):
        entry = pull(name, Options(origin=f"file:{archive}", sha256=digest))
    verify_entry(entry)
    return _card(entry), entry.folder


def _not_pulled(name: str) -> ModelError:
    plain, _, revision = name.partition("@")
    pulled = sorted({entry.name for entry in cache.entries()})
    asked = f"boli zoo pull {plain}" + (f" --revision {revision}" if revision else "")
    pins = lock.read()
    if plain in cards() or plain in pulled or plain in pins or espnet_table.find(plain):
        what = f"{name} is not in the cache {cache.home()}"
        if plain in pins and not revision:
            what += f" at the revision that {lock.path()} pins"
        return ModelError(what, valid=f"pulled: {', '.join(pulled) or 'none'}", remedy=asked)
    close = difflib.get_close_matches(plain, [*cards(), *pulled], n=3, cutoff=0.75)
    if close:
        remedy = f"boli zoo {'show' if close[0] in pulled else 'pull'} {close[0]}"
    else:
        remedy = asked if "/" in plain else "boli zoo list"
    return ModelError(
        f"No model is called {name!r}{'; close: ' + ', '.join(close) if close else ''}",
        valid=", ".join(sorted({*cards(), *pulled})) + ", or a folder",
        remedy=remedy,
    )


def verify_entry(entry: Entry, full: bool = False) -> None:
    """Raises ModelError when a pulled model's files are not what was recorded, or not what the lock pins.

    full: read every byte; else what is unchanged since the last reading (size, time, inode) is trusted.
    """
    if damages := entry.damages(full):
        raise ModelError(
            f"{entry.name} in {entry.folder} is damaged: {'; '.join(damages[:3])}",
            valid="the files as they were pulled",
            remedy=f"boli zoo pull {entry.name}  (it replaces a damaged copy)",
        )
    pin = lock.read().get(entry.name)
    if pin and pin.version == entry.version and (found := lock.differences(pin, entry.manifest.files)):
        raise ModelError(
            f"{entry.name} is not what {lock.path()} pins: {'; '.join(found[:3])}",
            valid=f"version {pin.version} with the pinned sha256 of every file",
            remedy=f"boli zoo lock {entry.name}  (if the copy in the cache is the right one)",
        )


@dataclass(frozen=True)
class Options:
    """How to pull. Each field's text serves as the help of the option of the same name."""

    origin: str = ""
    """Take the files from here instead: hub:ORGANISATION/MODEL, a folder, an archive, an http(s) address."""
    revision: str = ""
    """Branch, tag or commit of a hub model; by default what the lock or the card pins, else the newest."""
    sha256: str = ""
    """Expected sha256 of the archive."""
    family: str = ""
    """Family of the model, where its files do not tell."""
    update: bool = False
    """Ask the source again although a version is in the cache."""


def pull(name: str, options: Options = Options(), progress: Progress | None = None) -> Entry:
    """Bring a model into the cache, or see that the copy there is whole, and mend it where it is not.

    name: a card, a hub id, or with `options.origin` any name. Raises ModelError; what was downloaded until then is
    kept, and the next call goes on from it.
    """
    progress = progress or Silent()
    request, card, pin, options = _wanted(name, options, progress)
    name = request.name
    entry = _present(request, options)
    if entry is not None and not entry.damages(full=True):
        return entry
    try:
        with _held(name, progress):
            entry = _present(request, options)
            if entry is not None:
                damages = entry.damages(full=True)
                if not damages:
                    return entry
                progress.say(f"{name} is damaged ({damages[0]}); pulling it anew")
            return _pull(request, card, pin, options)
    except OSError as error:
        if cache.is_full(error):
            raise cache.full_disk(name, str(error)) from error
        raise ModelError(
            f"{name} cannot be written to the cache {cache.home()}: {error}",
            valid="a BOLI_HOME that you may write to",
            remedy=f"BOLI_HOME=FOLDER boli zoo pull {name}  (another folder)",
        ) from error


@contextmanager
def _held(name: str, progress: Progress) -> Iterator[None]:
    """One pull of a model at a time on this machine. Two would be right too, but would download twice."""
    file = cache.lock_file(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(file)
    try:
        held.acquire(timeout=0.1)
    except filelock.Timeout:
        progress.say(f"another process is pulling {name}; waiting for it")
        held.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        held.release()


def _wanted(name: str, options: Options, progress: Progress) -> tuple[Request, Card | None, lock.Pin | None, Options]:
    if "@" in name and not options.revision and cache.is_name(name.partition("@")[0]):
        name, _, revision = name.partition("@")
        options = replace(options, revision=revision)
    card = cards().get(name)
    pin = lock.read().get(name)
    if options.origin:
        text = options.origin
    elif pin is not None:
        text = pin.source
    elif card is not None:
        text = card.source
    else:
        known = next(cache.entries(name), None) if cache.is_name(name) else None
        text = known.manifest.source if known is not None else name
    if options.revision or options.origin or options.update:
        pin = None
    scheme, location = parse(text)
    if source(scheme).IN_PLACE:
        raise ModelError(
            f"{name} is used where it lies and is never pulled",
            valid="any other model",
            remedy=f"boli zoo verify {name}",
        )
    if not options.origin and card is None and pin is None and text == name and scheme not in ("hub", "espnet"):
        raise ModelError(
            f"{name} is where a model comes from; it needs a name too",
            valid="boli zoo pull NAME --from SOURCE",
            remedy=f"boli zoo pull {cache.suggested(location)} --from {name}",
        )
    if scheme in ("hub", "espnet") and text == name:
        name = location
    cache.slug(name)
    revision = options.revision or (pin.revision if pin else "")
    if not revision and card is not None and not options.origin and not options.update:
        revision = card.revision
    if scheme == "hub" and "@" in location and not revision:
        location, _, revision = location.partition("@")
    request = Request(name, scheme, location, revision, options.sha256, progress=progress)
    return request, card, pin, options


def _present(request: Request, options: Options) -> Entry | None:
    """The version in the cache that this pull asks for; None where the source has to be asked."""
    if options.update:
        return None
    entry = find(f"{request.name}@{options.revision}" if options.revision else request.name)
    if options.origin:
        entry = next((e for e in cache.entries(request.name) if e.manifest.source == request.source), None)
    if entry is not None and options.family not in ("", entry.card.family):
        return None
    return entry


def _pull(request: Request, card: Card | None, pin: lock.Pin | None, options: Options) -> Entry:
    staging = cache.staging_folder(request.name)
    staging.mkdir(parents=True, exist_ok=True)
    family = card.family if card is not None else options.family
    if family:
        request = replace(request, pickles=getattr(registry.family(family), "verifies_pickles", False))
    fetched = source(request.scheme).fetch(request, staging)
    card = arrivals.described(request, card, family, fetched)
    sums = {}
    for path in sorted(fetched.folder.rglob("*")):
        if path.is_file() and path.name != cache.MANIFEST:
            name = path.relative_to(fetched.folder).as_posix()
            if path.suffix == ".safetensors":
                pickles.check_safetensors(path, request.name)
            sums[name] = fetched.sha256.get(name) or checksum.sha256(path)
    arrivals.compare(request, card, pin, fetched, sums)
    if said := arrivals.said_of_copy(request, card, fetched, sums):
        request.progress.say(said)
    size = sum((fetched.folder / name).stat().st_size for name in sums)
    card = replace(card, source=request.source, revision=fetched.revision, files=sums, size_bytes=size)
    version = fetched.revision if request.scheme == "hub" else f"sha256-{checksum.tree_digest(sums)[:16]}"
    manifest = Manifest(card.to_dict(), request.source, fetched.revision, options.revision, sums, size, time.time())
    entry = cache.publish(fetched.folder, request.name, version, manifest)
    if entry.manifest is manifest:
        checksum.remember(entry.folder, sums, cache.verified_file(entry.name, version))
    cache.discard(staging)
    return entry


def remove(name: str) -> int:
    """Remove all versions of a model, or with `name@revision` one. Returns the bytes freed.

    Raises ModelError when none is in the cache.
    """
    plain, _, revision = name.partition("@")
    found = [
        e for e in cache.entries(plain) if not revision or _begins(e, revision) or revision == e.manifest.requested
    ]
    if not found:
        raise ModelError(
            f"{name} is not in the cache {cache.home()}",
            valid=", ".join(sorted({entry.name for entry in cache.entries()})) or "nothing is pulled",
            remedy="boli zoo list --pulled",
        )
    freed = 0
    for entry in found:
        freed += cache.discard(entry.folder)
        cache.verified_file(entry.name, entry.version).unlink(missing_ok=True)
    return freed
