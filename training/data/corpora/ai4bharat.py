"""AI4Bharat's corpora, as their archives unpack. For the hub's parquet files use layout `hub`.

    Kathbath     [kb_data_clean_m4a/]hindi/{train,valid,test_known,...}/transcription_n2w.txt,
                 audio/<id>-<speaker>-<f|m>.m4a
    IndicVoices  Hindi/v1/{train,valid,test}/<id>.json with <id>.wav: sentences with times inside longer recordings
    Shrutilipi   [data/]hindi/<bulletin>/sent_<n>.wav with sent_<n>.txt
    Vistaar      benchmarks/<corpus>/hindi/manifest.jsonl, and every JSON lines manifest their tools write

The manifests name absolute paths of the machine they were written on: a clip is looked up by the end of its path.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from training.data.corpora import json_lines
from training.data.corpora.found import (
    AUDIO_SUFFIXES,
    Found,
    Layout,
    Unusable,
    language_from,
    lines,
    split_name,
    wanted,
)
from zoo.errors import DataError

KATHBATH = "transcription_n2w.txt"
KATHBATH_NAME = re.compile(r"(?P<id>\d+)-(?P<speaker>\d+)-(?P<gender>[fm])")


def recognises(source: Path) -> bool:
    """Kathbath's, IndicVoices' or Shrutilipi's own layout, or manifests below a folder named after a language."""
    if not source.is_dir():
        return False
    if any(True for _ in islice(source.rglob(KATHBATH), 1)) or _sentences(source, 1):
        return True
    return any(_is_indicvoices(p) for p in islice(source.rglob("*.json"), 3)) or "vistaar" in source.name.lower()


def read(source: Path, lang: str | None, split: str | None) -> Iterator[Found | Unusable]:
    known = False
    for path in sorted(source.rglob(KATHBATH)) if source.is_dir() else []:
        known = True
        if wanted(split, path.parent.name):
            yield from _kathbath(path, source, lang)
    for path in sorted(p for p in source.rglob("*.json") if _is_indicvoices(p)) if source.is_dir() else []:
        known = True
        if wanted(split, path.parent.name):
            yield from _indicvoices(path, source, lang)
    for path in _sentences(source, None):
        known = True
        if split is None or wanted(split, "train"):
            yield _shrutilipi(path, source, lang)
    if json_lines.files(source):
        known = True
        yield from json_lines.read(source, lang, split)
    if not known:
        raise DataError(
            f"{source} is none of AI4Bharat's layouts",
            valid=f"{KATHBATH}; <id>.json with <id>.wav; sent_1.wav with sent_1.txt; JSON lines with audio_filepath",
        )


def _kathbath(path: Path, root: Path, lang: str | None) -> Iterator[Found | Unusable]:
    language = language_from(path, lang, root, str(path))
    clips: dict[str, Path] = {}

    def elsewhere(file: str) -> Path:
        """Audio and transcripts come in two archives; not everybody unpacks them into one tree."""
        if not clips:
            clips.update({p.stem: p for p in root.rglob("*") if p.suffix in AUDIO_SUFFIXES})
        return clips.get(Path(file).stem, path.parent / "audio" / file)

    for number, line in enumerate(lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        file, _, text = line.replace("\u00a0", " ").partition("\t" if "\t" in line else " ")
        match = KATHBATH_NAME.match(file)
        yield Found(
            name=f"kathbath_{language}/{path.parent.name}/{Path(file).stem}",
            audio=_beside(path.parent, file) or elsewhere(file),
            text=text.strip(),
            lang=language,
            where=where,
            speaker=match["speaker"] if match else "",
            subset=split_name(path.parent.name),
            extra={"gender": match["gender"]} if match else {},
        )


def _beside(folder: Path, file: str) -> Path | None:
    """The clip in audio/ or right in the folder, under the suffix named or another one (they are often recoded)."""
    stem = Path(file).stem
    for place in (folder / "audio", folder):
        for name in (file, *(stem + suffix for suffix in AUDIO_SUFFIXES)):
            if (place / name).is_file():
                return place / name
    return None


def _is_indicvoices(path: Path) -> bool:
    if not path.with_suffix(".wav").exists():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return '"verbatim"' in file.read(100_000)


def _indicvoices(path: Path, root: Path, lang: str | None) -> Iterator[Found | Unusable]:
    """One clip a sentence. The text is `normalized`; speaker_id 1 inside a sentence is the interviewer."""
    try:
        recording = json.loads(path.read_text(encoding="utf-8-sig"))
        spoken = recording["normalized"] if recording.get("normalized") else recording["verbatim"]
        sentences = [(float(s["start"]), float(s["end"]), s["text"], s.get("speaker_id")) for s in spoken]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        yield Unusable(str(path), f"{path}: no IndicVoices transcript ({type(error).__name__}: {error})")
        return
    language = language_from(path, lang, root, str(path))
    kept = {k: recording[k] for k in ("scenario", "task_name", "gender", "age_group", "district") if recording.get(k)}
    for number, (start, end, text, voice) in enumerate(sentences, 1):
        if voice == 1:
            continue
        where = f"{path} sentence {number}"
        if end <= max(start, 0.0):
            yield Unusable(where, f"{where}: it lasts from {start} to {end} s")
            continue
        yield Found(
            name=f"{path.stem}_{number}",
            audio=path.with_suffix(".wav"),
            text=text or "",
            lang=language,
            where=where,
            speaker=str(recording.get("speaker_id") or ""),
            subset=split_name(path.parent.name),
            duration=end - max(start, 0.0),
            offset=max(start, 0.0),
            extra=kept,
        )


def _sentences(source: Path, limit: int | None) -> list[Path]:
    """Shrutilipi's sent_<n>.txt that have a clip beside them."""
    if not source.is_dir():
        return []
    texts = (p for p in source.rglob("sent_*.txt") if p.with_suffix(".wav").exists())
    return sorted(islice(texts, limit))


def _shrutilipi(path: Path, root: Path, lang: str | None) -> Found:
    language = language_from(path, lang, root, str(path))
    return Found(
        name=f"shrutilipi_{language}/{path.parent.name}/{path.stem}",
        audio=path.with_suffix(".wav"),
        text=" ".join(lines(path)).strip(),
        lang=language,
        where=str(path),
        speaker="",  # news readers are not named
        subset="train",
        extra={"bulletin": path.parent.name},
    )


LAYOUT = Layout(
    "ai4bharat",
    "Kathbath, IndicVoices, Shrutilipi, Vistaar as unpacked (JSON lines, transcription_n2w.txt)",
    recognises,
    read,
)
