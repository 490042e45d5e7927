"""Unpack archives that nobody vouches for: nothing outside the folder, no links, no bombs.

Python's own extraction filters are not enough here: they allow links inside the folder, and they set no limit to what
comes out. So the members are read one by one, and only plain files are written, with our own names and modes.
"""

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from zoo import cache
from zoo.errors import ModelError

MAX_FILES = 10_000
MAX_RATIO = 20  # weights hardly compress (1.0 to 1.3 measured on fp32 Whisper), tokenizer files by 3 to 6
FREE_BYTES = 64 << 20  # what comes out of any archive, however small, before the ratio counts
_BLOCK_BYTES = 1 << 20
_KINDS = "tar, tar.gz, tar.bz2, tar.xz or zip"


def unpack(archive: Path, folder: Path, *, name: str, source: str) -> None:
    """Write the plain files of `archive` into `folder`, which is empty.

    Raises ModelError for what is no archive, a damaged or encrypted one, a member that leaves the folder, a link or
    device, two members of one name, more bytes than announced, more than MAX_RATIO times the archive's size, or a
    full disk.
    """
    limit = max(FREE_BYTES, MAX_RATIO * archive.stat().st_size)
    try:
        with archive.open("rb") as file:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            members = _zip_members if zipped else _tar_members
            _write(members(file, limit, source), folder, limit, source)
    except OSError as error:
        if cache.is_full(error):
            raise cache.full_disk(name, f"{error.strerror} while unpacking {source}") from error
        raise _damaged(source, error, name) from error
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        raise _damaged(source, error, name) from error


def _write(members: Iterator[tuple[str, int, IO[bytes]]], folder: Path, limit: int, source: str) -> None:
    total = 0
    seen: set[str] = set()
    for name, size, content in members:
        path = _inside(name, source)
        if path.as_posix().lower() in seen:
            raise _refused(
                source, f"two files called {path}", "one file for each name, also on a disk that ignores case"
            )
        seen.add(path.as_posix().lower())
        if len(seen) > MAX_FILES:
            raise _refused(source, f"more than {MAX_FILES:,} files", f"at most {MAX_FILES:,}")
        if total + size > limit:
            raise _bomb(source, total + size, limit)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with target.open("xb") as file:
            while block := content.read(min(_BLOCK_BYTES, size - written + 1)):
                written += len(block)
                if written > size:
                    raise _refused(source, f"more than the {size:,} bytes that {name!r} announces", "true sizes")
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if written != size:
            raise _refused(source, f"{written:,} bytes in {name!r}, which announces {size:,}", "true sizes")
        total += written
    if not seen:
        raise _refused(source, "no files", "the files of one model")


def _inside(name: str, source: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(c in name for c in "\\\0:"):
        raise _refused(
            source,
            f"a file called {name!r}, which lies outside the archive's own folder",
            "relative names without '..'",
        )
    if len(name) > 1024 or any(len(part.encode()) > 255 for part in path.parts):
        raise _refused(source, f"a file name of {len(name)} characters", "at most 255 for each part")
    return path


def _zip_members(file: IO[bytes], limit: int, source: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = (member.external_attr >> 16) & 0o170000
            if kind not in (0, 0o100000, 0o040000):
                raise _refused(source, f"{member.filename!r}, which is a link or a device", "plain files and folders")
            _inside(member.filename, source)
            if member.is_dir():
                continue
            if member.flag_bits & 1:
                raise _refused(source, f"{member.filename!r}, which is encrypted", "an archive without a password")
            with archive.open(member) as content:
                yield member.filename, member.file_size, content


def _tar_members(file: IO[bytes], limit: int, source: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    # Read as a stream through a counter: headers (pax, long names) are read by tarfile before any member is seen.
    stream = _Counted(_decompressed(file), limit + FREE_BYTES, source)
    with tarfile.open(fileobj=cast(Any, stream), mode="r|") as archive:
        for member in archive:
            if member.isdir():
                _inside(member.name, source)
                continue
            if not member.isreg() or member.issparse():
                raise _refused(
                    source, f"{member.name!r}, which is a link, a device or a sparse file", "plain files and folders"
                )
            content = cast(IO[bytes], archive.extractfile(member))
            yield member.name, member.size, content
    while stream.read(_BLOCK_BYTES):
        pass  # to the end, where gzip and the like keep their checksum
    if stream.tail.strip(b"\0"):
        raise EOFError("it stops before the end mark of a tar")


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(6)
    file.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(file))
    if magic[:3] == b"BZh":
        return bz2.open(file)
    if magic == b"\xfd7zXZ\x00":
        return lzma.open(file)
    return file


class _Counted:
    """A readable stream that refuses to give more than `limit` bytes."""

    def __init__(self, stream: IO[bytes], limit: int, source: str):
        self._stream, self._limit, self._source, self._given = stream, limit, source, 0
        self.tail = b""

    def read(self, n_bytes: int) -> bytes:
        block = self._stream.read(n_bytes)
        self._given += len(block)
        if self._given > self._limit:
            raise _bomb(self._source, self._given, self._limit)
        self.tail = (self.tail + block)[-1024:]
        return block


def _refused(source: str, what: str, valid: str) -> ModelError:
    return ModelError(
        f"The archive {source} is refused: it holds {what}",
        valid=valid,
        remedy="pack the model's plain files anew: tar -C FOLDER -czf model.tar.gz .",
    )


def _bomb(source: str, size: int, limit: int) -> ModelError:
    return ModelError(
        f"The archive {source} unpacks to {size:,} bytes or more, which is more than its own size allows",
        valid=f"at most {limit:,} bytes ({MAX_RATIO} times the archive)",
        remedy="unpack it yourself where you trust it, then: boli zoo pull NAME --from FOLDER",
    )


def _damaged(source: str, error: Exception, name: str) -> ModelError:
    return ModelError(
        f"{source} is no archive that can be read, or it is damaged ({error})",
        valid=_KINDS,
        remedy=f"boli zoo pull {name} --from FOLDER  (a folder with the model's files)",
    )
