"""The one manifest format: JSON lines, one clip a line.

    {"path": "audio/1.ogg", "text": "...", "lang": "hi", "speaker": "a", "duration": 3.2, "subset": "train",
     "segments": [{"start": 0.0, "end": 1.4, "lang": "hi", "text": "..."}]}

`path` (or NeMo's `audio_filepath`) is relative to the manifest or absolute; `dur` is read as `duration`, `language`
and NeMo's `source_lang` as `lang`, NeMo's `offset` cuts a clip out of a longer file. Every other key is kept in `extra`
and written back. Every error names file and line. Text may be empty only where the line says `"transcribed": false`
(code-switched clips whose pieces were cut out of longer sentences: the times are known, the words are not).
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.files import written_whole
from training.data.languages import language_tag
from zoo.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# How other tools spell our keys; the first that is present counts.
SPELLINGS = {
    "path": ("path", "audio_filepath", "audio_path", "wav"),
    "text": ("text", "sentence", "transcript", "transcription", "normalized", "verbatim"),
    "lang": ("lang", "language", "source_lang"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "duration": ("duration", "dur"),
    "subset": ("subset", "split"),
}
SHOWN_PROBLEMS = 5  # a broken manifest has one cause more often than thousands


@dataclass(frozen=True)
class Segment:
    """A stretch of one clip in one language."""

    start: float
    """Seconds from the clip's start."""
    end: float
    lang: str
    text: str = ""
    speaker: str = ""


@dataclass(frozen=True)
class Record:
    """One clip and what is said in it."""

    id: str
    """Unique in its manifest; where the manifest gives none, the path as it is written there."""
    path: Path
    """Where the file lies, already resolved against the manifest's folder."""
    text: str
    lang: str
    """BCP-47 tag of the (first) language."""
    speaker: str = ""
    """Empty where unknown."""
    duration: float | None = None
    """Seconds; None where the manifest does not say."""
    subset: str = ""
    segments: tuple[Segment, ...] = ()
    """Empty for a clip in one language."""
    offset: float = 0.0
    """Seconds into the file at which the clip starts."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Every other key of the line."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages spoken, in order of appearance."""
        return tuple(dict.fromkeys([s.lang for s in self.segments] or [self.lang]))

    @property
    def corpus(self) -> str:
        """What recordings were made under the same conditions: the line's `corpus` or `source`; else the folder that the
        clip lies in."""
        named = self.extra.get("corpus") or self.extra.get("source")
        return str(named) if named else self.path.parent.name

    @property
    def corpora(self) -> set[str]:
        """Of a clip that was put together from several, those of its parts; else its own."""
        return set(self.extra.get("corpora") or ()) or {self.corpus}

    def load(self) -> "np.ndarray":
        """The clip's audio: float32 `[n_samples]`, mono, 16 kHz. Raises AudioError."""
        from zoo.audio import decode
        from zoo.errors import AudioError
        from zoo.speech import SAMPLE_RATE

        audio = decode(self.path)
        if not self.offset:
            return audio
        start = round(self.offset * SAMPLE_RATE)
        stop = None if self.duration is None else start + round(self.duration * SAMPLE_RATE)
        if start >= len(audio):
            raise AudioError(
                f"{self.path}: the clip starts at {self.offset:g} s, the file has {len(audio) / SAMPLE_RATE:.2f} s"
            )
        return audio[start:stop]


def read_manifest(
    path: str | Path,
    *,
    lang: str | None = None,
    subset: str | None = None,
    check_audio: bool = True,
    allow_empty_text: bool = False,
) -> list[Record]:
    """Records of one manifest, in its order.

    lang: language of the lines that name none (many NeMo manifests do not).
    subset: keep only lines of this `subset`.
    check_audio: make sure that every file exists (one `stat` a clip).

    Raises DataError that lists the first problems with file:line and counts the rest.
    """
    path = Path(path)
    records: list[Record] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    subsets: set[str] = set()
    for number, record in parse_lines(path, lang, allow_empty_text=allow_empty_text):
        where = f"{path}:{number}"
        if isinstance(record, DataError):
            problems.append(str(record))
            continue
        subsets.add(record.subset)
        if record.id in first_line:
            problems.append(f"{where}: id {record.id!r} is already used in line {first_line[record.id]}")
            continue
        first_line[record.id] = number
        if subset is not None and record.subset != subset:
            continue
        if check_audio and not record.path.is_file():
            problems.append(f"{where}: clip {record.path} does not exist")
            continue
        records.append(record)
    if problems:
        raise _refusal(path, problems)
    if not records:
        if subset is not None and subsets:
            raise DataError(f"{path} has no clip with subset {subset!r}", valid=", ".join(sorted(map(repr, subsets))))
        raise DataError(f"{path} has no clips", valid="JSON lines such as " + EXAMPLE)
    return records


EXAMPLE = '{"path": "a.wav", "text": "...", "lang": "hi", "speaker": "s1", "duration": 2.5}'


def parse_lines(
    path: Path, lang: str | None = None, *, allow_empty_text: bool = False
) -> Iterator[tuple[int, Record | DataError]]:
    """(line number, record or what is wrong with the line) of every line that is not blank; files are not looked at.

    Raises DataError where the file as a whole cannot be read.
    """
    default = language_tag(lang) if lang else None
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            yield number, _record(json.loads(line), path.parent, where, default, allow_empty_text)
        except json.JSONDecodeError as error:
            yield number, DataError(f"{where}: not JSON ({error.msg} at column {error.colno})")
        except DataError as error:
            yield number, error


def set_name(path: str | Path) -> str:
    """What a manifest's clips are called together: its name without ending, or its folder's where it is `manifest.jsonl`
    (as `boli data prepare` and `codeswitch` write it)."""
    path = Path(path)
    return path.parent.name if path.name == "manifest.jsonl" and path.parent.name else path.stem


def write_manifest(path: str | Path, records: Iterable[Record]) -> Path:
    """Write atomically, clip paths relative to the manifest's folder. Raises DataError (disk full, duplicate ids)."""
    path = Path(path)
    records = list(records)
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise DataError(
                f"Id {record.id!r} stands twice in the records to be written to {path}",
                remedy="prefix the ids of one source, as `boli data mix` does",
            )
        seen.add(record.id)
    folder = path.parent.resolve()
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(to_line(record, folder), ensure_ascii=False) + "\n")
    return path


def to_line(record: Record, folder: Path) -> dict[str, Any]:
    """The dictionary of one line, paths relative to `folder` (absolute only across Windows drives)."""
    line: dict[str, Any] = {
        "id": record.id,
        "path": _relative(record.path, folder),
        "text": record.text,
        "lang": record.lang,
    }
    if record.speaker:
        line["speaker"] = record.speaker
    if record.duration is not None:
        line["duration"] = round(record.duration, 4)
    if record.subset:
        line["subset"] = record.subset
    if record.offset:
        line["offset"] = record.offset
    if record.segments:
        line["segments"] = [
            {
                "start": s.start,
                "end": s.end,
                "lang": s.lang,
                "text": s.text,
                **({"speaker": s.speaker} if s.speaker else {}),
            }
            for s in record.segments
        ]
    return {**line, **{key: value for key, value in record.extra.items() if key not in line}}


def with_durations(records: Iterable[Record]) -> list[Record]:
    """The records, durations read from the files' headers where they were missing. Raises AudioError."""
    from zoo.audio import probe

    return [r if r.duration is not None else replace(r, duration=probe(r.path) - r.offset) for r in records]


def require_languages(records: Iterable[Record], languages: Iterable[str], where: str) -> None:
    """Raises DataError where one of `languages` has no clip."""
    counts: dict[str, int] = {}
    for record in records:
        for lang in record.languages:
            counts[lang] = counts.get(lang, 0) + 1
    if missing := [lang for lang in languages if not counts.get(lang)]:
        found = ", ".join(f"{lang} ({n} clips)" for lang, n in sorted(counts.items()))
        raise DataError(
            f"{where} has no clip in {', '.join(missing)}",
            valid=found or "no language at all",
            remedy="add data for it with `boli data convert`, or leave the language out",
        )


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise DataError(
            f"Manifest {path} does not exist", remedy="make one: boli data convert FOLDER --layout LAYOUT --out OUT"
        )
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.json*"))[:5]
        raise DataError(f"{path} is a folder, not a manifest", valid=", ".join(inside) or "a JSON lines file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start})", valid="JSON lines such as " + EXAMPLE
        ) from None
    if text.lstrip().startswith("["):
        raise DataError(
            f"{path} is one JSON array", valid="JSON lines, one object a line", remedy=f"jq -c '.[]' {path} > {path}l"
        )
    return text.split("\n")


def _record(line: Any, folder: Path, where: str, default_lang: str | None, allow_empty_text: bool) -> Record:
    if not isinstance(line, dict):
        raise DataError(f"{where}: {type(line).__name__}, not an object", valid=EXAMPLE)
    line = dict(line)

    def take(key: str) -> Any:
        for spelling in SPELLINGS[key]:
            if line.get(spelling) is not None:
                return line.pop(spelling)
        return None

    written = take("path")
    if not isinstance(written, str) or not written:
        raise DataError(
            f"{where}: no `path` (or `audio_filepath`), keys are {', '.join(line) or 'none'}", valid=EXAMPLE
        )
    text = take("text")
    if not isinstance(text, str):
        raise DataError(f"{where}: no `text` for {written}", valid=EXAMPLE)
    if not text.strip() and not allow_empty_text and line.get("transcribed") is not False:
        raise DataError(
            f"{where}: the text of {written} is empty", remedy="remove the line, or give the words that are spoken"
        )
    segments = tuple(_segment(s, where) for s in line.pop("segments", None) or ())
    named = take("lang") or (segments[0].lang if segments else None) or default_lang
    if not named:
        raise DataError(f"{where}: no `lang`", valid=EXAMPLE, remedy="name it in the line, or pass --lang")
    speaker = take("speaker")
    offset = _seconds(line.pop("offset", None), "offset", where) or 0.0
    duration = _seconds(take("duration"), "duration", where)
    if duration == 0:
        raise DataError(f"{where}: `duration` is 0", valid="seconds above 0, or no `duration`")
    if duration is not None and segments and segments[-1].end > duration + 0.05:
        raise DataError(f"{where}: the last segment ends at {segments[-1].end:g} s, the clip lasts {duration:g} s")
    name = line.pop("id", None)
    return Record(
        id=str(name) if name not in (None, "") else written + (f"@{offset:g}" if offset else ""),
        path=Path(os.path.normpath(folder / written)),
        text=text,
        lang=language_tag(named, where),
        speaker="" if speaker is None else str(speaker),
        duration=duration,
        subset=str(take("subset") or ""),
        segments=segments,
        offset=offset,
        extra=line,
    )


def _segment(value: Any, where: str) -> Segment:
    shape = '{"start": 0.0, "end": 1.4, "lang": "hi", "text": "..."}'
    if not isinstance(value, dict) or not {"start", "end", "lang"} <= set(value):
        raise DataError(f"{where}: segment {value!r} lacks start, end or lang", valid=shape)
    start, end = _seconds(value["start"], "segment start", where), _seconds(value["end"], "segment end", where)
    if start is None or end is None or end <= start:
        raise DataError(f"{where}: segment from {start} to {end} s has no length", valid="0 <= start < end")
    text, speaker = value.get("text") or "", value.get("speaker") or ""
    return Segment(start, end, language_tag(value["lang"], where), str(text), str(speaker))


def _seconds(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise DataError(f"{where}: `{name}` is {value!r}", valid="seconds as a number, 0 or more")
    return seconds


def _refusal(path: Path, problems: list[str]) -> DataError:
    shown = "\n  ".join(problems[:SHOWN_PROBLEMS])
    rest = len(problems) - SHOWN_PROBLEMS
    more = f"\n  ... and {rest} more like these" if rest > 0 else ""
    plural = "problem" if len(problems) == 1 else "problems"
    return DataError(
        f"{path} has {len(problems)} {plural}:\n  {shown}{more}\n",
        remedy=f"correct the lines, or drop the bad ones: boli data convert {path} --layout manifest --out CLEAN",
    )


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder)).as_posix()
    except ValueError:
        return str(path)
