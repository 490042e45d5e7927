"""Download one file over HTTP so that it can be broken off at any moment and gone on with.

huggingface_hub does not do this: since version 2 it downloads to a file name of the process's own and deletes it when
it fails, so a broken download of 3 GB starts again at nought. It is used for what the hub knows (zoo.sources.hub).

A partial file `x.part` has a note `x.part.json` beside it that says which content it is the beginning of: the
validator (ETag, Last-Modified) that the server gave. A range is asked for with `If-Range` of that validator, or without
where the checksum of the whole is known (signed addresses change their validators), so that two contents are never
joined unnoticed.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from zoo import cache, network
from zoo.errors import ModelError
from zoo.progress import Progress

_BACKOFF_S = 0.5  # doubled at each retry without progress
_LONGEST_WAIT_S = 60.0  # whatever a server asks for with Retry-After
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class _Note:
    """What a partial file is the beginning of."""

    url: str
    etag: str = ""
    modified: str = ""
    complete: bool = False

    @property
    def validator(self) -> str:
        """What `If-Range` may carry: a strong ETag, or else a date (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


def download(
    url: str,
    part: Path,
    *,
    name: str,
    progress: Progress,
    headers: dict[str, str] | None = None,
    size: int | None = None,
    known_content: bool = False,
) -> None:
    """Fill `part` with the content of `url`, going on from what is already in it.

    name: the model's, for the advice in messages. size: bytes of the whole, where known; more is refused, less is
    gone on with. known_content: the caller checks the whole against a checksum, so a range may be asked for even
    from a server that gives no validator.

    Raises ModelError: not found, refused, unreachable, too slow, full disk. What came so far stays in `part`.
    """
    network.require(url, name)
    client = httpx.Client(
        follow_redirects=True,
        max_redirects=10,
        timeout=httpx.Timeout(network.read_timeout_s(), connect=network.CONNECT_TIMEOUT_S),
        event_hooks={"request": [_only_secure(url, name)]},
    )
    with client:
        failures = 0
        while True:
            before = _length(part)
            try:
                _attempt(client, url, part, name, progress, headers or {}, size, known_content)
                return
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise ModelError(
                    f"{url} is no address, or redirects to what is none ({error})",
                    valid="https://server/path/archive.tar.gz",
                    remedy=f"boli zoo pull {name} --from https://SERVER/PATH",
                ) from error
            except (httpx.TransportError, _Retry) as error:
                failures = 0 if _length(part) > before else failures + 1
                if failures > network.RETRIES:
                    raise _gave_up(url, part, name, error) from error
                progress.say(f"{url}: {_reason(error)}; going on from {_length(part):,} bytes")
                time.sleep(max(getattr(error, "wait_s", 0.0), _BACKOFF_S * 2 ** max(0, failures - 1)))
            except httpx.TooManyRedirects as error:
                raise ModelError(
                    f"{url} redirects in a circle", valid="an address of a file", remedy=f"curl -IL {url}"
                ) from error
            except OSError as error:
                if cache.is_full(error):
                    raise cache.full_disk(name, f"{error.strerror} after {_length(part):,} bytes of {url}") from error
                raise


class _Retry(Exception):
    """This attempt failed in a way that may pass."""

    def __init__(self, reason: str, wait_s: float = 0.0):
        super().__init__(reason)
        self.wait_s = wait_s


def _attempt(
    client: httpx.Client,
    url: str,
    part: Path,
    name: str,
    progress: Progress,
    headers: dict[str, str],
    size: int | None,
    known_content: bool,
) -> None:
    note = _read_note(part)
    if note is None or note.url != url:
        part.unlink(missing_ok=True)
        note = _Note(url)
    have = _length(part)
    if have and (note.complete or have == size):
        progress.start(_label(url), have, have)
        return
    headers = {"Accept-Encoding": "identity", **headers}
    if have and (size is None or have < size) and (note.validator or known_content):
        headers["Range"] = f"bytes={have}-"
        if not known_content:
            headers["If-Range"] = note.validator
    with client.stream("GET", url, headers=headers) as response:
        status = response.status_code
        if status == 416 and "Range" in headers:
            part.unlink(missing_ok=True)
            raise _Retry("the server has fewer bytes than were already here")
        if status in _RETRIED_STATUS:
            after = response.headers.get("Retry-After", "")
            raise _Retry(f"HTTP {status}", min(float(after), _LONGEST_WAIT_S) if after.isdigit() else 0.0)
        if status not in (200, 206):
            raise _refused(url, name, status)
        fresh = _Note(url, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
        if status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise _Retry("the server sent another range than was asked for")
        else:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else size
        if size is not None and total is not None and total != size:
            part.unlink(missing_ok=True)
            raise ModelError(
                f"{url} has {total:,} bytes; {size:,} were announced",
                valid=f"{size:,} bytes",
                remedy=f"boli zoo pull {name}  (again; it starts this file anew)",
            )
        if total is not None:
            cache.require_space(total - have, part.parent, name)
        if have == 0:
            part.unlink(missing_ok=True)  # before the note: a note never describes bytes of another content
        _write_note(part, fresh)
        progress.start(_label(url), total, have)
        with part.open("ab") as file:
            for block in response.iter_raw():  # as it comes: bytes held back would be lost with the connection
                file.write(block)
                have += len(block)
                progress.advance(len(block))
                if size is not None and have > size:
                    break
            file.flush()
            os.fsync(file.fileno())
    if size is not None and have != size:
        if have > size:
            part.unlink(missing_ok=True)
        raise _Retry(f"{have:,} bytes came, {size:,} were announced")
    _write_note(part, _Note(url, fresh.etag, fresh.modified, complete=True))


def _only_secure(url: str, name: str):
    def check(request: httpx.Request) -> None:
        if url.startswith("https:") and request.url.scheme != "https":
            raise ModelError(
                f"{url} redirects to {request.url}, which is not encrypted",
                valid="redirects to https only",
                remedy=f"boli zoo pull {name} --from {request.url}  (if you trust that address)",
            )

    return check


def _refused(url: str, name: str, status: int) -> ModelError:
    if status in (401, 403):
        return ModelError(
            f"{url} may not be read (HTTP {status})",
            valid="a public file, or a hub model your token has access to",
            remedy="hf auth login  (or export HF_TOKEN=...), and accept the model's terms on its page",
        )
    if status in (404, 410):
        return ModelError(
            f"{url} does not exist (HTTP {status})", valid="an address of a file", remedy=f"curl -IL {url}"
        )
    return ModelError(f"{url} was answered with HTTP {status}", valid="HTTP 200 or 206", remedy=f"curl -IL {url}")


def _gave_up(url: str, part: Path, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{url}: {_reason(error)}, {network.RETRIES + 1} times in a row; {_length(part):,} bytes are kept",
        valid="a server that answers within BOLI_TIMEOUT_S seconds",
        remedy=f"boli zoo pull {name}  (later; it goes on where it stopped)",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no answer for {network.read_timeout_s():g} s"
    if isinstance(error, httpx.ConnectError):
        return f"cannot be reached ({error})"
    return str(error) or type(error).__name__


def _label(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]


def _length(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _note_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path) -> _Note | None:
    try:
        return _Note(**json.loads(_note_file(part).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_note(part: Path, note: _Note) -> None:
    temporary = _note_file(part).with_suffix(".new")
    temporary.write_text(json.dumps(asdict(note)))
    temporary.replace(_note_file(part))
