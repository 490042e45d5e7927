"""What a reader of a corpus gives: clips as they are found, unchecked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.data.languages import is_language, language_tag
from training.data.manifest import Segment
from zoo.errors import DataError

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".webm", ".aac")


@dataclass(frozen=True)
class Found:
    """One clip of a corpus. Whether it is readable, has text and is unique is judged later, for all layouts alike."""

    name: str
    """Unique within the corpus; becomes the id."""
    audio: Path | bytes
    """A file, or the bytes of one (parquet)."""
    text: str
    lang: str
    where: str
    """file:line or file row, for messages."""
    speaker: str = ""
    subset: str = ""
    duration: float | None = None
    """Seconds, where the corpus says; with `offset`, how much to cut out."""
    offset: float = 0.0
    segments: tuple[Segment, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unusable:
    """A row that holds no clip."""

    where: str
    reason: str


@dataclass(frozen=True)
class Layout:
    """One way in which corpora lie on disk."""

    name: str
    corpora: str
    """Which corpora come so, for the help."""
    recognises: Callable[[Path], bool]
    """Whether a folder (or file) looks like it."""
    read: Callable[[Path, str | None, str | None], Iterator["Found | Unusable"]]
    """(source, language or None, split or None) -> clips. Raises DataError with file:line for a wrong header."""


SPLIT_NAMES = {"valid": "dev", "validation": "dev", "val": "dev", "dev": "dev", "train": "train", "test": "test"}


def split_name(name: str) -> str:
    """`validation`, `valid` -> `dev`; names of special splits (`test_known`, `other`) stay."""
    return SPLIT_NAMES.get(name.lower(), name.lower())


def wanted(split: str | None, name: str) -> bool:
    """Whether the split called `name` in the corpus was asked for."""
    return split is None or split.lower() == name.lower() or split_name(split) == split_name(name)


def language_from(path: Path, given: str | None, root: Path, where: str) -> str:
    """`given`, else the nearest folder name above `path` (at most two above `root`) that names a language."""
    if given:
        return language_tag(given, where)
    limit = root.resolve().parents[1:2]
    for folder in path.resolve().parents:
        if folder in limit:
            break
        for part in (folder.name, *folder.name.lower().split("_")[:2]):
            if is_language(part):
                return language_tag(part, where)
    raise DataError(
        f"{where}: nothing says which language this is", valid="a folder named after it", remedy="pass --lang hi"
    )


def rows(path: Path, header: tuple[str, ...] | None, required: tuple[str, ...] = ()) -> Iterator[tuple[int, dict]]:
    """(line number, column -> value) of a tab-separated file without quoting.

    header: column names where the file has no header line. A row with too few columns has None for the missing ones.
    Raises DataError where a required column is absent.
    """
    columns = header
    for number, line in enumerate(lines(path), 1):
        values = line.split("\t")
        if columns is None:
            columns = tuple(values)
            if missing := [name for name in required if name not in columns]:
                raise DataError(
                    f"{path}:1: the header lacks {', '.join(missing)}; it is {', '.join(columns) or 'empty'}",
                    valid="tab-separated columns with at least " + ", ".join(required),
                )
        elif line:
            yield number, {name: values[i] if i < len(values) else None for i, name in enumerate(columns)}
    if columns is None:
        raise DataError(f"{path} is empty", valid="a header line with at least " + ", ".join(required))


def lines(path: Path) -> Iterator[str]:
    """Lines of a text file without their ends. Raises DataError where it is not UTF-8."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason})", valid="the file as the corpus has it") from None
