"""Manifests: boli's own, NeMo's, and the JSON lines of other tools, in one file or a folder of them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from training.data.corpora.found import SPLIT_NAMES, Found, Layout, Unusable, language_from, split_name, wanted
from training.data.languages import language_tag
from training.data.manifest import SPELLINGS, Record, parse_lines
from zoo.errors import DataError

PATH_KEYS = SPELLINGS["path"]


def files(source: Path) -> list[Path]:
    """The manifest itself, or those in the folder and below."""
    if source.is_file():
        return [source] if source.suffix in (".json", ".jsonl", ".ndjson") else []
    if not source.is_dir():
        return []
    return sorted(p for p in source.rglob("*.json*") if p.suffix in (".json", ".jsonl") and is_lines(p))


def is_lines(path: Path) -> bool:
    """Whether the first line of a file is an object that names an audio file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        first = file.readline()
    return first.lstrip("\ufeff").startswith("{") and any(f'"{key}"' in first for key in PATH_KEYS)


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found | Unusable]:
    found = files(source)
    if not found:
        raise DataError(f"{source} holds no manifest", valid="JSON lines with `path` or `audio_filepath`")
    for path in found:
        yield from read_file(path, source if source.is_dir() else source.parent, lang, split)


def read_file(path: Path, root: Path, lang: str | None, split: str | None) -> Iterator[Found | Unusable]:
    """Clips of one manifest; a line without language or subset takes them from the folders and the file's name."""
    try:
        default_lang = language_tag(lang) if lang else language_from(path, None, root, str(path))
    except DataError:
        if lang:
            raise
        default_lang = None  # well if every line names its own
    default_subset = _subset(path)
    for number, outcome in parse_lines(path, default_lang, allow_empty_text=True):
        where = f"{path}:{number}"
        if isinstance(outcome, DataError):
            yield Unusable(where, str(outcome))
            continue
        subset = outcome.subset or default_subset
        if split is not None and not wanted(split, subset):
            continue
        yield from_record(outcome, where, root, subset)


def from_record(record: Record, where: str, root: Path, subset: str) -> Found:
    return Found(
        name=record.id,
        audio=located(record.path, root),
        text=record.text,
        lang=record.lang,
        where=where,
        speaker=record.speaker,
        subset=subset,
        duration=record.duration,
        offset=record.offset,
        segments=record.segments,
        extra=record.extra,
    )


def located(path: Path, root: Path) -> Path:
    """`path` if it exists; else the file under `root` that ends in the longest possible part of it.

    Published manifests hold the absolute paths of the machine that wrote them.
    """
    if path.exists():
        return path
    parts = path.parts
    for start in range(1, len(parts)):
        candidate = root.joinpath(*parts[start:])
        if os.path.exists(candidate):
            return candidate
    return path


def _subset(path: Path) -> str:
    """`train` of train.jsonl, train_manifest.json, train/manifest.jsonl; empty where the path says nothing."""
    for name in (path.stem, re.split(r"[_.-]", path.stem)[0], path.parent.name):
        if name.lower() in SPLIT_NAMES:
            return split_name(name)
    return ""


LAYOUT = Layout("manifest", "JSON lines: boli's manifests, NeMo's, or a folder of them", lambda p: bool(files(p)), read)
