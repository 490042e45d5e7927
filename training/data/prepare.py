"""From clips as a corpus has them to 16 kHz mono files and a manifest; what cannot be used is counted and named."""

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from training.data.corpora.found import Found, Unusable
from training.data.files import cannot_write, written_whole
from training.data.levels import FLOOR_DB, at_level, speech_bounds, speech_level
from training.data.manifest import Record, Segment, write_manifest
from zoo.errors import AudioError, DataError
from zoo.speech import SAMPLE_RATE

FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "ogg": ("OGG", "OPUS")}
DURATION_TOLERANCE_S = 1.0  # a corpus that is further off than this about a clip's length means another clip


@dataclass(frozen=True)
class PrepareOptions:
    """How clips are made alike. Each field's text serves as the help of the option of the same name."""

    loudness_db: float | None = -26.0
    """Bring the speech of every clip to this level, dB relative to full scale; None: leave it."""
    trim: bool = False
    """Cut silence at both ends, keeping 0.1 s."""
    min_s: float = 0.2
    """Skip clips shorter than this many seconds."""
    max_s: float = 30.0
    """Skip clips longer than this many seconds."""
    format: str = "flac"
    """Format of the clips written: flac, wav or ogg (Opus)."""
    in_place: bool = False
    """Write no clips: the manifest points at the corpus' own files, checked but unchanged."""
    limit: int = 0
    """Stop after this many clips; 0: all."""
    workers: int = 4
    """Clips decoded at the same time."""


@dataclass(frozen=True)
class Skipped:
    """A clip that was not used."""

    where: str
    """file:line or row."""
    kind: str
    """Short reason, for counting: `unreadable`, `empty text`, `too long`, ..."""
    reason: str


@dataclass
class Prepared:
    """What came of a corpus."""

    records: list[Record] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    manifest: Path | None = None

    @property
    def hours(self) -> float:
        return sum(r.duration or 0.0 for r in self.records) / 3600

    @property
    def reasons(self) -> Counter[str]:
        return Counter(s.kind for s in self.skipped)


def prepare(
    clips: Iterable[Found | Unusable],
    out: Path,
    options: PrepareOptions = PrepareOptions(),
    *,
    corpus: str = "",
    progress: Callable[[Prepared], None] | None = None,
) -> Prepared:
    """Decode, check and write clips; OUT gets manifest.jsonl, audio/<lang>/<subset>/ and skipped.csv.

    corpus: put before speakers' names, so that speaker 1 of two corpora stays two people.
    The manifest is written last and atomically. Raises DataError where the disk is full or no clip was usable.
    """
    _check(options)
    done = Prepared()
    with ThreadPoolExecutor(options.workers) as pool:
        for outcome in _in_order(pool, lambda clip: _one(clip, out, options, corpus), _unique(clips), options):
            if isinstance(outcome, Skipped):
                done.skipped.append(outcome)
            else:
                done.records.append(outcome)
            if progress:
                progress(done)
    _write_skipped(out / "skipped.csv", done.skipped)
    if not done.records:
        reasons = ", ".join(f"{kind} ({n})" for kind, n in done.reasons.most_common()) or "the corpus is empty"
        first = f" The first: {done.skipped[0].reason}" if done.skipped else ""
        raise DataError(f"No clip could be used: {reasons}.{first}", remedy=f"see {out / 'skipped.csv'}")
    done.manifest = write_manifest(out / "manifest.jsonl", done.records)
    return done


def encoded(audio: np.ndarray, format: str) -> bytes:
    """The bytes of a file holding `audio` (float32 `[n]`, 16 kHz)."""
    import soundfile

    container, subtype = FORMATS[format]
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(audio, -1.0, 1.0), SAMPLE_RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def write_clip(path: Path, audio: np.ndarray, format: str) -> None:
    """Write a clip; nothing is left behind where the disk is full (DataError)."""
    data = encoded(audio, format)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise cannot_write(path, error) from error


def file_name(name: str) -> str:
    """A clip's id as a file name: letters of any script, digits, `.`, `-`, `_`."""
    return re.sub(r"[^\w.-]+", "_", name.removeprefix("/"))[-150:].lstrip(".") or "clip"


def _check(options: PrepareOptions) -> None:
    if options.format not in FORMATS:
        raise DataError(f"Format {options.format!r} cannot be written", valid=", ".join(FORMATS))
    if not 0 <= options.min_s < options.max_s:
        raise DataError(f"Durations from {options.min_s} to {options.max_s} s", valid="0 <= min_s < max_s")
    if options.loudness_db is not None and not -60 <= options.loudness_db <= 0:
        raise DataError(f"loudness_db is {options.loudness_db}", valid="-60 to 0 dB relative to full scale")
    if options.workers < 1:
        raise DataError(f"workers is {options.workers}", valid="1 or more")


@dataclass(frozen=True)
class _Task:
    clip: Found
    stem: str
    """Name of the file to write, without ending: unique, unlike ids cleaned of odd characters."""


def _unique(clips: Iterable[Found | Unusable]) -> Iterator[_Task | Skipped]:
    """Problems that need no audio: unusable rows, empty texts, ids used twice."""
    names: dict[str, str] = {}
    stems: Counter[str] = Counter()
    for clip in clips:
        if isinstance(clip, Unusable):
            yield Skipped(clip.where, "unusable row", clip.reason)
        elif not clip.text.strip() and clip.extra.get("transcribed") is not False:
            yield Skipped(clip.where, "empty text", f"{clip.where}: the text of {clip.name} is empty")
        elif clip.name in names:
            reason = f"{clip.where}: id {clip.name!r} is already used in {names[clip.name]}"
            yield Skipped(clip.where, "duplicate id", reason)
        else:
            names[clip.name] = clip.where
            stem = file_name(clip.name)
            stems[stem.lower()] += 1  # some file systems know no case
            yield _Task(clip, stem if stems[stem.lower()] == 1 else f"{stem}~{stems[stem.lower()]}")


def _in_order(pool: ThreadPoolExecutor, work, clips: Iterator, options: PrepareOptions) -> Iterator[Record | Skipped]:
    """Outcomes in the corpus' order, a bounded number under way (a corpus does not fit into memory)."""
    waiting: list[Future] = []
    clips = islice(clips, options.limit) if options.limit else clips
    try:
        for clip in clips:
            waiting.append(pool.submit(work, clip))
            if len(waiting) >= options.workers * 4:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for future in waiting:
            future.cancel()


def _one(task: _Task | Skipped, out: Path, options: PrepareOptions, corpus: str) -> Record | Skipped:
    if isinstance(task, Skipped):
        return task
    clip = task.clip
    try:
        audio = _decoded(clip)
    except AudioError as error:
        missing = isinstance(clip.audio, Path) and not clip.audio.exists()
        return Skipped(clip.where, "missing clip" if missing else "unreadable", f"{clip.where}: {error}")
    shift = 0
    if speech_level(audio) <= FLOOR_DB:
        return Skipped(clip.where, "silence", f"{clip.where}: {clip.name} holds nothing but silence")
    if not options.in_place and options.trim:
        shift, stop = speech_bounds(audio)
        audio = audio[shift:stop]
    seconds = len(audio) / SAMPLE_RATE
    for kind, bad in (("too short", seconds < options.min_s), ("too long", seconds > options.max_s)):
        if bad:
            limits = f"{options.min_s:g} to {options.max_s:g} s are kept"
            return Skipped(clip.where, kind, f"{clip.where}: {clip.name} lasts {seconds:.2f} s; {limits}")
    if options.in_place:
        if isinstance(clip.audio, bytes):
            raise DataError(
                f"{clip.where}: the clips lie inside the table, there are no files to point at",
                remedy="drop --in-place",
            )
        path = clip.audio
    else:
        if options.loudness_db is not None:
            audio = at_level(audio, options.loudness_db)
        path = out / "audio" / clip.lang / (clip.subset or "all") / f"{task.stem}.{options.format}"
        write_clip(path, audio, options.format)
    return _record(clip, path, seconds, shift / SAMPLE_RATE, corpus, options.in_place)


def _decoded(clip: Found) -> np.ndarray:
    from zoo.audio import decode

    audio = decode(clip.audio, clip.where if isinstance(clip.audio, bytes) else "")
    if not clip.offset:
        return audio
    start = round(clip.offset * SAMPLE_RATE)
    stop = len(audio) if clip.duration is None else start + round(clip.duration * SAMPLE_RATE)
    if stop > len(audio) + DURATION_TOLERANCE_S * SAMPLE_RATE or start >= len(audio):
        raise AudioError(
            f"{clip.name} should end at {stop / SAMPLE_RATE:.2f} s, the file has {len(audio) / SAMPLE_RATE:.2f} s"
        )
    return audio[start:stop]


def _record(clip: Found, path: Path, seconds: float, shift_s: float, corpus: str, in_place: bool) -> Record:
    segments = tuple(_shifted(s, shift_s, seconds) for s in clip.segments)
    speaker = f"{corpus}:{clip.speaker}" if corpus and clip.speaker else clip.speaker
    extra = {"corpus": corpus, **clip.extra} if corpus else clip.extra
    offset = clip.offset if in_place else 0.0
    return Record(
        clip.name, path, clip.text, clip.lang, speaker, round(seconds, 4), clip.subset, segments, offset, extra
    )


def _shifted(segment: Segment, shift_s: float, seconds: float) -> Segment:
    """The segment after `shift_s` seconds were cut off the clip's start."""
    start = min(max(segment.start - shift_s, 0.0), seconds)
    return replace(segment, start=round(start, 4), end=round(min(segment.end - shift_s, seconds), 4))


def _write_skipped(path: Path, skipped: list[Skipped]) -> None:
    if not skipped:
        path.unlink(missing_ok=True)
        return
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["where", "kind", "reason"])
        writer.writerows([s.where, s.kind, s.reason] for s in skipped)


def describe_skipped(done: Prepared, shown: int = 5) -> list[str]:
    """Lines for people: how many clips were skipped and why, the first few by name."""
    if not done.skipped:
        return []
    reasons = ", ".join(f"{kind} {n}" for kind, n in done.reasons.most_common())
    lines = [f"skipped {len(done.skipped)} clips ({reasons}):"]
    lines += [f"  {s.reason}" for s in done.skipped[:shown]]
    if len(done.skipped) > shown:
        lines.append(f"  ... and {len(done.skipped) - shown} more, all in skipped.csv")
    return lines
