"""Mozilla Common Voice, a release as unpacked.

    cv-corpus-17.0-2024-03-15/hi/{train,dev,test,validated,other,...}.tsv, clip_durations.tsv, clips/*.mp3

Columns differ between releases; `client_id`, `path` and `sentence` are in all of them. Releases before 4 leave the
`.mp3` off the path. `validated.tsv` holds the clips of train, dev and test once more, so it is read only when asked
for, or where there is nothing else.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.corpora.found import Found, Layout, rows, split_name, wanted
from training.data.languages import language_tag
from zoo.errors import DataError

REQUIRED = ("client_id", "path", "sentence")
DEFAULT_SPLITS = ("train", "dev", "test")
KEPT = ("gender", "age", "accents", "variant", "sentence_domain")


def locales(source: Path) -> list[Path]:
    """Folders that hold `clips/` and tables: the source itself or those right below it."""
    if not source.is_dir():
        return []
    candidates = [source, *sorted(p for p in source.iterdir() if p.is_dir())]
    return [p for p in candidates if (p / "clips").is_dir() and any(p.glob("*.tsv"))]


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found]:
    folders = locales(source)
    if not folders:
        raise DataError(
            f"{source} is no Common Voice release", valid="a folder with train.tsv and clips/, or one above it"
        )
    for folder in folders:
        yield from _locale(folder, lang, split)


def _locale(folder: Path, lang: str | None, split: str | None) -> Iterator[Found]:
    present = {p.stem: p for p in folder.glob("*.tsv")}
    if split is None:
        tables = [name for name in DEFAULT_SPLITS if name in present] or [n for n in ("validated",) if n in present]
    else:
        tables = [name for name in present if wanted(split, name)]
    if not tables:
        raise DataError(f"{folder} has no table for split {split!r}", valid=", ".join(sorted(present)))
    durations = _durations(folder)
    named = None if lang is None else language_tag(lang)
    for table in tables:
        for number, row in rows(present[table], None, REQUIRED):
            where = f"{present[table]}:{number}"
            file = row["path"] or ""
            if file and "." not in file:
                file += ".mp3"
            yield Found(
                name=f"{folder.name}/{Path(file).stem}",
                audio=folder / "clips" / file,
                text=row["sentence"] or "",
                lang=named or language_tag(row.get("locale") or folder.name, where),
                where=where,
                speaker=(row["client_id"] or "")[:24],  # of 128 hexadecimal digits: still unique
                subset=split_name(table),
                duration=durations.get(file),
                extra={key: row[key] for key in KEPT if row.get(key)},
            )


def _durations(folder: Path) -> dict[str, float]:
    path = folder / "clip_durations.tsv"
    if not path.exists():
        return {}
    found = ((row["clip"], row["duration[ms]"] or "") for _, row in rows(path, None, ("clip", "duration[ms]")))
    return {clip: float(ms) / 1000 for clip, ms in found if ms.strip().isdigit()}


LAYOUT = Layout("common-voice", "Common Voice release (train.tsv, clips/*.mp3)", lambda p: bool(locales(p)), read)
