"""Data sets of the Hugging Face hub: parquet files, an audio folder with metadata, or one saved by `datasets`.

    hub:google/fleurs:hi_in                      fetched into the hub's cache (config or folder after the colon)
    DIR/[config/]train-00000-of-00003.parquet    as fetched by `hf download --repo-type dataset`
    DIR/[train/]metadata.{csv,jsonl}             audio folder: file_name, transcription, beside the clips
    DIR/[train/]data-00000-of-00001.arrow        written by Dataset.save_to_disk

Columns are found by name and type, so MLS, Common Voice, FLEURS, Kathbath, IndicVoices and Shrutilipi read as they are.
The files are read with pyarrow, row group by row group: no data set script runs, nothing is held in memory.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.corpora.found import Found, Layout, Unusable, language_from, split_name, wanted
from training.data.languages import language_tag
from zoo.errors import DataError

if TYPE_CHECKING:
    import pyarrow

# Column names in order of preference. FLEURS' `raw_transcription` keeps case and punctuation.
AUDIO = ("audio", "audio_filepath", "wav", "speech", "file", "path")
TEXT = (
    "text", "sentence", "raw_transcription", "transcript", "transcription", "normalized_text", "normalized", "verbatim",
)  # fmt: skip
LANG = ("lang", "language", "locale")
SPEAKER = ("speaker", "speaker_id", "client_id", "speaker_name")
DURATION = ("duration", "audio_duration", "duration_s")
ID = ("fname", "file_name", "file", "path", "segment_id", "utt_id", "id")
KEPT = ("gender", "chapter_id", "scenario", "task_name", "age_group", "district", "state", "accents", "age")
SHARD = re.compile(r"(?P<split>.+?)(-\d{5}-of-\d{5}(-[0-9a-f]+)?)?$")
DATA_PATTERNS = ("*.parquet", "*.arrow")


def local(source: str) -> Path:
    """The folder of a source, after fetching the parquet files of `hub:OWNER/NAME[:CONFIG]`.

    Sets that hold archives or scripts (FLEURS) are fetched as the hub's own parquet copy of them. Raises DataError.
    """
    if not str(source).startswith("hub:"):
        return Path(source)
    name, _, config = str(source).removeprefix("hub:").partition(":")
    patterns = [f"{config}/*.parquet", f"*/{config}/*.parquet"] if config else ["*.parquet"]
    for revision in (None, "refs/convert/parquet"):
        folder = _fetched(name, revision, patterns)
        places = [folder / config, *sorted(folder.glob(f"*/{config}"))] if config else [folder]
        for place in places:
            if data_files(place):
                return place
    raise DataError(
        f"Data set {name!r} has no parquet files{f' for {config!r}' if config else ''}",
        remedy=f"hf download {name} --repo-type dataset --local-dir DIR, unpack it, and give DIR",
    )


def _fetched(name: str, revision: str | None, patterns: list[str]) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns)
        )
    except Exception as error:  # the hub's client raises many kinds: offline, gated, missing, no such revision
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"Data set {name!r} cannot be fetched: {reason}",
            valid="hub:OWNER/NAME or hub:OWNER/NAME:CONFIG of a data set you may read",
            remedy="log in and accept its terms (hf auth login), or give a folder that was fetched before",
        ) from error


def data_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix in (".parquet", ".arrow") else []
    if not source.is_dir():
        return []
    return sorted(p for pattern in DATA_PATTERNS for p in source.rglob(pattern) if not p.name.startswith("cache-"))


def metadata_files(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    return sorted(p for name in ("metadata.csv", "metadata.jsonl") for p in source.rglob(name))


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found | Unusable]:
    tables, folders = data_files(source), metadata_files(source)
    if not tables and not folders:
        raise DataError(f"{source} holds no parquet or arrow files and no metadata.csv", valid="see docs/data.md")
    chosen = [p for p in tables if wanted(split, split_of(p))] + [
        p for p in folders if wanted(split, folder_split(p, source))
    ]
    if not chosen:
        splits = sorted({split_of(p) for p in tables} | {folder_split(p, source) for p in folders})
        raise DataError(f"{source} has no split {split!r}", valid=", ".join(splits))
    names: set[str] = set()
    for path in chosen:
        yield from (
            _table(path, source, lang, names) if path.suffix in (".parquet", ".arrow") else _folder(path, source, lang)
        )


def split_of(path: Path) -> str:
    """`train` of train-00000-of-00003.parquet, train/0000.parquet or train/data-00000-of-00001.arrow."""
    name = SHARD.match(path.stem)["split"]  # type: ignore[index]  # the pattern matches any name
    return path.parent.name if name.isdigit() or name == "data" else name


def folder_split(path: Path, source: Path) -> str:
    return path.parent.name if path.parent != source else "train"


def _batches(path: Path) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            yield from pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=64)
        else:
            with pyarrow.memory_map(str(path)) as file:
                yield from pyarrow.ipc.open_stream(file)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} cannot be read: {error}", remedy="fetch the file again; it may be cut off") from error


def _table(path: Path, source: Path, lang: str | None, names: set[str]) -> Iterator[Found | Unusable]:
    number, columns = 0, None
    root = source if source.is_dir() else source.parent
    config = path.parent.name if path.parent != root else root.name
    for batch in _batches(path):
        columns = columns or _columns(batch.schema, path)
        for row in batch.to_pylist():
            number += 1
            where = f"{path} row {number}"
            audio, name = _audio(row[columns["audio"]], path)
            if audio is None:
                yield Unusable(where, f"{where}: no audio in column {columns['audio']!r}")
                continue
            name = Path(str(row.get(columns.get("id", "")) or name or f"{path.stem}-{number}")).stem
            name = f"{config}/{split_of(path)}/{name}"
            if name in names:  # the column numbers sentences, not clips
                name += f"_{path.stem}_{number}"
            names.add(name)
            yield Found(
                name=name,
                audio=audio,
                text=str(row[columns["text"]] or ""),
                lang=_language(row.get(columns.get("lang", "")), lang, path, root, where),
                where=where,
                speaker=_plain(row.get(columns.get("speaker", ""))),
                subset=split_name(split_of(path)),
                duration=_number(row.get(columns.get("duration", ""))),
                extra={key: row[key] for key in KEPT if row.get(key) not in (None, "")},
            )
    if columns is None:
        yield Unusable(str(path), f"{path}: no rows")


def _columns(schema: "pyarrow.Schema", path: Path) -> dict[str, str]:
    """Which column plays which part. Raises DataError listing the columns where audio or text is missing."""
    import pyarrow

    names = schema.names

    def is_audio(name: str) -> bool:
        kind = schema.field(name).type
        return pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0

    audio = next((n for n in (*AUDIO, *names) if n in names and is_audio(n)), None)
    audio = audio or next((n for n in AUDIO if n in names), None)
    columns = {"audio": audio, "text": next((n for n in TEXT if n in names), None)}
    if missing := [part for part, name in columns.items() if name is None]:
        raise DataError(
            f"{path}: no column for {' and '.join(missing)}; columns are {', '.join(names)}",
            valid=f"audio: {', '.join(AUDIO)}; text: {', '.join(TEXT)}",
        )
    for part, choices in (("lang", LANG), ("speaker", SPEAKER), ("duration", DURATION), ("id", ID)):
        found = next((n for n in choices if n in names and n not in columns.values() and not is_audio(n)), None)
        if found:
            columns[part] = found
    return columns  # type: ignore[return-value]


def _audio(value: Any, path: Path) -> tuple[Path | bytes | None, str]:
    """(bytes or file, name) of an audio cell."""
    if isinstance(value, dict):
        name = value.get("path") or ""
        if value.get("bytes"):
            return value["bytes"], Path(name).name
        return (path.parent / name, Path(name).name) if name else (None, "")
    if isinstance(value, bytes):
        return value or None, ""
    return (path.parent / value, Path(value).name) if isinstance(value, str) and value else (None, "")


def _language(value: Any, given: str | None, path: Path, root: Path, where: str) -> str:
    if given or not isinstance(value, str) or not value:
        return language_from(path, given, root, where)
    return language_tag(value, where)


def _plain(value: Any) -> str:
    return "" if value is None else str(value)[:64]


def _number(value: Any) -> float | None:
    """Seconds; None for what is no number above 0 (some corpora write the duration as text)."""
    try:
        return float(value) if value is not None and float(value) > 0 else None
    except (TypeError, ValueError):
        return None


def _folder(path: Path, source: Path, lang: str | None) -> Iterator[Found | Unusable]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(x) for x in file if x.strip()]
    names = list(lines[0]) if lines else []
    text = next((n for n in TEXT if n in names), None)
    if "file_name" not in names or text is None:
        raise DataError(
            f"{path}:1: the columns are {', '.join(names) or 'none'}", valid=f"file_name and one of {', '.join(TEXT)}"
        )
    for number, row in enumerate(lines, 2 if path.suffix == ".csv" else 1):
        where = f"{path}:{number}"
        yield Found(
            name=f"{path.parent.name}/{row['file_name']}",
            audio=path.parent / (row["file_name"] or ""),
            text=row[text] or "",
            lang=_language(next((row[n] for n in LANG if row.get(n)), None), lang, path, source, where),
            where=where,
            speaker=_plain(next((row[n] for n in SPEAKER if row.get(n)), None)),
            subset=split_name(folder_split(path, source)),
            extra={key: row[key] for key in KEPT if row.get(key)},
        )


def recognises(source: Path) -> bool:
    return bool(data_files(source) or metadata_files(source))


LAYOUT = Layout("hub", "any hub data set: parquet, arrow, or metadata.csv beside clips", recognises, read)
