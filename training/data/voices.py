"""Voices cut from recordings of people: festival's diphones and flite's units, speaking the corpus's texts at length.

    python -m training.data.voices --out DIR --text TEXTS --words LISTS [--speech CLIPS] [--extra CLIPS]

espeak-ng computes its sounds from formants; these voices carry the sounds of people. Every clip is spoken at a drawn
tempo, played through a drawn vocal-tract warp and passed through a channel, as the espeak clips are. Punjabi, which has
no such voice, is spoken by the Hindi one, its letters written as Devanagari's: the two scripts stand in the same order.
Training clips only, and after the corpus: what its test clips say is left out. The same seed and inputs give the same
texts, tempos and channels. Writes `voices_LANGUAGE_train.jsonl` beside the corpus's manifests.
"""

import argparse
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from training.data.embedded import write_rows
from training.data.prompts import text_id
from training.data.prompts_human import Forbidden, read_human
from training.data.prompts_sources import Texts, gather
from training.data.synthesis import trim
from training.data.synthesis_channel import Channels
from zoo.audio import decode
from zoo.errors import AudioError, BoliError, DataError
from zoo.speech import SAMPLE_RATE

CHUNK = 100  # sentences for one start of a synthesiser
MIN_S, MAX_S = 0.5, 9.0
WARPS = tuple(Fraction(*pair) for pair in ((6, 7), (9, 10), (15, 16), (1, 1), (16, 15), (9, 8), (7, 6)))
"""16 kHz samples per sample of the voice: above 1 a longer vocal tract, a slower and lower voice."""


@dataclass(frozen=True)
class RecordedVoice:
    """A voice of festival (`function` selects it) or of flite (by its own name)."""

    language: str
    sentences: int
    """At scale 1."""
    function: str = ""
    encoding: str = "utf-8"
    stretch: tuple[float, float] = (0.8, 1.15)
    """Shortest and longest sounds, as shares of the voice's own."""
    letters: str = ""
    """`devanagari`: Gurmukhi is written so before it is spoken."""


VOICES = {
    "kal": RecordedVoice("en", 1200, "voice_kal_diphone"),
    "ked": RecordedVoice("en", 1500, "voice_ked_diphone"),
    "slt": RecordedVoice("en", 1000, "voice_cmu_us_slt_arctic_hts"),
    "flite-awb": RecordedVoice("en", 1800),
    "flite-rms": RecordedVoice("en", 1800),
    "flite-slt": RecordedVoice("en", 1800),
    "flite-kal16": RecordedVoice("en", 1000),
    "lp": RecordedVoice("it", 2500, "voice_lp_diphone", "latin-1"),
    "pc": RecordedVoice("it", 2500, "voice_pc_diphone", "latin-1"),
    "nsk_hi": RecordedVoice("hi", 3000, "voice_hindi_NSK_diphone", stretch=(0.5, 0.95)),
    "nsk_te": RecordedVoice("te", 3000, "voice_telugu_NSK_diphone", stretch=(0.45, 0.9)),
    "nsk_pa": RecordedVoice("pa", 3000, "voice_hindi_NSK_diphone", stretch=(0.5, 0.95), letters="devanagari"),
}


def devanagari(text: str) -> str:
    """Gurmukhi in Devanagari's letters, as a Hindi voice reads them: the blocks of Unicode run in parallel but for the
    addak, which doubles the consonant behind it, and the tippi and bindi, which are nasals."""
    found, double = [], False
    for letter in text:
        if letter == "\u0a71":
            double = True
            continue
        if letter in "\u0a70\u0a02\u0a01":
            found.append("\u0902")
            continue
        other = chr(ord(letter) - 0x100) if "\u0a00" <= letter <= "\u0a7f" else letter
        if double and "\u0915" <= other <= "\u0939":
            found += [other, "\u094d"]
        double = False
        found.append(other)
    return "".join(found)


@dataclass(frozen=True)
class Said:
    """One sentence and how it is to be said."""

    text: str
    spelt: str
    """What the voice reads."""
    kind: str
    stretch: float
    warp: Fraction


def festival(voice: RecordedVoice, said: Sequence[Said], folder: Path) -> None:
    """Write `<number>.wav` of each sentence the voice can speak."""
    lines = [f"({voice.function})"]
    for number, each in enumerate(said):
        quoted = each.spelt.replace("\\", " ").replace('"', " ")
        lines.append(f"(Parameter.set 'Duration_Stretch {each.stretch:.3f})")
        lines.append(
            f'(unwind-protect (utt.save.wave (SynthText "{quoted}") "{folder / f"{number}.wav"}" (quote riff)) nil)'
        )
    script = folder / "say.scm"
    script.write_bytes("\n".join(lines).encode(voice.encoding, errors="ignore"))
    _run(["festival", "-b", str(script)])


def flite(name: str, said: Sequence[Said], folder: Path) -> None:
    """Write `<number>.wav` of each sentence."""
    for number, each in enumerate(said):
        stretch = f"duration_stretch={each.stretch:.3f}"
        _run(["flite", "-voice", name, "--setf", stretch, "-t", each.spelt, "-o", str(folder / f"{number}.wav")])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, timeout=900)
    except FileNotFoundError:
        raise DataError(f"{command[0]} is not installed", remedy="sh training/install_speech.sh") from None


@dataclass
class Work:
    """What every worker needs; set before the pool forks."""

    out: Path
    texts: dict[str, Texts]
    channels: Channels
    forbidden: Forbidden
    seed: int


_work: Work | None = None


def draw(work: Work, voice: RecordedVoice, rng: random.Random) -> Said:
    """A sentence of the training texts, and its manner."""
    text, kind = work.texts[voice.language].sentence(rng, "train", work.forbidden)
    spelt = devanagari(text) if voice.letters == "devanagari" else text
    return Said(text, spelt, kind, rng.uniform(*voice.stretch), rng.choice(WARPS))


def make_chunk(job: tuple[str, int, int]) -> list[dict]:
    """Speak `count` sentences of one voice; rows of those that could be spoken in 0.5 to 9 s."""
    name, index, count = job
    work, voice = _work, VOICES[name]
    assert work is not None, "set before the pool forks"
    rng = random.Random(f"{work.seed} {name} {index}")
    said = [draw(work, voice, rng) for _ in range(count)]
    channel = np.random.default_rng([work.seed, index, *name.encode()])
    target = work.out / "train" / "voices" / name
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        festival(voice, said, folder) if voice.function else flite(name.removeprefix("flite-"), said, folder)
        for number, each in enumerate(said):
            try:
                samples = trim(decode(folder / f"{number}.wav"))
            except AudioError:  # what the voice could not speak
                continue
            samples = resample_poly(samples, each.warp.numerator, each.warp.denominator).astype(np.float32)
            if not MIN_S <= len(samples) / SAMPLE_RATE <= MAX_S:
                continue
            before, after = (int(channel.uniform(0.03, 0.35) * SAMPLE_RATE) for _ in range(2))
            samples = work.channels.apply(np.pad(samples, (before, after)), channel)
            path = target / f"{index:04d}_{number:03d}.wav"
            soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
            rows.append({
                "path": str(path.relative_to(work.out)),
                "duration": round(len(samples) / SAMPLE_RATE, 3),
                "text": each.text,
                "lang": voice.language,
                "speaker": f"voices:{name}@{each.warp.numerator}-{each.warp.denominator}",
                "subset": each.kind,
                "corpus": "voices",
                "synthetic": True,
                "text_id": text_id(each.text),
            })  # fmt: skip
    return rows


def untested(rows: list[dict], language: str, out: Path) -> list[dict]:
    """Without what a synthetic test clip of the corpus says: two paragraphs, one of them the test's, may share a phrase.
    Single digits stay, they are in every split."""
    said = set()
    for name in (f"{language}_test.jsonl", "base_test.jsonl"):
        if (path := out / name).is_file():
            said |= {json.loads(line)["text_id"] for line in path.read_text("utf-8").splitlines()}
    return [row for row in rows if row["text_id"] not in said or row["subset"] == "digits"]


def build(options: argparse.Namespace) -> None:
    """Speak all voices and write a manifest for each language."""
    global _work
    started = time.monotonic()
    folders = [folder for folder in (options.speech, *options.extra) if folder]
    recorded = [clip for folder in folders for clip in read_human(folder)]
    _work = Work(
        out=options.out,
        texts=gather({voice.language for voice in VOICES.values()}, options.text, options.words, {}),
        channels=Channels(options.seed),
        forbidden=Forbidden(clip.text for clip in recorded if clip.split in ("dev", "test", "known_speaker")),
        seed=options.seed,
    )
    jobs = []
    for name, voice in VOICES.items():
        wanted = round(voice.sentences * options.scale)
        jobs += [(name, i, min(CHUNK, wanted - i * CHUNK)) for i in range(-(-wanted // CHUNK))]
    rows: dict[str, list[dict]] = {}
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        for made in pool.imap(make_chunk, jobs):
            for row in made:
                rows.setdefault(row["lang"], []).append(row)
    for language, found in sorted(rows.items()):
        found = untested(found, language, options.out)
        path = options.out / f"voices_{language}_train.jsonl"
        write_rows(path, found)
        hours = sum(row["duration"] for row in found) / 3600
        print(f"{path.name}: {len(found)} clips, {hours:.2f} h, {len({row['speaker'] for row in found})} speakers")
    print(f"made in {time.monotonic() - started:.0f} s")


def add_arguments(parser: argparse.ArgumentParser, clips: int) -> None:
    """Those of a command that adds training clips to a corpus, so many at scale 1."""
    parser.add_argument("--out", type=Path, required=True, help="the corpus's folder")
    parser.add_argument("--text", type=Path, required=True, help="folder with udhr.LANGUAGE.txt")
    parser.add_argument("--words", type=Path, help="folder with LANGUAGE.txt word lists")
    parser.add_argument("--speech", type=Path, help="recorded clips whose test texts must not be spoken")
    parser.add_argument("--extra", type=Path, action="append", default=[], help="further recorded clips of that form")
    parser.add_argument("--scale", type=float, default=1.0, help=f"1: about {clips:,} clips")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, default=0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.voices", description="Voices cut from recordings, for the embedded model."
    )
    add_arguments(parser, clips=24_000)
    try:
        build(parser.parse_args(argv))
    except BoliError as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
