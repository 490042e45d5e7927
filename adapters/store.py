"""The store: a folder of adapters.

`STORE/<base>/<language>/r<rank>/<variant>/<version>/` holds PEFT's two files and our `record.json`. The version is
derived from the content, so publishing the same adapter twice is one version. Publishing is atomic (stage in a sibling
folder, fsync, rename) and rests on no lock. `index.json` is a cache; it can be deleted at any time.
"""

import errno
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from adapters import staging
from adapters.index import DEPTH, RECORD, Index
from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS, LoraWeights, read_config, read_weights, require_safetensors
from adapters.record import Record
from zoo.checksum import sha256
from zoo.errors import AdapterError, BoliError, StoreError

_SCALING = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_REFERENCE = re.compile(
    r"((?P<base>[^:@]+):)?(?P<language>[A-Za-z-]+)(:r(?P<rank>\d+)(:(?P<variant>[^:@]+))?)?(@(?P<version>\w+))?"
)


@dataclass(frozen=True)
class StoredAdapter:
    """One version of one adapter in a store."""

    key: AdapterKey
    version: str
    folder: Path

    @property
    def name(self) -> str:
        """How banks and transcripts call it: `hi:r16:default@3f2a91c0d4e7`."""
        return f"{self.key.language}:r{self.key.rank}:{self.key.variant}@{self.version}"

    @cached_property
    def record(self) -> Record:
        """Read when it is first asked for. Raises AdapterError where it is gone or damaged."""
        path = self.folder / RECORD
        try:
            record = Record.from_json(path.read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise AdapterError(
                f"{self.name} is no longer in the store: {path} is missing",
                valid="an adapter that is there",
                remedy=f"boli adapters reindex --store {_quoted(self.folder.parents[DEPTH - 1])}",
            ) from None
        except UnicodeDecodeError as error:
            raise self._damaged(f"{RECORD} is no text: {error}") from None
        if (record.key, record.version) != (self.key, self.version):
            raise self._damaged(f"its {RECORD} belongs to {record.key}@{record.version}")
        return record

    def _damaged(self, reason: str) -> AdapterError:
        return AdapterError(
            f"{self.name} in {self.folder} is damaged: {reason}",
            valid="the files that were published",
            remedy=f"boli adapters rm {_quoted(self.folder)}, then publish or add the adapter again",
        )

    def check(self) -> None:
        """Raises AdapterError where a file is not the one that was published. Reads every byte."""
        record = self.record
        for name, wanted in ((WEIGHTS, record.weights_sha256), (CONFIG, record.config_sha256)):
            try:
                found = sha256(self.folder / name)
            except OSError as error:
                raise self._damaged(f"{name} cannot be read ({error.strerror})") from None
            if found != wanted:
                raise self._damaged(f"{name} has checksum {found[:12]}, its record says {wanted[:12]}")


def content_version(weights_sha256: str, config: dict[str, Any], base_sha256: str = "") -> str:
    """12 hex digits that stand for the content: the tensors, how they are scaled, and the base they belong to.

    What else a configuration says (paths, PEFT's version, the order of a set) differs between two runs of one job."""
    scaling = json.dumps({name: config.get(name) or None for name in _SCALING}, sort_keys=True)
    return hashlib.sha256(f"{weights_sha256}\n{scaling}\n{base_sha256}".encode()).hexdigest()[:12]


class Store:
    """folder: where it lies. create: make it where it is missing; else a missing store is a StoreError."""

    def __init__(self, folder: str | Path, *, create: bool = False):
        self.folder = Path(folder).expanduser()
        if create:
            with self._writing(f"The store {self.folder}"):
                (self.folder / staging.STAGING).mkdir(parents=True, exist_ok=True)
        if not self.folder.is_dir():
            raise StoreError(
                f"There is no store at {folder}",
                valid="a folder of adapters",
                remedy=f"boli adapters add FOLDER --language LANGUAGE --model NAME --store {_quoted(folder)}",
            )
        if not os.access(self.folder, os.R_OK | os.X_OK):
            raise StoreError(
                f"The store {folder} may not be read by this user",
                valid="a folder that you may list",
                remedy=f"chmod u+rx {_quoted(folder)}  (or ask its owner)",
            )
        self._index = Index(self.folder, self._created)
        self._known: dict[str, tuple[AdapterKey, str, Path]] = {}

    # --- reading

    def all(self) -> Iterator[StoredAdapter]:
        """Every usable adapter version, sorted by path. Those that cannot be used are named in a StoreWarning."""
        return (self._at(entry.path) for entry in self._index.entries())

    def find(
        self,
        *,
        base: str | None = None,
        language: str | None = None,
        rank: int | None = None,
        variant: str | None = None,
    ) -> list[StoredAdapter]:
        """Those that match every given part, newest last."""
        wanted = (base and base.replace("/", "--"), language, None if rank is None else f"r{rank}", variant)
        known = list(itertools.takewhile(lambda part: part is not None, wanted))
        found = []
        for entry in self._index.entries("".join(f"{part}/" for part in known)):
            parts = entry.path.split("/")
            if all(part is None or part == parts[i] for i, part in enumerate(wanted)):
                found.append((entry.created, parts[-1], entry.path))
        return [self._at(path) for _, _, path in sorted(found)]

    def get(self, key: AdapterKey, version: str | None = None) -> StoredAdapter:
        """One adapter, its newest version unless one is named; read from its folder, without the index."""
        parent = self.folder / key.path
        try:
            names = [name for name in os.listdir(parent) if name[0] != "." and version in (None, name)]
        except FileNotFoundError:
            names = []
        found, broken = [], None
        for name in names:
            stored = StoredAdapter(key, name, parent / name)
            try:
                found.append((stored.record.created, name, stored))
            except AdapterError as error:
                broken = error
        if found:
            return max(found, key=lambda item: item[:2])[2]
        if broken is not None:
            raise broken
        near = sorted({str(stored.key) for stored in self.find(base=key.base)})
        raise AdapterError(
            f"The store {self.folder} has no adapter {key}{'@' + version if version else ''}",
            valid=", ".join(near[:8]) or f"nothing for {key.base} yet",
            remedy=f"boli adapters list --store {_quoted(self.folder)}",
        )

    def select(self, text: str) -> StoredAdapter:
        """The one that `[BASE:]LANGUAGE[:rRANK[:VARIANT]][@VERSION]` means, the newest version where none is named.
        Raises AdapterError where there is none, or where several differ in more than their version."""
        listed = f"boli adapters list --store {_quoted(self.folder)}"
        match = _REFERENCE.fullmatch(text)
        if not match:
            raise AdapterError(
                f"{text!r} names no adapter", valid="hi, hi:r16:default, BASE:hi:r16:default@VERSION", remedy=listed
            )
        wanted = match.groupdict()
        version, rank = wanted.pop("version"), wanted.pop("rank")
        found = self.find(**wanted, rank=int(rank) if rank else None)
        found = [stored for stored in found if version is None or stored.version.startswith(version)]
        keys = sorted({str(stored.key) for stored in found})
        if not found or len(keys) > 1:
            what = (
                f"{len(keys)} adapters are meant by {text!r}" if found else f"The store {self.folder} has no {text!r}"
            )
            there = keys or sorted({str(stored.key) for stored in self.all()})
            raise AdapterError(what, valid=", ".join(there[:8]) or "the store is empty", remedy=listed)
        return found[-1]

    def weights(self, stored: StoredAdapter) -> LoraWeights:
        """The tensors, after their checksum was verified."""
        stored.check()
        return read_weights(stored.folder, stored.name)

    def check(self, stored: StoredAdapter) -> None:
        """Raises AdapterError where a file is not the one that was published."""
        stored.check()

    def problems(self) -> list[tuple[Path, str]]:
        """Version folders that the index leaves out, and why. Checksums are `check`'s."""
        return [(self.folder / entry.path, entry.problem) for entry in self._index.problems()]

    # --- writing

    def publish(self, key: AdapterKey, folder: str | Path, record: Record | None = None) -> StoredAdapter:
        """Add the PEFT folder under `key`; returns the stored version, also where it was there already.

        The files are copied, read back and checked before anybody can see them. Raises AdapterError for an adapter that
        could not be used, and leaves nothing behind on any error.
        """
        folder = Path(folder)
        read_config(folder)
        require_safetensors(folder)
        with self._writing(f"{key}"):
            attempts = 3
            while True:
                attempts -= 1
                staged = staging.new(self.folder)
                try:
                    return self._settle(staged, key, self._stage(staged, key, folder, record))
                except FileNotFoundError:  # another machine took our folder for a leftover: make it again
                    if not attempts:
                        raise
                finally:
                    shutil.rmtree(staged, ignore_errors=True)

    def _stage(self, staged: Path, key: AdapterKey, folder: Path, record: Record | None) -> Record:
        """Fill `staged` with all that a version holds, on disk, and checked as it lies there."""
        staged.mkdir()
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(folder / name, staged / name)
        weights = read_weights(staged, str(folder))
        if key.rank != weights.rank:
            raise AdapterError(
                f"{folder} has rank {weights.rank}, its key says {key}",
                valid=f"rank {weights.rank}",
                remedy="boli adapters add FOLDER  (it takes the rank from the weights)",
            )
        record = record or Record(key.base, key.language, key.rank, key.variant)
        weights_sha256 = sha256(staged / WEIGHTS)
        record = replace(
            record,
            base=key.base,
            language=key.language,
            rank=key.rank,
            variant=key.variant,
            version=content_version(weights_sha256, weights.config, record.base_sha256),
            weights_sha256=weights_sha256,
            config_sha256=sha256(staged / CONFIG),
            parameters=weights.parameters,
            update_norms=weights.update_norms(),
            created=record.created or datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        (staged / RECORD).write_text(record.to_json(), encoding="utf-8")
        for name in (CONFIG, WEIGHTS, RECORD):
            _fsync(staged / name)
        _fsync(staged)
        return record

    def _settle(self, staged: Path, key: AdapterKey, record: Record) -> StoredAdapter:
        """Rename into place. A rename that fails may have worked (network file systems retry), or another job was
        first: then the checksums decide. A damaged version gives way to the whole one."""
        stored = StoredAdapter(key, record.version, self.folder / key.path / record.version)
        while True:
            stored.folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(staged, stored.folder)
                break
            except OSError as error:
                if self._is_whole(stored, record):
                    return self._at(PurePosixPath(*stored.folder.parts[-DEPTH:]))
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    staging.discard(stored.folder, self.folder)
                elif error.errno != errno.ENOENT or not staged.is_dir() or stored.folder.parent.is_dir():
                    raise  # else an emptied parent was removed by `remove` meanwhile
        for parent in stored.folder.parents[:DEPTH]:
            _fsync(parent)
        return stored

    def _is_whole(self, stored: StoredAdapter, record: Record) -> bool:
        there = replace(stored)
        try:
            there.check()
        except AdapterError:
            return False
        if there.record.weights_sha256 != record.weights_sha256:
            raise StoreError(
                f"{there.folder} holds other weights under the same version",
                valid=f"weights {record.weights_sha256[:12]}",
                remedy=f"publish under another variant, or boli adapters rm {_quoted(there.folder)} first",
            )
        return True

    def remove(self, stored: StoredAdapter) -> None:
        """Take one version away: out of sight in one rename, then deleted."""
        with self._writing(f"The removal of {stored.name}"):
            staging.discard(stored.folder, self.folder)
            for parent in stored.folder.parents[: DEPTH - 1]:
                try:
                    parent.rmdir()
                except OSError:
                    break

    def clean(self) -> list[Path]:
        """Delete what killed processes left half-made; never what a live one is making. Returns what it was."""
        with self._writing("Cleaning"):
            found = staging.leftovers(self.folder)
            for path in found:
                staging.discard(path, self.folder)
            return found

    def reindex(self) -> int:
        """Clean, and rebuild the index from the folders; returns how many adapters it holds."""
        self.clean()
        with self._writing("The index"):
            (self.folder / staging.STAGING).mkdir(exist_ok=True)
            os.utime(self.folder / staging.STAGING)  # tells other processes to look again
            return self._index.rebuild()

    # --- inside

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Turns errors of the file system into a StoreError with what to do."""
        try:
            yield
        except OSError as error:
            where = error.filename2 or error.filename or self.folder
            if error.errno in _FULL:
                valid, remedy = (
                    "a disk with room",
                    f"free space where {_quoted(self.folder)} lies, then do the same again",
                )
            elif error.errno in _REFUSED:
                valid = "a store that you may write to"
                remedy = f"chmod -R u+rwX {_quoted(self.folder)}  (or name another with --store)"
            else:
                valid, remedy = "a folder on a working disk", f"ls -la {_quoted(self.folder)}"
            raise StoreError(
                f"{what} could not be written into {self.folder}: {error.strerror or error} ({where})",
                valid=valid,
                remedy=remedy,
            ) from error

    def _at(self, path: str | PurePosixPath) -> StoredAdapter:
        known = self._known.get(str(path))
        if known is None:
            where = PurePosixPath(path)
            known = self._known[str(path)] = (AdapterKey.from_path(where), where.name, self.folder / where)
        return StoredAdapter(*known)

    def _created(self, folder: Path) -> str:
        """For the index: when it was made; ValueError says what is wrong with it."""
        try:
            return self._at(PurePosixPath(*folder.parts[-DEPTH:])).record.created
        except BoliError as error:
            if not (folder / RECORD).exists():
                raise FileNotFoundError(folder) from None
            raise ValueError(str(error)) from None
        except OSError as error:
            raise ValueError(f"its {RECORD} cannot be read: {error.strerror}") from None


def _quoted(path: str | Path) -> str:
    return shlex.quote(str(path))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
