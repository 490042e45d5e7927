"""Code-switched clips with exact segment times, made from clips in one language each.

Kinds: `inter` (whole sentences follow each other, with a pause), `intra` (pieces up to 3 s follow without a pause, as
inside a sentence), `rapid` (every piece is shorter than 1.5 s). Each is made with one voice (`same`) where a speaker is
recorded in several languages, and with several (`different`).

A system must not be able to hear the seam instead of the language: pieces have one level and one long-term spectrum,
lie on one noise floor, and are cross-faded. The controls prove it: `speaker-change` (one language, the voice
changes) and `splice` (one language, one voice): a switch reported there is a false alarm.

Clip i of a set is a function of the manifest, the options and the seed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Literal

import numpy as np

from training.data.levels import at_level
from training.data.manifest import Record, Segment, require_languages, write_manifest
from training.data.pieces import CHANNEL_CLIPS, LEVEL_DB, Piece, pieces, spectrum_db, with_spectrum
from training.data.prepare import write_clip
from training.data.speed import at_speed
from zoo.errors import AudioError, DataError
from zoo.speech import SAMPLE_RATE

LONGEST_S = {"inter": 15.0, "intra": 3.0, "rapid": 1.5}
CONTROLS = ("speaker-change", "splice")
KINDS = (*LONGEST_S, *CONTROLS)
TRIES = 40  # draws of pieces before a clip is given up


@dataclass(frozen=True)
class CodeSwitchOptions:
    """What to make. Each field's text serves as the help of the option of the same name."""

    clips: int = 50
    """Clips of each kind, and of same and different voices each where both can be had."""
    kinds: tuple[str, ...] = KINDS
    """inter, intra, rapid; controls: speaker-change, splice."""
    voices: Literal["same", "different", "both"] = "both"
    """One speaker in all languages, another one at each switch, or both."""
    segments: tuple[int, int] = (2, 4)
    """Fewest and most segments of a clip (rapid: twice as many)."""
    pause_s: tuple[float, float] = (0.1, 0.5)
    """Pause between sentences (inter)."""
    fade_s: float = 0.03
    """Cross-fade at a seam (intra, rapid); the switch is its middle."""
    max_s: float = 28.0
    """Longest clip."""
    floor_db: float = -55.0
    """Noise under the whole clip, dB relative to full scale."""
    transcribed: bool = False
    """Use only pieces whose words are known; otherwise longer sentences are cut at pauses, without text."""
    speeds: tuple[float, ...] = (1.0,)
    """Each speaker at each of these speeds, as another voice."""
    seed: int = 0


@dataclass
class CodeSwitched:
    """A set that was made."""

    records: list[Record] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Clips of each `kind/voices`."""
    notes: list[str] = field(default_factory=list)
    """What could not be made, and why; clips that could not be read."""
    manifest: Path | None = None


class Voices:
    """The clips by language and speaker; audio, pieces and spectra are read when needed and kept."""

    def __init__(self, records: Sequence[Record], speeds: Sequence[float] = (1.0,)):
        self.by_voice: dict[tuple[str, str], list[Record]] = defaultdict(list)
        self._speed: dict[str, float] = {}
        for record in sorted(records, key=lambda r: r.id):
            if not record.segments:
                for speed in speeds:
                    self._add(record, speed)
        self.speakers: dict[str, list[str]] = defaultdict(list)
        for lang, speaker in sorted(self.by_voice):
            self.speakers[lang].append(speaker)
        self.unreadable: dict[str, str] = {}
        self._pieces: dict[tuple[str, float], list[Piece]] = {}
        self._spectra: dict[tuple[str, str], np.ndarray] = {}

    def _add(self, record: Record, speed: float) -> None:
        speaker = record.speaker or f"unknown {record.id}"
        if speed != 1:
            speaker = f"{speaker}@{speed:g}"
            record = replace(record, id=f"{record.id}@{speed:g}", speaker=speaker)
        self._speed[record.id] = speed
        self.by_voice[record.lang, speaker].append(record)

    def bilingual(self, languages: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """(speaker, languages) of everyone recorded in two or more of `languages`."""
        spoken: dict[str, list[str]] = defaultdict(list)
        for lang in languages:
            for speaker in self.speakers.get(lang, ()):
                spoken[speaker].append(lang)
        return [(s, tuple(langs)) for s, langs in sorted(spoken.items()) if len(langs) > 1]

    def piece(self, voice: tuple[str, str], longest_s: float, transcribed: bool, random) -> Piece | None:
        """A piece of one voice, drawn at random; None where it has none that fits."""
        records = self.by_voice[voice]
        for index in random.permutation(len(records))[:8]:
            found = self.pieces_of(records[index], longest_s)
            found = [p for p in found if p.text is not None] if transcribed else found
            if found:
                return found[random.integers(len(found))]
        return None

    def pieces_of(self, record: Record, longest_s: float) -> list[Piece]:
        key = (record.id, longest_s)
        if key not in self._pieces:
            try:
                speed = self._speed[record.id]
                found = pieces(record, record.load(), longest_s * speed)
                self._pieces[key] = [replace(p, audio=at_speed(p.audio, speed)) for p in found]
            except AudioError as error:
                self.unreadable[record.id] = str(error)
                self._pieces[key] = []
        return self._pieces[key]

    def spectrum(self, voice: tuple[str, str]) -> np.ndarray:
        """Long-term spectrum of a voice over its first clips, dB `[24]`: its channel, mostly."""
        if voice not in self._spectra:
            found = [p for r in self.by_voice[voice][:CHANNEL_CLIPS] for p in self.pieces_of(r, LONGEST_S["inter"])]
            self._spectra[voice] = spectrum_db(np.concatenate([p.audio for p in found])) if found else np.zeros(24)
        return self._spectra[voice]


def make(
    records: Sequence[Record],
    languages: Sequence[str],
    out: Path,
    options: CodeSwitchOptions = CodeSwitchOptions(),
    *,
    progress: Callable[[CodeSwitched], None] | None = None,
) -> CodeSwitched:
    """Make a set; OUT gets manifest.jsonl and audio/<kind>/*.flac.

    Raises DataError where a language has no clip, or nothing at all could be made.
    """
    _check(options, languages)
    require_languages(records, languages, "The manifest")
    voices = Voices([r for r in records if r.lang in languages], options.speeds)
    done = CodeSwitched()
    for kind in options.kinds:
        for same in (True, False):
            if kind in CONTROLS:
                if same != (kind == "splice"):
                    continue
            elif options.voices != "both" and same != (options.voices == "same"):
                continue
            _make_kind(kind, same, voices, languages, out, options, done, progress)
    for name, reason in sorted(voices.unreadable.items()):
        done.notes.append(f"skipped {name}: {reason}")
    if not done.records:
        raise DataError("Nothing could be made: " + "; ".join(done.notes), remedy="boli data describe MANIFEST")
    done.manifest = write_manifest(out / "manifest.jsonl", done.records)
    return done


def _make_kind(kind, same, voices, languages, out, options: CodeSwitchOptions, done: CodeSwitched, progress) -> None:
    plan = _planner(kind, same, voices, languages, options)
    label = f"{kind}/{'same' if same else 'different'}"
    if plan is None:
        why = "no speaker is recorded in two languages" if kind in LONGEST_S else "a language needs two speakers"
        if kind in LONGEST_S and same and options.voices == "same":
            raise DataError(f"Clips of {label} voices cannot be made: {why}", remedy="--voices different")
        done.notes.append(f"no {label} clips: {why}")
        return
    for number in range(options.clips):
        random = np.random.default_rng([options.seed, KINDS.index(kind), int(same), number])
        name = f"{kind}_{'same' if same else 'different'}_{number:04d}"
        path = out / "audio" / kind / f"{name}.flac"
        record = _clip(name, kind, same, plan, voices, path, options, random)
        if record is None:
            done.notes.append(f"no more than {number} {label} clips: no pieces of up to {_longest(kind)} s fit")
            return
        done.records.append(record)
        done.counts[label] += 1
        if progress:
            progress(done)


def _longest(kind: str) -> float:
    return LONGEST_S.get(kind, LONGEST_S["intra"])


def _planner(kind: str, same: bool, voices: Voices, languages: Sequence[str], options: CodeSwitchOptions):
    """A function drawing the voices of one clip, `[(lang, speaker), ...]`; None where the corpus has no such voices."""
    if kind == "splice":
        pairs = [(lang, speaker) for lang in languages for speaker in voices.speakers[lang]]
        return lambda n, random: [pairs[random.integers(len(pairs))]] * n
    if kind == "speaker-change":
        possible = [lang for lang in languages if len(voices.speakers[lang]) > 1]
        if not possible:
            return None

        def change(n, random):
            lang = possible[random.integers(len(possible))]
            one, other = random.permutation(len(voices.speakers[lang]))[:2]
            return [(lang, voices.speakers[lang][(one, other)[i % 2]]) for i in range(n)]

        return change
    if same:
        people = voices.bilingual(languages)
        if not people:
            return None

        def one_voice(n, random):
            speaker, spoken = people[random.integers(len(people))]
            one, other = random.permutation(len(spoken))[:2]
            return [(spoken[(one, other)[i % 2]], speaker) for i in range(n)]

        return one_voice
    # pairs of languages that can be had from different speakers
    pairs = [(a, b) for a, b in permutations(languages, 2) if len({*voices.speakers[a], *voices.speakers[b]}) > 1]
    if not pairs:
        return None

    def several(n: int, random: np.random.Generator) -> list[tuple[str, str]]:
        pair = pairs[random.integers(len(pairs))]
        chosen: dict[str, str] = {}
        while len(set(chosen.values())) < 2:
            chosen = {lang: voices.speakers[lang][random.integers(len(voices.speakers[lang]))] for lang in pair}
        return [(pair[i % 2], chosen[pair[i % 2]]) for i in range(n)]

    return several


def _clip(name, kind, same, plan, voices: Voices, path: Path, options: CodeSwitchOptions, random) -> Record | None:
    fewest, most = options.segments
    factor = 2 if kind == "rapid" else 1
    # half of the clips with words throughout, where the corpus has short enough sentences
    known_first = random.random() < 0.5
    for attempt in range(TRIES):
        known = options.transcribed or (known_first and attempt < TRIES // 2)
        chosen = plan(int(random.integers(fewest * factor, most * factor + 1)), random)
        found: list[Piece] = []
        used: set[tuple[str, int]] = set()
        for voice in chosen:
            piece = voices.piece(voice, _longest(kind), known, random)
            if piece is None:
                break
            if (piece.record.id, len(piece.audio)) in used and len(voices.by_voice[voice]) > len(chosen):
                continue  # the same sentence twice in one clip, though there are others
            used.add((piece.record.id, len(piece.audio)))
            found.append(piece)
        enough = len(found) >= 2 and (kind in CONTROLS or len({p.record.lang for p in found}) > 1)
        while enough and sum(p.seconds for p in found) + len(found) * options.pause_s[1] > options.max_s:
            found.pop()
            enough = len(found) >= 2
        if not enough or any(a.record.lang == b.record.lang and kind in LONGEST_S for a, b in pairwise(found)):
            continue
        audio, segments = joined(found, voices, kind == "inter", options, random)
        write_clip(path, audio, "flac")
        return _record(name, kind, same, path, audio, segments, found)
    return None


def joined(
    found: Sequence[Piece], voices: Voices, pauses: bool, options: CodeSwitchOptions, random: np.random.Generator
) -> tuple[np.ndarray, list[Segment]]:
    """The pieces as one clip, and when each is heard.

    With pauses, a segment is a piece's own time and pauses belong to none; without, segments meet in the middle of the
    cross-fade, so they leave no gap.
    """
    spectra = [voices.spectrum((p.record.lang, p.record.speaker or f"unknown {p.record.id}")) for p in found]
    common = np.mean(spectra, axis=0)
    matched = [at_level(with_spectrum(p.audio, s, common), LEVEL_DB) for p, s in zip(found, spectra, strict=True)]
    fade = 0 if pauses else round(options.fade_s * SAMPLE_RATE)
    edge = round(0.01 * SAMPLE_RATE)  # a click is heard where speech is cut at full level
    lead = round(random.uniform(0.1, 0.3) * SAMPLE_RATE)
    starts, position = [], lead
    for audio in matched:
        starts.append(position)
        position += len(audio) + (round(random.uniform(*options.pause_s) * SAMPLE_RATE) if pauses else -fade)
    end = starts[-1] + len(matched[-1])
    out: np.ndarray = np.zeros(end + lead, dtype=np.float64)
    for index, audio in enumerate(matched):
        gain = np.ones(len(audio))
        left = fade if index and fade else edge
        right = fade if index < len(matched) - 1 and fade else edge
        gain[:left] *= np.sin(np.linspace(0, np.pi / 2, left))
        gain[len(gain) - right :] *= np.cos(np.linspace(0, np.pi / 2, right))
        out[starts[index] : starts[index] + len(audio)] += audio * gain
    out += random.standard_normal(len(out)) * 10 ** (options.floor_db / 20)
    peak = np.abs(out).max()
    segments = []
    for index, piece in enumerate(found):
        first, last = starts[index], starts[index] + len(matched[index])
        if fade:
            first += fade // 2 if index else 0
            last -= fade - fade // 2 if index < len(found) - 1 else 0
        segments.append(
            Segment(
                round(first / SAMPLE_RATE, 5),
                round(last / SAMPLE_RATE, 5),
                piece.record.lang,
                piece.text or "",
                piece.record.speaker,
            )
        )
    return (out * min(1.0, 0.99 / peak)).astype(np.float32), segments


def _is_synthetic(record: Record) -> bool:
    return bool(record.extra.get("synthetic", record.extra.get("kind") in ("tts", "synthetic")))


def _record(name, kind, same, path, audio, segments: list[Segment], found: Sequence[Piece]) -> Record:
    known = all(p.text is not None for p in found)
    extra = {
        "kind": kind,
        "voices": "same" if same else "different",
        "switches": [s.start for a, s in pairwise(segments) if a.lang != s.lang],
        "sources": [p.record.id for p in found],
        "corpora": sorted({str(c) for p in found if (c := p.record.extra.get("corpus"))}),
        "synthetic": any(_is_synthetic(p.record) for p in found),
        "transcribed": known,
    }
    people = list(dict.fromkeys(s.speaker for s in segments if s.speaker))
    subsets = {p.record.subset for p in found}
    return Record(
        id=name,
        path=path,
        text=" ".join(s.text for s in segments) if known else "",
        lang=segments[0].lang,
        speaker="+".join(people),
        duration=round(len(audio) / SAMPLE_RATE, 4),
        subset=subsets.pop() if len(subsets) == 1 else "",
        segments=tuple(segments),
        extra=extra,
    )


def frame_labels(record: Record, frame_rate: float, languages: Sequence[str], frames: int | None = None) -> np.ndarray:
    """Index into `languages` of each frame, int64 `[frames]`; -1 where nobody speaks or the language is another one.

    frame_rate: encoder frames per second. frames: their number; None: as many as the clip's duration holds. A frame
    belongs to the segment that its middle lies in. A clip without segments is one segment.
    """
    if frames is None:
        if record.duration is None:
            raise DataError(f"{record.id}: its duration is not known", remedy="boli data convert, which writes it")
        frames = int(np.ceil(record.duration * frame_rate - 1e-6))
    middles = (np.arange(frames) + 0.5) / frame_rate
    labels: np.ndarray = np.full(frames, -1, dtype=np.int64)
    index = {lang: i for i, lang in enumerate(languages)}
    whole = (Segment(0.0, record.duration if record.duration is not None else np.inf, record.lang),)
    for segment in record.segments or whole:
        labels[(middles >= segment.start) & (middles < segment.end)] = index.get(segment.lang, -1)
    return labels


def _check(options: CodeSwitchOptions, languages: Sequence[str]) -> None:
    if unknown := [kind for kind in options.kinds if kind not in KINDS]:
        raise DataError(f"Kinds {', '.join(unknown)} cannot be made", valid=", ".join(KINDS))
    if options.voices not in ("same", "different", "both"):
        raise DataError(f"voices is {options.voices!r}", valid="same, different, both")
    if len(set(languages)) < 2 and any(kind in LONGEST_S for kind in options.kinds):
        raise DataError(
            f"Switching needs two languages, there is {', '.join(languages) or 'none'}", valid="--lang hi,en"
        )
    if not 2 <= options.segments[0] <= options.segments[1]:
        raise DataError(f"segments is {options.segments}", valid="two numbers, 2 or more, the lower one first")
    if not 0 < options.fade_s <= 0.1:
        raise DataError(f"fade_s is {options.fade_s}", valid="0.001 to 0.1 s")
    if not options.speeds or not all(0.5 <= speed <= 2 for speed in options.speeds):
        raise DataError(f"speeds are {options.speeds}", valid="factors from 0.5 to 2: 0.8,1.25")
    if len(set(options.speeds)) < len(options.speeds):
        raise DataError(f"speeds are {options.speeds}", valid="each once")
    if options.clips < 1:
        raise DataError(f"clips is {options.clips}", valid="1 or more")
