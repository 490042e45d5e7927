"""Models of ESPnet's model zoo: an archive at Zenodo (or elsewhere) by the name it has in espnet_model_zoo's table, or
a repository of the hub.

What espnet_model_zoo does besides is left out: configs are not rewritten where they lie, and nothing is read by pickle.
"""

import difflib
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from zoo import network, pickles
from zoo.errors import ModelError
from zoo.sources import Fetched, Request, espnet_table, hub, url
from zoo.sources.espnet_table import Row
from zoo.sources.url import Announced

IN_PLACE = False

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_RECORD = re.compile(r"/records?/(\d+)/files/([^/]+)")


def fetch(request: Request, staging: Path) -> Fetched:
    row = espnet_table.find(request.location)
    if row is None and not _HUB_ID.fullmatch(request.location):
        raise _unknown(request.location)
    if row is None or not row.url:
        location = row.title if row is not None else request.location
        fetched = hub.fetch(replace(request, scheme="hub", location=location, pickles=True), staging)
    else:
        if request.revision:
            raise ModelError(
                f"{row.name} is an archive, which has no revision {request.revision!r}",
                valid="revisions of hub models",
                remedy=f"boli zoo pull {row.name}",
            )
        scheme, _, location = row.url.partition(":")
        wanted = replace(request, scheme=scheme, location=location, sha256=request.sha256 or row.sha256)
        fetched = url.fetch(wanted, staging, lambda: _announced(row, request))
    for path in pickles.pickled(fetched.folder):
        pickles.check_tensors(path, request.name)
    return fetched


def _unknown(name: str) -> ModelError:
    known = [row.name for row in espnet_table.rows()]
    close = difflib.get_close_matches(espnet_table.cache_name(name), known, n=3, cutoff=0.6)
    return ModelError(
        f"espnet_model_zoo knows no model called {name!r}" + (f"; close: {', '.join(close)}" if close else ""),
        valid="a name of its table, or ORGANISATION/MODEL on the hub",
        remedy=f"boli zoo pull {close[0]}" if close else "boli zoo list --source espnet",
    )


def _announced(row: Row, request: Request) -> Announced:
    """Size and MD5 of the archive where its server tells: a Zenodo record lists both; others may send Content-MD5."""
    if row.md5:
        return Announced(row.md5)
    address = urlsplit(row.url)
    record = _RECORD.search(address.path)
    try:
        with httpx.Client(follow_redirects=True, timeout=network.read_timeout_s()) as client:
            if record is not None:
                answer = client.get(f"{address.scheme}://{address.netloc}/api/records/{record[1]}")
                found = _listed(answer.json(), unquote(record[2])) if answer.is_success else None
                if found is not None:
                    return found
            return Announced(_content_md5(client.head(row.url).headers.get("Content-MD5", "")))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return Announced()  # the download itself says what is wrong with the server
    finally:
        request.progress.say(f"{row.name} from {address.netloc}")


def _listed(record: object, name: str) -> Announced | None:
    """What a Zenodo record says of one of its files."""
    files = record.get("files") if isinstance(record, dict) else None
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict) and name in (file.get("key"), file.get("filename")):
            digest = str(file.get("checksum", "")).removeprefix("md5:").lower()
            size = file.get("size", file.get("filesize"))
            md5 = digest if re.fullmatch(r"[0-9a-f]{32}", digest) else ""
            return Announced(md5, size if isinstance(size, int) else None)
    return None


def _content_md5(header: str) -> str:
    """Hexadecimal; the header is base64 (RFC 1864), or hexadecimal where a server does as espnet_model_zoo expects."""
    import base64
    import binascii

    if re.fullmatch(r"[0-9a-fA-F]{32}", header):
        return header.lower()
    try:
        digest = base64.b64decode(header, validate=True)
    except binascii.Error:
        return ""
    return digest.hex() if len(digest) == 16 else ""
