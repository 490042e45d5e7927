"""An archive (tar, tar.gz, tar.bz2, tar.xz, zip) at an http(s) address or on this machine.

`#sha256:<64 hex digits>` after the address, or `sha256` of the request, pins its content.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zoo import cache, checksum, network
from zoo.errors import ModelError
from zoo.sources import Fetched, Request
from zoo.sources.download import download
from zoo.sources.unpack import unpack

IN_PLACE = False


@dataclass(frozen=True)
class Announced:
    """What the archive's server says of it beforehand."""

    md5: str = ""
    size: int | None = None


def fetch(request: Request, staging: Path, announced: Callable[[], Announced] = Announced) -> Fetched:
    """announced: asks the server, when the network may be used."""
    location, _, fragment = request.location.partition("#")
    expected = _expected(request, fragment)
    local = request.scheme == "file"
    archive = _local(location, request) if local else _downloaded(request, location, expected, staging, announced)
    try:
        _check(archive, expected, request)
        unpacked = staging / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        unpack(archive, unpacked, name=request.name, source=f"{request.scheme}:{location}")
    except cache.DiskFullError:
        raise  # the archive itself is good
    except ModelError:
        if not local:
            archive.unlink()  # the next pull must not go on from it
        raise
    if not local:
        archive.unlink()
    return Fetched(_root(unpacked))


def _downloaded(
    request: Request, location: str, expected: str, staging: Path, announced: Callable[[], Announced]
) -> Path:
    url = f"{request.scheme}:{location}"
    archive = staging / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
    network.require(url, request.name)
    told = announced()
    for last in (False, True):
        download(
            url,
            archive,
            name=request.name,
            progress=request.progress,
            size=told.size,
            known_content=bool(expected or told.md5),
        )
        if not told.md5 or (actual := checksum.md5(archive)) == told.md5:
            return archive
        archive.unlink()
        if last:
            break
        request.progress.say(f"{url} came with a wrong checksum; downloading it again")
    raise ModelError(
        f"{url} was downloaded twice and its MD5 is {actual} both times",
        valid=f"{told.md5}, as its server announces it",
        remedy=f"boli zoo pull {request.name}  (later; a proxy or mirror on the way may be damaging it)",
    )


def _address(request: Request) -> str:
    return f"{request.scheme}:{request.location.partition('#')[0]}"


def _expected(request: Request, fragment: str) -> str:
    text = request.sha256 or fragment
    if not text:
        return ""
    digest = text.removeprefix("sha256:").removeprefix("sha256=").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ModelError(
            f"{text!r} is no sha256",
            valid="64 hexadecimal digits, as `sha256sum ARCHIVE` prints them",
            remedy=f"boli zoo pull {request.name} --from {_address(request)} --sha256 DIGITS",
        )
    return digest


def _check(archive: Path, expected: str, request: Request) -> None:
    if expected and (actual := checksum.sha256(archive)) != expected:
        raise ModelError(
            f"The archive of {request.name} has sha256 {actual}",
            valid=f"{expected}, as you asked for",
            remedy=f"boli zoo pull {request.name} --from {_address(request)} --sha256 {actual}"
            "  (only if its publisher confirms this sha256)",
        )


def _local(location: str, request: Request) -> Path:
    path = Path(unquote(urlsplit(f"file:{location}").path) if location.startswith("//") else location).expanduser()
    if path.is_dir():
        raise ModelError(
            f"{path} is a folder", valid="an archive", remedy=f"boli zoo pull {request.name} --from {path}"
        )
    if not path.is_file():
        raise ModelError(f"{path} does not exist", valid="an archive on this machine", remedy=f"ls -l {path.parent}")
    return path


def _root(unpacked: Path) -> Path:
    """The folder with the files, where the archive packs them inside others (`model/config.json`)."""
    while True:
        inside = list(unpacked.iterdir())
        if len(inside) != 1 or not inside[0].is_dir():
            return unpacked
        unpacked = inside[0]
