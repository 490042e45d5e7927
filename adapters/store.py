"""The store: a folder of adapters.

`STORE/<base>/<language>/r<rank>/<variant>/<version>/` holds PEFT's two files and our `record.json`. The version is
derived from the content, so publishing the same adapter twice is one version. Publishing is atomic (stage in a sibling
folder, fsync, rename) and rests on no lock. `index.json` is a cache of the records; it can be deleted at any time.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS, LoraWeights, read_weights
from adapters.record import Record
from zoo.checksum import sha256
from zoo.errors import AdapterError, StoreError

RECORD = "record.json"
STAGING = ".staging"
INDEX = "index.json"


@dataclass(frozen=True)
class StoredAdapter:
    """One version of one adapter in a store."""

    key: AdapterKey
    version: str
    folder: Path
    record: Record

    @property
    def name(self) -> str:
        """How banks and transcripts call it: `hi:r16:default@3f2a91c0d4e7`."""
        return f"{self.key.language}:r{self.key.rank}:{self.key.variant}@{self.version}"


def content_version(weights_sha256: str, config_sha256: str, base_sha256: str = "") -> str:
    """12 hex digits that stand for the content."""
    return hashlib.sha256(f"{weights_sha256}\n{config_sha256}\n{base_sha256}".encode()).hexdigest()[:12]


class Store:
    """folder: where it lies. create: make it where it is missing; else a missing store is a StoreError."""

    def __init__(self, folder: str | Path, *, create: bool = False):
        self.folder = Path(folder)
        if create:
            self.folder.mkdir(parents=True, exist_ok=True)
        if not self.folder.is_dir():
            raise StoreError(
                f"There is no store at {folder}",
                valid="a folder of adapters",
                remedy=f"boli adapters add FOLDER --store {folder}",
            )

    # --- reading

    def all(self) -> Iterator[StoredAdapter]:
        """Every adapter version, sorted by path."""
        for path, record in sorted(self._records().items()):
            yield self._stored(path, record)

    def find(
        self,
        *,
        base: str | None = None,
        language: str | None = None,
        rank: int | None = None,
        variant: str | None = None,
    ) -> list[StoredAdapter]:
        """Those that match every given part, newest last."""
        wanted = {"base": base, "language": language, "rank": rank, "variant": variant}
        found = [
            stored
            for stored in self.all()
            if all(value is None or getattr(stored.key, part) == value for part, value in wanted.items())
        ]
        return sorted(found, key=lambda stored: (stored.record.created, stored.version))

    def get(self, key: AdapterKey, version: str | None = None) -> StoredAdapter:
        """One adapter, its newest version unless one is named; read from its folder, without the index."""
        parent = self.folder / key.path
        versions = sorted(parent.iterdir()) if parent.is_dir() else []
        found = [self._read(path) for path in versions if (path / RECORD).is_file() and version in (None, path.name)]
        if not found:
            near = sorted({str(stored.key) for stored in self.find(base=key.base)})
            raise AdapterError(
                f"The store {self.folder} has no adapter {key}{'@' + version if version else ''}",
                valid=", ".join(near[:8]) or f"nothing for {key.base} yet",
                remedy=f"boli adapters list --store {self.folder}",
            )
        return max(found, key=lambda stored: (stored.record.created, stored.version))

    def weights(self, stored: StoredAdapter) -> LoraWeights:
        """The tensors, after their checksum was verified."""
        self.check(stored)
        return replace(read_weights(stored.folder), name=stored.name)

    def check(self, stored: StoredAdapter) -> None:
        """Raises AdapterError where a file is not the one that was published."""
        for name, wanted in ((WEIGHTS, stored.record.weights_sha256), (CONFIG, stored.record.config_sha256)):
            path = stored.folder / name
            if not path.is_file():
                raise AdapterError(
                    f"{stored.name}: {path} is missing", remedy=f"boli adapters rm {stored.key} and publish it again"
                )
            found = sha256(path)
            if found != wanted:
                raise AdapterError(
                    f"{stored.name}: {name} has checksum {found[:12]}, its record says {wanted[:12]}: it was changed or damaged",
                    remedy=f"boli adapters rm {stored.key} and publish it again",
                )

    # --- writing

    def publish(self, key: AdapterKey, folder: str | Path, record: Record | None = None) -> StoredAdapter:
        """Add the PEFT folder under `key`; returns the stored version, also where it was there already.

        The files are copied, read back and checked before anybody can see them. Raises AdapterError for an adapter that
        could not be used, and leaves nothing behind on any error.
        """
        folder = Path(folder)
        weights = read_weights(folder)
        if key.rank != weights.rank:
            raise AdapterError(f"{folder} has rank {weights.rank}, its key says {key}", valid=f"rank {weights.rank}")
        staged = self.folder / STAGING / uuid.uuid4().hex
        try:
            staged.mkdir(parents=True)
            for name in (CONFIG, WEIGHTS):
                shutil.copyfile(folder / name, staged / name)
            weights_sha, config_sha = sha256(staged / WEIGHTS), sha256(staged / CONFIG)
            record = record or Record(key.base, key.language, key.rank, key.variant)
            record = replace(
                record,
                base=key.base,
                language=key.language,
                rank=key.rank,
                variant=key.variant,
                version=content_version(weights_sha, config_sha, record.base_sha256),
                weights_sha256=weights_sha,
                config_sha256=config_sha,
                parameters=weights.parameters,
                update_norms=weights.update_norms(),
                created=record.created or datetime.now(UTC).isoformat(timespec="seconds"),
            )
            (staged / RECORD).write_text(record.to_json(), encoding="utf-8")
            for name in (CONFIG, WEIGHTS, RECORD):
                _fsync(staged / name)
            _fsync(staged)
            return self._settle(staged, key, record)
        except OSError as error:
            raise StoreError(
                f"{key} could not be written into {self.folder}: {error.strerror or error}",
                remedy="free space, then publish again",
            ) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _settle(self, staged: Path, key: AdapterKey, record: Record) -> StoredAdapter:
        """Rename into place. A rename that fails may have worked (network file systems retry), or another job was
        first: then the checksums decide."""
        target = self.folder / key.path / record.version
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(staged, target)
        except OSError:
            if not (target / RECORD).is_file():
                raise
            there = self._read(target)
            self.check(there)
            if there.record.weights_sha256 != record.weights_sha256:
                raise StoreError(
                    f"{target} holds other weights", remedy=f"boli adapters verify --store {self.folder}"
                ) from None
            return there
        _fsync(target.parent)
        return self._read(target)

    def remove(self, stored: StoredAdapter) -> None:
        """Take one version away: out of sight in one rename, then deleted."""
        trash = self.folder / STAGING / f"rm-{uuid.uuid4().hex}"
        trash.parent.mkdir(exist_ok=True)
        os.rename(stored.folder, trash)
        shutil.rmtree(trash)
        for parent in stored.folder.parents:
            if parent == self.folder:
                break
            try:
                parent.rmdir()
            except OSError:
                break

    def reindex(self) -> int:
        """Rebuild the index from the folders; returns how many adapters it holds."""
        (self.folder / INDEX).unlink(missing_ok=True)
        return len(self._records())

    # --- the index

    def _versions(self) -> Iterator[tuple[str, Path, int]]:
        """(relative path, folder, modification time of its record) of each version on disk."""
        pending = [(self.folder, 0)]
        while pending:
            folder, depth = pending.pop()
            try:
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue  # removed while we looked
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                    continue
                if depth < 4:
                    pending.append((Path(entry.path), depth + 1))
                    continue
                try:
                    stamp = os.stat(os.path.join(entry.path, RECORD)).st_mtime_ns
                except FileNotFoundError:
                    continue
                yield os.path.relpath(entry.path, self.folder), Path(entry.path), stamp

    def _records(self) -> dict[str, Record]:
        """Relative path -> record. The folders are the truth; records already parsed are taken from the index."""
        cached = self._read_index()
        records, stamps, fresh = {}, {}, False
        for path, folder, stamp in self._versions():
            known = cached.get(path)
            if known and known["stamp"] == stamp:
                records[path] = Record.from_json(known["record"])
            else:
                records[path] = self._read(folder).record
                fresh = True
            stamps[path] = stamp
        if fresh or len(cached) != len(records):
            self._write_index(
                {path: {"stamp": stamps[path], "record": record.to_json()} for path, record in records.items()}
            )
        return records

    def _read_index(self) -> dict[str, dict]:
        try:
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
            return index if isinstance(index, dict) else {}
        except (OSError, ValueError):
            return {}

    def _write_index(self, index: dict[str, dict]) -> None:
        temporary = self.folder / f".{INDEX}.{uuid.uuid4().hex}"
        try:
            temporary.write_text(json.dumps(index), encoding="utf-8")
            os.replace(temporary, self.folder / INDEX)
        except OSError:
            temporary.unlink(missing_ok=True)  # a read-only store works without its cache

    def _read(self, folder: Path) -> StoredAdapter:
        record = Record.from_json((folder / RECORD).read_text(encoding="utf-8"), str(folder / RECORD))
        return StoredAdapter(record.key, folder.name, folder, record)

    def _stored(self, path: str, record: Record) -> StoredAdapter:
        return StoredAdapter(AdapterKey.from_path(PurePosixPath(path)), Path(path).name, self.folder / path, record)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
