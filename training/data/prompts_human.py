"""Recorded speech: which clip may be trained on, and which is kept for the report.

A corpus is split by speaker *and* by text: test clips are those of its held-out speakers with held-out texts. What is
left over, held-out texts from speakers that are trained on, is a second, larger test of texts alone (`known_speaker`).
A corpus of one speaker has a text split only, and says so in `subset`.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from training.data.prompts import has_digit, normalise, text_id
from training.data.templates_numbers import DIGITS, NUMBER_LANGUAGES, number_words
from zoo.errors import DataError

DEV_TEXTS = 0.10  # share of each corpus's texts
TEST_TEXTS = {"ohm_pa": 0.4}
OTHER_TEST_TEXTS = 0.3

HELD_OUT_SPEAKERS = {
    "ohm_hi": frozenset({"ohm_hi:2505"}),
    "ohm_pa": frozenset({"ohm_pa:PN00F02"}),
    "fsdd": frozenset({"fsdd:theo"}),
    "asterisk_it": frozenset({"asterisk_it:Carlo"}),
    "klettres": frozenset(f"klettres:{language}" for language in ("hu", "ml", "nl", "pt", "uk")),
    "ktuberling": frozenset(f"ktuberling:{language}" for language in ("ca", "da", "uk")),
    "tuxpaint": frozenset(f"tuxpaint:{language}" for language in ("bg", "el", "lt", "ro")),
}
"""Speakers nothing is trained on. A corpus that is not named here has one speaker, or is trained on as a whole."""

CLOSED_TEXTS = frozenset({"fsdd", "klettres", "ktuberling", "tuxpaint"})
"""Corpora of ten words, or of no transcripts: their split is by speaker alone."""

TEST_ONLY = frozenset({"psphinx", "asterisk_ru", "asterisk_es_co"})
"""Corpora nothing is trained on; their speakers and texts occur nowhere else."""

TRAIN_ONLY = frozenset({"festival"})
"""Synthetic voices that speak training texts."""


@dataclass(frozen=True)
class HumanClip:
    """One recording of a corpus."""

    audio: Path
    language: str
    corpus: str
    speaker: str
    text: str
    """In normal form; empty where no sure transcript exists."""
    kind: str = "human"
    """`human` or `tts`."""

    @property
    def split(self) -> str:
        """`train`, `dev`, `test`, `known_speaker` or `unused` (a held-out speaker's training texts)."""
        held_out = HELD_OUT_SPEAKERS.get(self.corpus, frozenset())
        if self.corpus in TEST_ONLY:
            return "test"
        if self.corpus in TRAIN_ONLY:
            return "train"
        if self.corpus in CLOSED_TEXTS:
            return "test" if self.speaker in held_out else "dev" if _share(self.audio.stem) < DEV_TEXTS else "train"
        share = _share(self.text or self.audio.stem)
        test_texts = TEST_TEXTS.get(self.corpus, OTHER_TEST_TEXTS)
        of_text = "test" if share < test_texts else "dev" if share < test_texts + DEV_TEXTS else "train"
        if self.speaker in held_out:
            return "test" if of_text == "test" else "unused"
        if of_text == "test":
            return "known_speaker" if held_out else "test"
        return of_text

    @property
    def subset(self) -> str:
        """What the split keeps apart, for the report."""
        held_out = HELD_OUT_SPEAKERS.get(self.corpus, frozenset())
        if self.corpus in CLOSED_TEXTS:
            return f"{self.corpus}_by_speaker"
        return (
            f"{self.corpus}_by_speaker_and_text" if held_out or self.corpus in TEST_ONLY else f"{self.corpus}_by_text"
        )

    @property
    def text_id(self) -> str:
        return text_id(self.text)


def _share(key: str) -> float:
    return int(hashlib.sha1(("human " + key).encode()).hexdigest()[:8], 16) / 2**32


def read_human(folder: Path) -> list[HumanClip]:
    """Read a folder with `manifest.jsonl` (fields path, lang, source, speaker, text) and its audio."""
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise DataError(
            f"no manifest.jsonl in {folder}",
            valid="a folder with manifest.jsonl and the clips it names",
            remedy="pass it with --speech or --extra",
        )
    clips = []
    for number, line in enumerate(manifest.read_text("utf-8").splitlines(), 1):
        row = json.loads(line)
        missing = {"path", "lang", "source", "speaker", "text"} - set(row)
        if missing:
            raise DataError(
                f"{manifest}, line {number} lacks {', '.join(sorted(missing))}",
                valid="path, lang, source, speaker, text",
            )
        text = normalise(spoken_numbers(row["text"], row["lang"]), row["lang"])
        clips.append(
            HumanClip(
                folder / row["path"],
                row["lang"],
                row["source"],
                row["speaker"],
                "" if has_digit(text) else text,
                "tts" if row.get("kind") == "tts" else "human",
            )
        )
    return clips


def spoken_numbers(text: str, language: str) -> str:
    """Write the digits of a transcript as the words that were spoken (`timer di 5 ore`: `timer di cinque ore`)."""
    if language not in NUMBER_LANGUAGES or not has_digit(text):
        return text
    return re.sub(
        r"(?<![\w.,])[0-9]{1,9}(?![\w])(?![.,][0-9])", lambda found: number_words(int(found[0]), language), text
    )


class Forbidden:
    """Texts that synthetic training speech must not repeat, because recorded test clips say them.

    Refused: a text equal to a test text, and a text that shares a run of four words with one.
    """

    def __init__(self, texts: Iterable[str]):
        self._whole: set[str] = set()
        self._runs: set[tuple[str, ...]] = set()
        for text in texts:
            words = text.split()
            if len(words) == 1:  # single digits and words of the language are everybody's
                continue
            self._whole.add(text)
            if not _is_digits(words):
                self._runs.update(_runs(words))

    def refuses(self, text: str) -> bool:
        return text in self._whole or any(run in self._runs for run in _runs(text.split()))


def _runs(words: list[str], length: int = 4) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]


def _is_digits(words: list[str]) -> bool:
    return any(set(words) <= set(digits) for digits in DIGITS.values())
