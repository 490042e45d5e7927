"""Where base models come from. A source is a module with `fetch`; it joins the zoo through one line in `SOURCES`.

What users write (`openai/whisper-small`, `https://...`, a path) becomes `scheme:location` in `parse`.
"""

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zoo.errors import ModelError
from zoo.progress import Progress, Silent

SOURCES = {
    "hub": "zoo.sources.hub",
    "espnet": "zoo.sources.espnet",
    "folder": "zoo.sources.folder",
    "file": "zoo.sources.url",
    "http": "zoo.sources.url",
    "https": "zoo.sources.url",
    "builtin": "zoo.sources.builtin",
    "repo": "zoo.sources.repository",
}


@dataclass(frozen=True)
class Request:
    """What is to be fetched."""

    name: str
    """The model's name, for messages and for the advice in them."""
    scheme: str
    location: str
    """What follows `scheme:`."""
    revision: str = ""
    """Branch, tag or commit of a hub repository; empty: the newest."""
    sha256: str = ""
    """Expected sha256 of the archive, where known."""
    pickles: bool = False
    """The family loads pickled weights safely, so they may be fetched."""
    progress: Progress = field(default_factory=Silent)

    @property
    def source(self) -> str:
        return f"{self.scheme}:{self.location}"


@dataclass(frozen=True)
class Fetched:
    """What a source brought."""

    folder: Path
    """The model's files, and nothing else."""
    revision: str = ""
    """What the source calls this state of it (a commit); empty where it has no such name."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File name -> sha256 of the files whose content the source has already checked on disk."""


class Source(Protocol):
    """A module of this kind."""

    IN_PLACE: bool
    """The files are used where they lie; `fetch` only finds them."""

    def fetch(self, request: Request, staging: Path) -> Fetched:
        """Bring the files into `staging`, an existing folder that earlier, interrupted calls may have half filled.

        Raises ModelError. May be killed at any moment; the next call goes on from what lies in `staging`.
        """


def source(scheme: str) -> Source:
    """Raises ModelError for an unknown scheme."""
    if scheme not in SOURCES:
        raise ModelError(
            f"No source is called {scheme!r}",
            valid=", ".join(f"{known}:" for known in SOURCES),
            remedy="boli zoo pull NAME --from hub:ORGANISATION/MODEL",
        )
    return importlib.import_module(SOURCES[scheme])


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def parse(text: str) -> tuple[str, str]:
    """`(scheme, location)` of what a user wrote: `scheme:...`, a local folder or archive, a name of ESPnet's model zoo, a
    hub id.

    Raises ModelError where it is none of these.
    """
    from zoo.sources import espnet_table

    scheme, colon, rest = text.partition(":")
    if colon and rest and re.fullmatch(r"[a-z][a-z0-9_+-]+", scheme):
        source(scheme)
        row = espnet_table.find(rest) if scheme == "espnet" else None
        return scheme, row.name if row is not None else rest
    path = Path(text).expanduser()
    if path.is_dir():
        return "folder", str(path.resolve())
    if path.is_file():
        return "file", str(path.resolve())
    if row := espnet_table.find(text):
        return "espnet", row.name
    if _HUB_ID.fullmatch(text):
        return "hub", text
    raise ModelError(
        f"{text!r} is no card, no hub id, no URL, and no folder or archive on this machine",
        valid="a name from `boli zoo list`, ORGANISATION/MODEL, https://..., a path",
        remedy="boli zoo list",
    )
