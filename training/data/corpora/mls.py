"""Multilingual LibriSpeech (OpenSLR 94), as unpacked; flac or opus.

    mls_italian[_opus]/{train,dev,test}/{transcripts.txt,segments.txt}
    mls_italian[_opus]/{train,dev,test}/audio/<speaker>/<book>/<speaker>_<book>_<number>.flac
    mls_italian[_opus]/train/limited_supervision/{9hr,1hr/<0-5>}/handles.txt

Splits `9hr` and `1hr` read the handles of limited supervision. For the hub's parquet files use layout `hub`.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.corpora.found import Found, Layout, language_from, rows, split_name, wanted
from zoo.errors import DataError

SUFFIXES = (".flac", ".opus", ".wav")
LIMITED = ("9hr", "1hr")


def folders(source: Path) -> list[Path]:
    """Split folders: those with transcripts.txt beside audio/."""
    if not source.is_dir():
        return []
    below = [source, *(p for p in source.iterdir() if p.is_dir())]
    below += [q for p in below[1:] for q in p.iterdir() if q.is_dir()]
    return sorted(p for p in set(below) if (p / "transcripts.txt").is_file() and (p / "audio").is_dir())


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found]:
    found = folders(source)
    if not found:
        raise DataError(f"{source} is no MLS corpus", valid="a folder with train/transcripts.txt and train/audio/")
    limited = split if split in LIMITED else None
    chosen = [p for p in found if wanted("train" if limited else split, p.name)]
    if not chosen:
        valid = ", ".join([*(p.name for p in found), *LIMITED])
        raise DataError(f"{source} has no split {split!r}", valid=valid)
    for folder in chosen:
        yield from _split(folder, source, lang, limited)


def _split(folder: Path, source: Path, lang: str | None, limited: str | None) -> Iterator[Found]:
    transcripts = folder / "transcripts.txt"
    language = language_from(transcripts, lang, source, str(transcripts))
    seconds = {}
    if (folder / "segments.txt").exists():
        for _, row in rows(folder / "segments.txt", ("handle", "url", "start", "end")):
            if row["end"]:
                seconds[row["handle"]] = float(row["end"]) - float(row["start"])
    keep = _handles(folder, limited) if limited else None
    for number, row in rows(transcripts, ("handle", "text")):
        handle, where = row["handle"], f"{transcripts}:{number}"
        speaker, book, last = ([*handle.split("_"), "", ""])[:3]
        if row["text"] is None or not last:
            raise DataError(
                f"{where}: {handle[:60]!r} is no MLS line", valid="SPEAKER_BOOK_NUMBER, a tab, and the transcript"
            )
        if keep is not None and handle not in keep:
            continue
        yield Found(
            name=f"mls_{language}/{folder.name}/{handle}",
            audio=_clip(folder / "audio" / speaker / book, handle),
            text=row["text"],
            lang=language,
            where=where,
            speaker=speaker,
            subset=limited or split_name(folder.name),
            duration=seconds.get(handle),
            extra={"book": book},
        )


def _clip(folder: Path, handle: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / (handle + suffix)).exists():
            return folder / (handle + suffix)
    return folder / (handle + SUFFIXES[0])


def _handles(folder: Path, limited: str) -> set[str]:
    files = sorted((folder / "limited_supervision" / limited).rglob("handles.txt"))
    if not files:
        raise DataError(f"{folder} has no limited_supervision/{limited}/handles.txt", valid="the whole train split")
    return {line.strip() for file in files for line in file.read_text().splitlines() if line.strip()}


LAYOUT = Layout("mls", "Multilingual LibriSpeech (transcripts.txt, audio/)", lambda p: bool(folders(p)), read)
