"""The corpus of the embedded model, made by one command:

    python -m training.data.embedded --out DIR --text TEXTS [--speech CLIPS] [--extra CLIPS] [--words LISTS] --jobs 16

The same seed, scale and inputs give the same files, whatever the number of jobs: the work is cut into chunks with
seeds of their own, and each chunk runs in a fresh process, because espeak-ng's state outlives a sentence. A command that
was stopped goes on where it was: finished chunks are kept with their rows (`DIR/chunks`) and not spoken again.
Only numpy, scipy, soundfile and libespeak-ng are needed. docs/synthesis.md describes what comes out.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from training.data.prompts import text_id
from training.data.prompts_human import Forbidden, HumanClip, read_human
from training.data.prompts_sources import Texts, gather
from training.data.synthesis import Espeak, Voice, draw_manner, draw_voice, join, trim
from training.data.synthesis_channel import ChannelOptions, Channels
from training.data.synthesis_joined import joined_digits
from training.data.synthesis_manifests import manifests
from training.data.synthesis_plan import BASE, TARGETS, UNKNOWN, UNSEEN_UNKNOWN, Chunk, plan
from zoo.audio import decode
from zoo.errors import BoliError
from zoo.speech import SAMPLE_RATE

MIN_S, MAX_S = 0.4, 10.0
"""Clips outside are drawn again."""
CHUNKS = "chunks"
"""Folder of the rows of finished chunks."""


@dataclass
class Work:
    """What every worker needs; set before the pool forks, so that it is shared and not copied."""

    out: Path
    texts: dict[str, Texts]
    channels: Channels | None
    forbidden: Forbidden
    seed: int
    suffix: str

    @cached_property
    def espeak(self) -> Espeak:
        return Espeak()  # in the worker, at its first sentence


_work: Work | None = None


def _finish(
    work: Work, samples: np.ndarray, spans: list[tuple[float, float]], seed: int
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Pauses before and after, then the channel; the spans move with the samples."""
    rng = np.random.default_rng(seed)
    before, after = (int(rng.uniform(0.03, 0.35) * SAMPLE_RATE) for _ in range(2))
    samples = np.pad(samples, (before, after))
    if work.channels:
        samples = work.channels.apply(samples, rng)
    else:
        samples = samples * (0.5 / max(float(np.abs(samples).max()), 1e-6))
    return samples, [(start + before / SAMPLE_RATE, end + before / SAMPLE_RATE) for start, end in spans]


def plain(work: Work, chunk: Chunk, rng: random.Random) -> tuple[np.ndarray, dict]:
    """One clip in one of the chunk's languages: samples, and its row without path and duration."""
    while True:
        language = rng.choices([name for name, _ in chunk.languages], [weight for _, weight in chunk.languages])[0]
        text, kind = work.texts[language].sentence(rng, chunk.split, work.forbidden)
        voice = draw_voice(rng, language, chunk.split)
        samples = work.espeak.speak(text, voice, draw_manner(rng, kind), rng.getrandbits(31))
        if len(samples) / SAMPLE_RATE + 0.3 >= MIN_S and len(samples) / SAMPLE_RATE <= MAX_S - 1:
            break
    samples, _ = _finish(work, samples, [], rng.getrandbits(32))
    row = {
        "text": text,
        "lang": language,
        "speaker": voice.speaker,
        "subset": kind,
        "corpus": "espeak",
        "synthetic": True,
        "text_id": text_id(text),
    }
    return samples, row


def _switched(work: Work, chunk: Chunk, rng: random.Random) -> tuple[np.ndarray, dict]:
    """Two to four stretches in different languages; three times in five by one voice. One clip in three is rapid
    (stretches of one to three words)."""
    while True:
        names = [name for name, _ in chunk.languages]
        count = rng.choices((2, 3, 4), weights=(6, 3, 1))[0]
        languages = [rng.choice(names)]
        while len(languages) < count:
            languages.append(rng.choice([name for name in names if name != languages[-1]]))
        rapid, one_voice = rng.random() < 1 / 3, rng.random() < 0.6
        voice: Voice | None = None
        pieces, texts = [], []
        for language in languages:
            text, _ = work.texts[language].sentence(rng, chunk.split, work.forbidden)
            if rapid:
                text = " ".join(text.split()[: rng.randint(1, 3)])
            drawn = draw_voice(rng, language, chunk.split)
            if voice and one_voice:
                drawn = type(drawn)(drawn.accent, voice.variant, voice.warp, voice.pitch, voice.pitch_range)
            voice = drawn
            pieces.append(work.espeak.speak(text, voice, draw_manner(rng), rng.getrandbits(31)))
            texts.append(text)
        if (
            all(len(piece) > 0.15 * SAMPLE_RATE for piece in pieces)
            and sum(map(len, pieces)) < (MAX_S - 1.5) * SAMPLE_RATE
        ):
            break
    level = [float(np.sqrt(np.mean(piece**2))) + 1e-6 for piece in pieces]
    gaps = [rng.choice((0.0, rng.uniform(0, 0.15), rng.uniform(0.1, 0.5))) for _ in pieces[1:]]
    samples, spans = join([piece * (0.1 / rms) for piece, rms in zip(pieces, level, strict=True)], gaps)
    samples, spans = _finish(work, samples, spans, rng.getrandbits(32))
    segments: list[dict[str, Any]] = [
        {"start": round(start, 3), "end": round(end, 3), "lang": language, "text": text}
        for (start, end), language, text in zip(spans, languages, texts, strict=True)
    ]
    longest = max(segments, key=lambda segment: segment["end"] - segment["start"])
    text = " ".join(texts)
    subset = ("rapid" if rapid else "phrases") + ("_one_voice" if one_voice else "_two_voices")
    assert voice is not None
    row = {
        "text": text,
        "lang": longest["lang"],
        "speaker": voice.speaker if one_voice else "espeak:several",
        "subset": subset,
        "corpus": "espeak",
        "synthetic": True,
    }
    return samples, {**row, "text_id": text_id(text), "segments": segments}


def make_chunk(chunk: Chunk) -> tuple[Chunk, list[dict]]:
    """Speak one chunk in this process, unless that has been done; rows in the manifest's form."""
    work = _work
    assert work is not None, "set before the pool forks"
    kept = work.out / CHUNKS / f"{chunk.name}_{chunk.split}_{chunk.index:04d}_{chunk.count}.jsonl"
    if kept.is_file():
        return chunk, [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    rng = random.Random(f"{work.seed} {chunk.name} {chunk.split} {chunk.index}")
    folder = work.out / chunk.split / chunk.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(chunk.count):
        samples, row = (_switched if chunk.name == "switch" else plain)(work, chunk, rng)
        path = folder / f"{chunk.index:04d}_{number:03d}{work.suffix}"
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
        head = {"path": str(path.relative_to(work.out)), "duration": round(len(samples) / SAMPLE_RATE, 3)}
        rows.append({**head, **row})
    write_rows(kept, rows)
    return chunk, rows


def _copy_recorded(job: tuple[int, HumanClip, Path, str]) -> dict | None:
    """Decode one recording to 16 kHz mono beside the synthetic clips; None where it cannot be read or is too short."""
    number, clip, out, suffix = job
    try:
        samples = trim(decode(clip.audio))
    except BoliError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None
    if not MIN_S * 0.5 <= len(samples) / SAMPLE_RATE <= 15:
        return None
    samples = np.pad(samples, int(0.1 * SAMPLE_RATE))
    path = out / "recorded" / clip.corpus / f"{number:05d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(samples, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    row = {
        "path": str(path.relative_to(out)),
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        "text": clip.text,
        "lang": clip.language,
        "speaker": clip.speaker,
        "subset": clip.subset,
        "corpus": clip.corpus,
        "synthetic": clip.kind == "tts",
        "text_id": clip.text_id,
    }
    return row if clip.text else {**row, "transcribed": False}


def write_rows(path: Path, rows: list[dict]) -> None:
    """A manifest, whole or not at all."""
    staged = path.with_name(f".{path.name}.part")
    staged.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    os.replace(staged, path)


def _inputs(options: argparse.Namespace) -> str:
    """A hash of all that a chunk is made of but its place in the plan: options, texts, and the code and grammars here."""
    found = hashlib.sha256(f"{options.seed} {options.clean} {options.format}".encode())
    texts = [path for folder in (options.text, options.words) if folder for path in sorted(folder.glob("*.txt"))]
    told = [folder / "manifest.jsonl" for folder in (options.speech, *options.extra) if folder]
    code = [path for path in sorted(Path(__file__).parent.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    for path in (*texts, *told, *code):
        found.update(path.name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


def _keep_chunks_of(folder: Path, inputs: str) -> None:
    """Empty the folder of finished chunks, unless they were made of these inputs."""
    note = folder / "inputs"
    if note.is_file() and note.read_text("utf-8") == inputs:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    note.write_text(inputs, "utf-8")


def build(options: argparse.Namespace) -> None:
    """Make the corpus and say what was made."""
    global _work
    started = time.monotonic()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    recorded = [clip for folder in (options.speech, *options.extra) if folder for clip in read_human(folder)]
    told: dict[str, list[str]] = {}
    for text, language in sorted(
        {(clip.text, clip.language) for clip in recorded if clip.split == "train" and len(clip.text.split()) > 2}
    ):
        told.setdefault(language, []).append(text)
    _work = Work(
        out=out,
        texts=gather({*BASE, *TARGETS, *UNKNOWN, *UNSEEN_UNKNOWN}, options.text, options.words, told),
        channels=None if options.clean else Channels(options.seed, ChannelOptions()),
        forbidden=Forbidden(clip.text for clip in recorded if clip.split in ("dev", "test", "known_speaker")),
        seed=options.seed,
        suffix=f".{options.format}",
    )
    chunks = plan(options.scale)
    _keep_chunks_of(out / CHUNKS, _inputs(options))
    context = multiprocessing.get_context("fork")
    synthetic: dict[tuple[str, str], list[tuple[int, list[dict]]]] = {}
    with context.Pool(options.jobs, maxtasksperchild=1) as pool:
        for done, (chunk, rows) in enumerate(pool.imap_unordered(make_chunk, chunks), 1):
            synthetic.setdefault((chunk.name, chunk.split), []).append((chunk.index, rows))
            if done % 50 == 0 or done == len(chunks):
                print(f"{done} of {len(chunks)} chunks, {time.monotonic() - started:.0f} s", flush=True)
    recordings: dict[tuple[str, str, str], list[dict]] = {}
    with context.Pool(options.jobs) as pool:
        jobs = [(number, clip, out, f".{options.format}") for number, clip in enumerate(recorded)]
        for clip, row in zip(recorded, pool.imap(_copy_recorded, jobs, chunksize=32), strict=True):
            if row:
                recordings.setdefault((clip.kind, clip.language, clip.split), []).append(row)
    for (_, _, split), rows in recordings.items():
        if split == "train":
            rows += joined_digits(rows, out, f".{options.format}", options.seed)
    ordered = {
        key: [row for _, rows in sorted(found, key=lambda pair: pair[0]) for row in rows]
        for key, found in sorted(synthetic.items())
    }
    for name, rows in sorted(manifests(ordered, recordings, options.seed).items()):
        write_rows(out / name, rows)
        hours = sum(row["duration"] for row in rows) / 3600
        languages = Counter(row["lang"] for row in rows)
        speakers = len({row["speaker"] for row in rows})
        print(
            f"{name}: {len(rows)} clips, {hours:.2f} h, {speakers} speakers; "
            + ", ".join(f"{language} {count}" for language, count in languages.most_common())
        )
    print(f"made in {time.monotonic() - started:.0f} s")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.embedded", description="Make the corpus of the embedded model."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write clips and manifests into")
    parser.add_argument(
        "--text", type=Path, required=True, help="folder with udhr.LANGUAGE.txt and text_LANGUAGE_cc0.txt"
    )
    parser.add_argument(
        "--speech", type=Path, help="folder of recorded clips with manifest.jsonl; read, never copied into git"
    )
    parser.add_argument(
        "--extra",
        type=Path,
        action="append",
        default=[],
        help="further folders of the same form (tools that make them: docs/synthesis.md)",
    )
    parser.add_argument("--words", type=Path, help="folder with LANGUAGE.txt word lists")
    parser.add_argument("--scale", type=float, default=1.0, help="1: about 140,000 clips")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("wav", "flac"), default="wav")
    parser.add_argument("--clean", action="store_true", help="no rooms, noises and codecs")
    try:
        build(parser.parse_args(argv))
    except BoliError as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
