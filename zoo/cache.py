"""The cache of pulled models on disk.

    BOLI_HOME/models/<name>/<version>/   the model's files and boli.json, their record; appears by one rename
    BOLI_HOME/staging/<name>@<host>/     a pull under way, or what an interrupted one left to go on from
    BOLI_HOME/trash/                     what is being removed
    BOLI_HOME/verified/                  which files were already checked (a cache; may be deleted)
    BOLI_HOME/locks/                     held during a pull; a killed process leaves none behind

`<name>` has `--` for `/`. Staging belongs to one host: on network file systems where locks do not hold between hosts,
each stages for itself, and the renames decide. Nothing under models/ is ever written in place: a folder there is whole,
or it is not there.
"""

import errno
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from zoo import checksum
from zoo.card import Card
from zoo.errors import ModelError

MANIFEST = "boli.json"
FORMAT = 1
HOST = socket.gethostname()
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*\w)?(/[A-Za-z0-9](?:[\w.-]*\w)?)?", re.ASCII)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def home() -> Path:
    """`BOLI_HOME`, by default ~/.cache/boli."""
    return Path(os.environ.get("BOLI_HOME") or "~/.cache/boli").expanduser().absolute()


def slug(name: str) -> str:
    """Folder name of a model. Raises ModelError for a name that could not be turned back, or that is a path."""
    if not is_name(name):
        raise ModelError(
            f"{name!r} cannot be the name of a model",
            valid="letters, digits, '.', '_', single '-' and at most one '/'",
            remedy="boli zoo pull NAME --from SOURCE  (it gives the model a name of your own)",
        )
    return name.replace("/", "--")


class DiskFullError(ModelError):
    """There is no room; what was downloaded so far is kept."""


def is_name(text: str) -> bool:
    """Could this be the name of a model?"""
    return bool(_NAME.fullmatch(text)) and "--" not in text and ".." not in text


def suggested(location: str) -> str:
    """A name for a model that comes from `location`."""
    stem = Path(location.partition("#")[0].partition("?")[0].rstrip("/")).name
    stem = re.sub(r"(\.(tar|tgz|gz|bz2|xz|zip))+$", "", stem)
    stem = re.sub(r"[^\w.]+", "-", stem, flags=re.ASCII)
    return re.sub(r"\.{2,}", ".", stem).strip("-._") or "my-model"


@dataclass(frozen=True)
class Manifest:
    """Record of one pulled model, written beside its files."""

    card: dict
    source: str
    revision: str
    """What the source calls this state: a commit, or empty."""
    requested: str
    """The revision that was asked for: `main`, a tag, empty."""
    files: dict[str, str]
    """File name -> sha256."""
    size_bytes: int
    pulled: float
    """Seconds since 1970."""
    format: int = FORMAT

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises ModelError when there is none, or it is damaged."""
        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            manifest = cls(**{f.name: content[f.name] for f in fields(cls)})
            if manifest.format != FORMAT:
                raise ValueError(f"format {manifest.format}, known is {FORMAT}")
            Card.from_dict(manifest.card)
            return manifest
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{folder} has no readable {MANIFEST} ({type(error).__name__}: {error})",
                valid="a folder that `boli zoo pull` made",
                remedy="boli zoo gc  (it removes folders without a record), then pull the model again",
            ) from None


@dataclass(frozen=True)
class Entry:
    """One version of one model in the cache."""

    name: str
    version: str
    folder: Path
    manifest: Manifest

    @property
    def card(self) -> Card:
        return Card.from_dict(self.manifest.card)

    def damages(self, full: bool) -> list[str]:
        """What is wrong with its files. full: read every byte, and name files that nobody recorded."""
        seen = verified_file(self.name, self.version)
        if not full:
            return checksum.damages(self.folder, self.manifest.files, seen)
        found = checksum.damages(self.folder, self.manifest.files)
        if found:
            seen.unlink(missing_ok=True)
        present = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}
        return found + [
            f"{name} was not there when it was pulled"
            for name in sorted(present - set(self.manifest.files) - {MANIFEST})
        ]


def verified_file(name: str, version: str) -> Path:
    return home() / "verified" / f"{slug(name)}--{version}.json"


def lock_file(name: str) -> Path:
    return home() / "locks" / f"{slug(name)}.lock"


def staging_folder(name: str) -> Path:
    return home() / "staging" / f"{slug(name)}@{HOST}"


def entries(name: str | None = None) -> Iterator[Entry]:
    """All readable versions in the cache, of one model or of all, newest pull first."""
    models = home() / "models"
    folders = [models / slug(name)] if name else sorted(models.glob("*"))
    found = []
    for model in folders:
        for folder in sorted(model.glob("*")):
            try:
                found.append(Entry(model.name.replace("--", "/"), folder.name, folder, Manifest.read(folder)))
            except ModelError:
                continue  # `unreadable` lists these; loading one is never attempted
    yield from sorted(found, key=lambda entry: -entry.manifest.pulled)


def unreadable() -> list[Path]:
    """Folders where a version should be, without a readable record."""
    known = {entry.folder for entry in entries()}
    return [folder for folder in sorted((home() / "models").glob("*/*")) if folder not in known]


def publish(folder: Path, name: str, version: str, manifest: Manifest) -> Entry:
    """Make the files in `folder` the version `version` of `name`, by one rename.

    A whole version that is already there stays and is returned. One that is damaged, or recorded under another family
    or source, is replaced; killed between the two renames, it is gone, which is not damage.
    """
    record = folder / MANIFEST
    record.write_text(_text(manifest), encoding="utf-8")
    for file in manifest.files:  # safetensors writes files that only their owner may read; a cache may be shared
        (folder / file).chmod(record.stat().st_mode)
    _sync_tree(folder)
    target = home() / "models" / slug(name) / version
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            folder.rename(target)
        except OSError as error:
            # also where a network file system reports the failure of a rename that it has made
            existing = _readable(name, version, target)
            if existing is not None and _same(existing.manifest, manifest) and not existing.damages(full=True):
                return existing
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            discard(target)
            continue
        _sync_folder(target.parent)
        return Entry(name, version, target, manifest)


def _text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n"


def _same(a: Manifest, b: Manifest) -> bool:
    """The same but for when, and by which branch or tag, it was pulled."""
    return _text(replace(a, pulled=0, requested="")) == _text(replace(b, pulled=0, requested=""))


def _readable(name: str, version: str, folder: Path) -> Entry | None:
    try:
        return Entry(name, version, folder, Manifest.read(folder))
    except ModelError:
        return None


def discard(path: Path) -> int:
    """Remove a file or folder: out of sight by one rename, then deleted. Returns the bytes freed."""
    freed = size(path)
    trash = home() / "trash" / uuid.uuid4().hex
    trash.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(trash)
    except FileNotFoundError:
        return 0
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash, ignore_errors=True)
    else:
        trash.unlink(missing_ok=True)
    return freed


def size(path: Path) -> int:
    """Bytes of a file, or of all files under a folder."""
    if not path.is_dir():
        return path.lstat().st_size if path.exists() else 0
    total = 0
    for file in path.rglob("*"):
        try:
            total += file.lstat().st_size if not file.is_dir() else 0
        except FileNotFoundError:
            continue  # another process is removing it
    return total


def require_space(needed: int, folder: Path, what: str) -> None:
    """Raises ModelError when `folder`'s disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise full_disk(what, f"it needs {needed:,} bytes more and {folder} has {free:,} free")


def is_full(error: OSError) -> bool:
    return error.errno in _FULL


def full_disk(what: str, why: str) -> DiskFullError:
    return DiskFullError(
        f"The disk is too full for {what}: {why}",
        valid="a BOLI_HOME with enough room",
        remedy="boli zoo gc --all  (or set BOLI_HOME to a folder on a larger disk), then pull again",
    )


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
