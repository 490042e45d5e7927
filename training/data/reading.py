"""More texts, read by espeak-ng's training voices: fresh sentences for every pass over the corpus.

    python -m training.data.reading --out DIR --text TEXTS --reading READING --words LISTS [--speech CLIPS] [--extra CLIPS]

On the corpus's own texts alone the embedded base learns sentences and not spelling: English that it was trained on had
19 % of its words wrong, other English by voices just as unknown 41 % (docs/log.md). Half of what is read here comes from
`READING/LANGUAGE.txt` (`reading_packages` makes them), the rest is drawn anew from the corpus's own sources.
Training clips only, and after the corpus: what its test clips say is left out. The same seed and inputs give the same
bytes, whatever `--jobs` says. Writes `reading_LANGUAGE_train.jsonl` beside the corpus's manifests.
"""

import argparse
import multiprocessing
import random
import sys
import time
from pathlib import Path

import soundfile

from training.data.embedded import Work, plain, write_rows
from training.data.prompts_human import Forbidden, read_human
from training.data.prompts_sources import gather
from training.data.synthesis_channel import ChannelOptions, Channels
from training.data.synthesis_plan import CHUNK, Chunk
from training.data.voices import add_arguments, untested
from zoo.errors import BoliError
from zoo.speech import SAMPLE_RATE

CLIPS = {"en": 36_000, "de": 2_000, "es": 2_000, "hi": 5_000, "it": 5_000, "pa": 5_000, "te": 5_000}
"""At scale 1."""

_work: Work | None = None


def make_chunk(chunk: Chunk) -> tuple[Chunk, list[dict]]:
    """Speak one chunk in this process; rows in the manifest's form."""
    work = _work
    assert work is not None, "set before the pool forks"
    rng = random.Random(f"{work.seed} {chunk.name} {chunk.index}")
    folder = work.out / chunk.split / chunk.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(chunk.count):
        samples, row = plain(work, chunk, rng)
        path = folder / f"{chunk.index:04d}_{number:03d}{work.suffix}"
        soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16")
        head = {"path": str(path.relative_to(work.out)), "duration": round(len(samples) / SAMPLE_RATE, 3)}
        rows.append({**head, **row})
    return chunk, rows


def build(options: argparse.Namespace) -> None:
    """Read all languages' texts and write a manifest for each."""
    global _work
    started = time.monotonic()
    folders = [folder for folder in (options.speech, *options.extra) if folder]
    recorded = [clip for folder in folders for clip in read_human(folder)]
    seed = options.seed + 1_000_003  # other texts and channels than the corpus of the same seed
    _work = Work(
        out=options.out,
        texts=gather(set(CLIPS), options.text, options.words, {}, options.reading),
        channels=Channels(seed, ChannelOptions()),
        forbidden=Forbidden(clip.text for clip in recorded if clip.split in ("dev", "test", "known_speaker")),
        seed=seed,
        suffix=".wav",
    )
    chunks = []
    for language, clips in CLIPS.items():
        wanted = round(clips * options.scale)
        for index in range(-(-wanted // CHUNK)):
            count = min(CHUNK, wanted - index * CHUNK)
            chunks.append(Chunk(f"reading_{language}", "train", index, count, ((language, 1.0),)))
    rows: dict[str, list[dict]] = {}
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        for done, (chunk, made) in enumerate(pool.imap(make_chunk, chunks), 1):
            rows.setdefault(chunk.languages[0][0], []).extend(made)
            if done % 50 == 0 or done == len(chunks):
                print(f"{done} of {len(chunks)} chunks, {time.monotonic() - started:.0f} s", flush=True)
    for language, found in sorted(rows.items()):
        found = untested(found, language, options.out)
        path = options.out / f"reading_{language}_train.jsonl"
        write_rows(path, found)
        hours = sum(row["duration"] for row in found) / 3600
        words = len({word for row in found for word in row["text"].split()})
        print(f"{path.name}: {len(found)} clips, {hours:.2f} h, {words} different words")
    print(f"made in {time.monotonic() - started:.0f} s")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.reading", description="More texts, read by espeak-ng, for the embedded model."
    )
    add_arguments(parser, clips=sum(CLIPS.values()))
    parser.add_argument("--reading", type=Path, required=True, help="folder with LANGUAGE.txt, one text a line")
    try:
        build(parser.parse_args(argv))
    except BoliError as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
