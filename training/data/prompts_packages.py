"""More voices from Debian's packages: recorded prompts of people, and festival's voices.

    sh training/carry_speech.sh                                     downloads and unpacks the packages, then runs
    python -m training.data.prompts_packages --root R --out O --text TEXTS [--speech CLIPS]

Writes a folder as `embedded --extra` reads it (Ogg/Opus clips and manifest.jsonl, about 7 MB) and, beside it, word
lists. Everything is free software or CC-BY(-SA) (docs/synthesis.md names each), is used at generation time alone, and
stays out of git. Transcripts are kept only where they are sure (`prompts_align`); other clips teach the language alone.
"""

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from training.data.prompts import has_digit, normalise
from training.data.prompts_align import believed
from training.data.prompts_human import Forbidden, HumanClip, read_human, spoken_numbers
from training.data.prompts_sources import gather
from training.data.synthesis import Espeak, join, trim
from training.data.synthesis_festival import VOICES, festival_speaks
from zoo.audio import decode
from zoo.errors import AudioError, BoliError
from zoo.speech import SAMPLE_RATE

SOUNDS = Path("usr/share/asterisk/sounds")


@dataclass(frozen=True)
class Prompts:
    """The prompts of one voice in an Asterisk package."""

    folder: str
    language: str
    corpus: str
    speaker: str
    extension: str
    seconds: float
    """At most so much of it is taken."""
    accent: str = ""
    """espeak's voice to check transcripts with; empty: clips without transcript."""
    trusted: bool = False
    """The list is the script that was read; no check."""


ASTERISK = (
    Prompts("en_US_f_Allison", "en", "asterisk_en", "Allison", "g722", 480, "en-us", trusted=True),
    Prompts("it_IT_m_Carlo", "it", "asterisk_it", "Carlo", "g722", 700, "it"),
    Prompts("it_IT_f_Menardi", "it", "asterisk_it", "Menardi", "wav", 500, "it"),
    Prompts("fr_CA_f_June", "fr", "asterisk_fr", "June", "g722", 200, "fr"),
    Prompts("fr", "fr", "asterisk_fr", "Armelle", "gsm", 90),
    Prompts("es_MX_f_Allison", "es", "asterisk_es", "Allison_es", "g722", 180),  # its list lacks all accents
    Prompts("es", "es", "asterisk_es_co", "es_co", "gsm", 90),
    Prompts("ru_RU_f_IvrvoiceRU", "ru", "asterisk_ru", "Ivrvoice", "g722", 180),
)
GAMES = ("klettres", "ktuberling")  # letters, syllables and words, read by volunteers in many languages
GAME_SECONDS = 30.0  # of each language
STAMPS = ("be", "bg", "ca", "da", "el", "es", "fr", "lt", "nl", "pt_BR", "ro", "ru")
"""Languages in which Tux Paint's pictures are named by volunteers."""
STAMP_SECONDS = 240.0  # of each language
WORD_LISTS = {
    "en": "/usr/share/dict/american-english", "it": "/usr/share/dict/italian", "fr": "/usr/share/dict/french",
    "es": "/usr/share/dict/spanish", "de": "/usr/share/dict/ngerman",
}  # fmt: skip
ASPELL = ("hi", "pa", "te", "ta", "mr", "bn", "gu", "kn", "ml")
WORDS_KEPT = {"en": 12_000, "hi": 12_000, "it": 12_000, "pa": 12_000, "te": 12_000}
OTHER_WORDS_KEPT = 2_000
BITRATE_LEVEL = 0.985  # libsndfile's compression level of Opus: about 13 kbit/s


def read_prompt(path: Path) -> np.ndarray:
    """Samples at 16 kHz. G.722 and raw GSM have no header, so FFmpeg is told what they are."""
    if path.suffix == ".wav":
        return decode(path)
    import av

    with av.open(str(path), format=path.suffix[1:]) as container:
        rate = container.streams.audio[0].rate
        frames = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    if not frames:
        raise AudioError(f"{path} holds no samples")
    samples = np.concatenate(frames).astype(np.float32) / 32768
    return samples if rate == SAMPLE_RATE else resample_poly(samples, SAMPLE_RATE, rate).astype(np.float32)


def transcripts(root: Path, language: str) -> dict[str, str]:
    """Name of a prompt to its text in normal form, from the package's list; doubtful lines are left out."""
    path = root / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    found = {}
    for line in gzip.decompress(path.read_bytes()).decode("utf-8-sig", errors="replace").splitlines():
        name, colon, text = line.partition(":")
        # Brackets describe a sound or a choice; a question mark inside a sentence was an accented letter once.
        if not colon or line.startswith(";") or re.search(r"[\[\]()<>{}�]|\w\?\w|\s\?|\w\? \w", text):
            continue
        text = normalise(spoken_numbers(text, language), language)
        if text and not has_digit(text):
            found[name.strip()] = text
    return found


def asterisk(root: Path, prompts: Prompts, rng: random.Random, espeak: Espeak) -> Iterator[tuple[np.ndarray, dict]]:
    """Clips and rows of one voice; with transcripts first, in random order, until its seconds are full."""
    folder = root / SOUNDS / prompts.folder
    texts = transcripts(root, prompts.language) if prompts.accent else {}
    clips, said = [], []
    for path in sorted(folder.rglob(f"*.{prompts.extension}")):
        name = str(path.relative_to(folder).with_suffix(""))
        if name.startswith(("silence", "beep")) or (texts and name not in texts):
            continue
        try:
            samples = trim(read_prompt(path))
        except AudioError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if (0.3 if texts else 1.0) <= len(samples) / SAMPLE_RATE <= 9:
            clips.append(samples)
            said.append(texts.get(name, ""))
    sure = [True] * len(clips)
    if texts and not prompts.trusted:
        sure = believed(espeak, clips, said, prompts.accent)
        print(f"{prompts.speaker}: {sum(sure)} of {len(sure)} transcripts believed")
    order = [index for index in range(len(clips)) if sure[index]]
    rng.shuffle(order)
    seconds = 0.0
    for index in order:
        seconds += len(clips[index]) / SAMPLE_RATE
        if seconds > prompts.seconds:
            return
        row = {"lang": prompts.language, "source": prompts.corpus, "speaker": f"{prompts.corpus}:{prompts.speaker}"}
        yield clips[index], {**row, "text": said[index], "kind": "human"}


def game(root: Path, name: str, rng: random.Random) -> Iterator[tuple[np.ndarray, dict]]:
    """Letters, syllables and words of one game, three to six in a row, so that a language can be heard in them."""
    top = root / ("usr/share/klettres" if name == "klettres" else "usr/share/ktuberling/sounds")
    for folder in sorted(path for path in top.iterdir() if path.is_dir() and "@" not in path.name):
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".ogg", ".wav"))
        rng.shuffle(paths)
        pieces = [piece for piece in (_sound(path) for path in paths[:150]) if 0.15 < len(piece) / SAMPLE_RATE < 3]
        seconds = 0.0
        while len(pieces) >= 3 and seconds < GAME_SECONDS:
            taken = [pieces.pop() for _ in range(min(len(pieces), rng.randint(3, 6)))]
            samples, _ = join(taken, [rng.uniform(0.02, 0.25) for _ in taken[1:]])
            if len(samples) > 9 * SAMPLE_RATE:
                continue
            seconds += len(samples) / SAMPLE_RATE
            language = folder.name.split("_")[0]  # a class of its own for British letters would teach to reject English
            yield (
                samples,
                {"lang": language, "source": name, "speaker": f"{name}:{language}", "text": "", "kind": "human"},
            )


def stamps(root: Path, rng: random.Random) -> Iterator[tuple[np.ndarray, dict]]:
    """Names of Tux Paint's pictures, two to four in a row."""
    for place in STAMPS:
        paths = sorted((root / "usr/share/tuxpaint/stamps").rglob(f"*_desc_{place}.*"))
        rng.shuffle(paths)
        pieces = [piece for piece in (_sound(path) for path in paths[:300]) if 0.3 < len(piece) / SAMPLE_RATE < 6]
        seconds, language = 0.0, place.split("_")[0]
        while len(pieces) >= 2 and seconds < STAMP_SECONDS:
            taken = [pieces.pop() for _ in range(min(len(pieces), rng.randint(2, 4)))]
            samples, _ = join(taken, [rng.uniform(0.05, 0.4) for _ in taken[1:]])
            if len(samples) > 9 * SAMPLE_RATE:
                continue
            seconds += len(samples) / SAMPLE_RATE
            row = {"lang": language, "source": "tuxpaint", "speaker": f"tuxpaint:{language}", "text": ""}
            yield samples, {**row, "kind": "human"}


def _sound(path: Path) -> np.ndarray:
    try:
        samples = trim(decode(path))
    except AudioError:
        return np.zeros(0, np.float32)
    return samples * (0.1 / max(float(np.sqrt(np.mean(samples**2))) if len(samples) else 0, 1e-4))


def word_lists(out: Path, rng: random.Random) -> None:
    """Random words of each list, one file a language."""
    out.mkdir(parents=True, exist_ok=True)
    for language in (*WORD_LISTS, *ASPELL):
        if language in WORD_LISTS:
            words = Path(WORD_LISTS[language]).read_text("utf-8", errors="ignore").split()
            words = [word for word in words if word == word.lower()]
        else:
            command = ["aspell", "-d", language, "--encoding=utf-8", "dump", "master"]
            words = subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="ignore").split()
        words = sorted({word.split("/")[0] for word in words})
        rng.shuffle(words)
        kept = words[: WORDS_KEPT.get(language, OTHER_WORDS_KEPT)]
        (out / f"{language}.txt").write_text("\n".join(kept) + "\n", "utf-8")
        print(f"words {language}: {len(kept)} of {len(words)}")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.prompts_packages", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--root", type=Path, required=True, help="folder the packages were unpacked into")
    parser.add_argument("--out", type=Path, required=True, help="folder for speech/ and words/")
    parser.add_argument("--text", type=Path, required=True, help="folder of texts, for festival's voices")
    parser.add_argument("--speech", type=Path, help="recorded clips whose test texts must not be spoken")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        word_lists(options.out / "words", random.Random(options.seed))
        _collect(options)
    except (BoliError, OSError, subprocess.CalledProcessError) as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    return 0


def _collect(options: argparse.Namespace) -> None:
    rng, espeak = random.Random(options.seed), Espeak()
    recorded = read_human(options.speech) if options.speech else []
    forbidden = Forbidden(clip.text for clip in recorded if clip.split in ("dev", "test", "known_speaker"))
    languages = {voice.language for voice in VOICES.values()}
    texts = gather(languages, options.text, options.out / "words", {})

    def everything() -> Iterator[tuple[np.ndarray, dict]]:
        for prompts in ASTERISK:
            yield from asterisk(options.root, prompts, rng, espeak)
        for name in GAMES:
            yield from game(options.root, name, rng)
        for name, voice in VOICES.items():
            wanted = [texts[voice.language].sentence(rng, "train", forbidden)[0] for _ in range(voice.sentences)]
            for text, samples in festival_speaks(voice, wanted):
                row = {"lang": voice.language, "source": "festival", "speaker": f"festival:{name}"}
                yield samples, {**row, "text": text, "kind": "tts"}
        yield from stamps(options.root, rng)

    folder = options.out / "speech"
    rows: list[dict] = []
    seconds: dict[str, float] = {}
    for number, (samples, row) in enumerate(everything()):
        clip = HumanClip(folder, row["lang"], row["source"], row["speaker"], row["text"], row["kind"])
        if row["text"] and clip.split == "unused":  # a held-out speaker's training texts would be carried for nothing
            continue
        path = folder / "audio" / row["source"] / f"{number:05d}.ogg"
        path.parent.mkdir(parents=True, exist_ok=True)
        loud = samples * (0.5 / max(float(np.abs(samples).max()), 1e-4))
        soundfile.write(path, loud, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=BITRATE_LEVEL)
        rows.append({"path": str(path.relative_to(folder)), **row})
        seconds[row["speaker"]] = seconds.get(row["speaker"], 0) + len(samples) / SAMPLE_RATE
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    for speaker, found in sorted(seconds.items()):
        print(f"{speaker}: {found:.0f} s")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{len(rows)} clips, {sum(seconds.values()) / 60:.0f} minutes, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
