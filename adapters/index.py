"""The index of a store: which versions there are, kept in memory and in `index.json`, which may be deleted at any time.

The folders are the truth. Whether they changed is seen from one modification time, that of `.staging`, out of and into
which every publish and removal renames. A store without `.staging` (one that was cloned or copied) is walked each time.
"""

import json
import os
import threading
import time
import uuid
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from adapters.staging import STAGING

INDEX, RECORD = "index.json", "record.json"
DEPTH = 5  # base, language, rank, variant, version
RACY_NS = 2_000_000_000  # two changes within a file system's clock tick have one time: younger than this, look again
NO_RECORD = (0, 0, 0)
_FORMAT = 1


class StoreWarning(UserWarning):
    """Part of a store cannot be used; the rest can."""


class Entry(NamedTuple):
    """One version folder."""

    path: str
    """Relative to the store: `<base>/<language>/r<rank>/<variant>/<version>`."""
    mark: tuple[int, int, int]
    """Modification time (ns), size and inode of its record."""
    created: str
    problem: str = ""
    """Why it cannot be used; empty where it can."""


class Index:
    """folder: the store. read: gives `created` of a version folder, or raises ValueError with what is wrong with it."""

    def __init__(self, folder: Path, read: Callable[[Path], str]):
        self._folder, self._read = folder, read
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._known = False
        """Whether the entries were ever read."""
        self._paths: list[str] = []
        self._changed: int | None = None
        self._settled = False
        self._warned: set[tuple[str, str]] = set()

    def entries(self, prefix: str = "") -> list[Entry]:
        """Usable versions whose path begins with `prefix`, by path. Warns of the others, once each."""
        with self._lock:
            self._refresh()
            start = bisect_left(self._paths, prefix)
            found = []
            for entry in self._entries[start:]:
                if not entry.path.startswith(prefix):
                    break
                found.append(entry)
        for entry in found:
            if entry.problem and (entry.path, entry.problem) not in self._warned:
                self._warned.add((entry.path, entry.problem))
                warnings.warn(f"{self._folder / entry.path} is left out: {entry.problem}", StoreWarning, stacklevel=4)
        return [entry for entry in found if not entry.problem]

    def problems(self) -> list[Entry]:
        """Version folders that cannot be used."""
        with self._lock:
            self._refresh()
            return [entry for entry in self._entries if entry.problem]

    def rebuild(self) -> int:
        """Forget all and read every record anew; returns how many versions can be used."""
        with self._lock:
            (self._folder / INDEX).unlink(missing_ok=True)
            for path in self._folder.glob(f".{INDEX}.*"):
                path.unlink(missing_ok=True)  # of a process that was killed while it wrote one
            self._scan({})
            return sum(not entry.problem for entry in self._entries)

    def _refresh(self) -> None:
        changed = self._stamp()
        if self._known and self._settled and changed == self._changed:
            return
        known = {entry.path: entry for entry in self._entries}
        if not self._known:
            stored, seen, settled = self._load()
            if settled and changed is not None and seen == changed:
                self._keep(stored, changed, True)
                return
            known = {entry.path: entry for entry in stored}
        self._scan(known)

    def _scan(self, known: dict[str, Entry]) -> None:
        changed, started = self._stamp(), time.time_ns()
        entries = []
        for path, mark in versions(self._folder):
            entry = known.get(path)
            if entry is None or entry.mark != mark:
                entry = self._describe(path, mark)
            if entry is not None:
                entries.append(entry)
        entries.sort(key=lambda entry: entry.path)
        settled = changed is not None and started - changed > RACY_NS
        if changed is not None and (entries != list(known.values()) or (settled and not self._settled)):
            self._save(entries, changed, settled)
        self._keep(entries, changed, settled)

    def _describe(self, path: str, mark: tuple[int, int, int]) -> Entry | None:
        if mark == NO_RECORD:
            return Entry(path, mark, "", f"it holds no {RECORD}")
        try:
            return Entry(path, mark, self._read(self._folder / path))
        except FileNotFoundError:
            return None  # removed while we looked
        except ValueError as error:
            return Entry(path, mark, "", str(error))

    def _keep(self, entries: list[Entry], changed: int | None, settled: bool) -> None:
        self._entries, self._paths = entries, [entry.path for entry in entries]
        self._changed, self._settled, self._known = changed, settled, True

    def _stamp(self) -> int | None:
        try:
            return os.stat(self._folder / STAGING).st_mtime_ns
        except OSError:
            return None

    def _load(self) -> tuple[list[Entry], int | None, bool]:
        try:
            content = json.loads((self._folder / INDEX).read_text(encoding="utf-8"))
            if content["format"] != _FORMAT:
                raise ValueError(content["format"])
            entries = [
                Entry(path, tuple(mark), created, problem) for path, mark, created, problem in content["entries"]
            ]
            return sorted(entries, key=lambda entry: entry.path), int(content["changed"]), bool(content["settled"])
        except (OSError, ValueError, KeyError, TypeError):
            return [], None, False

    def _save(self, entries: list[Entry], changed: int, settled: bool) -> None:
        rows = [[entry.path, list(entry.mark), entry.created, entry.problem] for entry in entries]
        content = {"format": _FORMAT, "changed": changed, "settled": settled, "entries": rows}
        temporary = self._folder / f".{INDEX}.{uuid.uuid4().hex}"
        try:
            temporary.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
            os.replace(temporary, self._folder / INDEX)
        except OSError:  # a store that is read-only or full works without
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass


def versions(store: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Relative path and record's mark of every version folder."""
    pending = [("", 0)]
    while pending:
        path, depth = pending.pop()
        try:
            with os.scandir(store / path) as entries:
                names = [
                    entry.name for entry in entries if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed while we looked
        for name in names:
            below = f"{path}/{name}" if path else name
            if depth < DEPTH - 1:
                pending.append((below, depth + 1))
                continue
            try:
                status = os.stat(f"{store}/{below}/{RECORD}")
                yield below, (status.st_mtime_ns, status.st_size, status.st_ino)
            except FileNotFoundError:
                if os.path.isdir(f"{store}/{below}"):
                    yield below, NO_RECORD
