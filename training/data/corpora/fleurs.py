"""FLEURS, the tables of google/fleurs with their archives unpacked.

    hi_in/{train,dev,test}.tsv, audio in hi_in/audio/{train,dev,test}/*.wav (or hi_in/{train,dev,test}/*.wav)

The tables have no header: id, file name, raw transcription, transcription, characters, samples at 16 kHz, gender.
The raw transcription (case, punctuation) is the text; `id` numbers the sentence, the same in all languages. FLEURS
names no speakers. For the hub's parquet files use layout `hub`.
"""

from collections.abc import Iterator
from pathlib import Path

from training.data.corpora.found import Found, Layout, language_from, rows, split_name, wanted
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

COLUMNS = ("id", "file_name", "raw_transcription", "transcription", "characters", "num_samples", "gender")
SPLITS = ("train", "dev", "test")


def tables(source: Path) -> list[Path]:
    """train.tsv, dev.tsv and test.tsv in the source or up to two folders below, if they look like FLEURS'."""
    if not source.is_dir():
        return []
    found = [p for pattern in ("*.tsv", "*/*.tsv", "*/*/*.tsv") for p in source.glob(pattern) if p.stem in SPLITS]
    return sorted(p for p in found if not (p.parent / "clips").exists())


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found]:
    found = tables(source)
    if not found:
        raise DataError(
            f"{source} is no FLEURS folder", valid="train.tsv, dev.tsv, test.tsv, as in google/fleurs/data/hi_in"
        )
    chosen = [p for p in found if wanted(split, p.stem)]
    if not chosen:
        raise DataError(f"{source} has no split {split!r}", valid=", ".join(sorted({p.stem for p in found})))
    for table in chosen:
        language = language_from(table, lang, source, str(table))
        for number, row in rows(table, COLUMNS):
            where = f"{table}:{number}"
            if row["num_samples"] is None or not row["num_samples"].strip().isdigit():
                raise DataError(
                    f"{where}: this is no FLEURS row (column 6 is {row['num_samples']!r})",
                    valid="seven tab-separated columns without a header: " + ", ".join(COLUMNS),
                )
            yield Found(
                name=f"fleurs_{language}/{table.stem}/{Path(row['file_name']).stem}",
                audio=_clip(table, row["file_name"]),
                text=row["raw_transcription"],
                lang=language,
                where=where,
                subset=split_name(table.stem),
                duration=int(row["num_samples"]) / SAMPLE_RATE or None,
                extra={
                    "sentence_id": row["id"],
                    "transcription": row["transcription"],
                    **({"gender": row["gender"].lower()} if row["gender"] else {}),
                },
            )


def _clip(table: Path, name: str) -> Path:
    places = [table.parent / part / name for part in (f"audio/{table.stem}", table.stem, "audio", ".")]
    return next((p for p in places if p.exists()), places[0])


LAYOUT = Layout("fleurs", "FLEURS tables (train.tsv without header, audio/)", lambda p: bool(tables(p)), read)
