"""Checksums of files, and a cheap way to see that a file is still the one that was checked."""

import hashlib
import json
import os
from pathlib import Path

BLOCK_BYTES = 1 << 20


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_and_git(path: Path) -> tuple[str, str]:
    """sha256 and git blob id (sha1 over `blob <size>\\0` and the content) in one reading.

    A hub gives the first for large files and the second for small ones.
    """
    plain = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            plain.update(block)
            blob.update(block)
    return plain.hexdigest(), blob.hexdigest()


def tree_digest(files: dict[str, str]) -> str:
    """One sha256 over names and sha256s: two folders of equal content have the same."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def damages(folder: Path, files: dict[str, str], seen: Path | None = None) -> list[str]:
    """What is wrong with `folder`, one line for each file; empty where all files have their sha256.

    seen: a JSON file that remembers size, mtime and inode of files that were checked before, together with the sha256
    they were checked against. What is unchanged in all of these is not read again. None: every byte is read.
    """
    remembered = _read_seen(seen)
    found, checked = [], {}
    for name, expected in sorted(files.items()):
        path = folder / name
        try:
            mark = _mark(path, expected)
            if remembered.get(name) != mark:
                actual = sha256(path)
                if actual != expected:
                    found.append(f"{name} has sha256 {actual}, recorded was {expected}")
                    continue
            checked[name] = mark
        except OSError as error:
            found.append(f"{name} cannot be read: {error.strerror}")
    if seen is not None and checked != remembered:
        _write_seen(seen, checked)
    return found


def remember(folder: Path, files: dict[str, str], seen: Path) -> None:
    """Note that `files` were just checked, so that the first load does not read them again."""
    _write_seen(seen, {name: _mark(folder / name, expected) for name, expected in files.items()})


def sha256_once(path: Path, seen: Path) -> str:
    """sha256 of a file; what is unchanged in size, mtime and inode since it was written to `seen` is not read again."""
    known = _read_seen(seen).get(str(path))
    if isinstance(known, list) and len(known) == 4 and known == _mark(path, known[3]):
        return known[3]
    before = _mark(path, "")
    digest = sha256(path)
    if before == _mark(path, ""):
        _write_seen(seen, {str(path): _mark(path, digest)})
    return digest


def md5(path: Path) -> str:
    """For archives whose server tells no better checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _mark(path: Path, expected: str) -> list:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino, expected]


def _read_seen(seen: Path | None) -> dict[str, list]:
    if seen is None:
        return {}
    try:
        content = json.loads(seen.read_text())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _write_seen(seen: Path, checked: dict[str, list]) -> None:
    """Replaced atomically. A shared cache that cannot be written is read in full each time; that is no error."""
    temporary = seen.with_name(f"{seen.name}.{os.getpid()}")
    try:
        seen.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(checked))
        temporary.replace(seen)
    except OSError:
        pass
