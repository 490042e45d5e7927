"""Text to be spoken: one normal form, phrases cut from documents, and a split that no text can cross.

Normal form: Unicode NFC, lower case, no punctuation but the apostrophe inside English, French and Italian words,
single spaces. Digits are not expanded here (`templates_numbers` writes numbers as words); a text that still holds a
digit is dropped by the callers.

Split: a text belongs to train, dev or test by a hash of its normal form, so the sets are disjoint whatever draws from
them and in whatever order. Documents are split by paragraph *before* they are cut, so that no half of a test
paragraph is trained on.
"""

import hashlib
import random
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import DataError
from zoo.scripts import script_of

SPLITS = ("train", "dev", "test")
APOSTROPHE_LANGUAGES = frozenset({"en", "fr", "it"})
MIN_WORDS, MAX_WORDS = 2, 12

_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
_BREAK = re.compile(r"[.,;:!?।॥…()\[\]\"“”«»۔،؛]+|\s[—–-]+\s|[—–]+")


def normalise(text: str, language: str) -> str:
    """The written form every manifest of the embedded model uses."""
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES).lower()
    keep_apostrophe = language.split("-")[0] in APOSTROPHE_LANGUAGES
    out = []
    for char in text:
        category = unicodedata.category(char)
        if category[0] in "LNM" or (char == "'" and keep_apostrophe):
            out.append(char)
        elif category != "Cf":  # zero-width joiners vanish without parting the word
            out.append(" ")
    words = (word.strip("'") for word in "".join(out).split())
    # Lower-casing may decompose (İ), and joining across a dropped character may compose: close the form again.
    return unicodedata.normalize("NFC", " ".join(word for word in words if word))


def text_id(text: str) -> str:
    """Name of a normalised text, the same wherever it is drawn."""
    return hashlib.sha1(text.encode()).hexdigest()[:12]


def split_of(text: str) -> str:
    """`train` (85 %), `dev` (5 %) or `test` (10 %), by the text's hash alone."""
    bucket = int(hashlib.sha1(text.encode()).hexdigest()[-6:], 16) % 20
    return "test" if bucket < 2 else "dev" if bucket == 2 else "train"


def has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


@dataclass(frozen=True)
class Document:
    """A text file cut into clauses, by split; a clause is a tuple of words in normal form."""

    language: str
    clauses: dict[str, tuple[tuple[str, ...], ...]]

    def phrase(self, rng: random.Random, split: str) -> str:
        """A clause of the split, or, of a long one, a run of 3 to 12 words."""
        clauses = self.clauses[split]
        words = clauses[rng.randrange(len(clauses))]
        if len(words) <= rng.randint(7, MAX_WORDS):
            return " ".join(words)
        length = rng.randint(3, min(MAX_WORDS, len(words)))
        start = rng.choice((0, rng.randint(0, len(words) - length)))
        return " ".join(words[start : start + length])


def read_document(path: Path, language: str, *, by_line: bool = False) -> Document:
    """Cut a text file, one paragraph (or prompt) per line.

    Paragraphs go to test and dev by position, two and one of every ten; `by_line` instead asks each line's own hash,
    for lists of independent prompts.
    """
    if not path.is_file():
        raise DataError(
            f"no text file {path}",
            valid="a UTF-8 file with one paragraph per line",
            remedy="pass the folder of texts with --text",
        )
    clauses: dict[str, list[tuple[str, ...]]] = {split: [] for split in SPLITS}
    for index, line in enumerate(path.read_text("utf-8").splitlines()):
        pieces = [tuple(normalise(piece, language).split()) for piece in ([line] if by_line else _BREAK.split(line))]
        pieces = [piece for piece in pieces if piece and not any(map(has_digit, piece)) and _in_script(piece, language)]
        place = {3: "dev", 7: "test", 9: "test"}.get(index % 10, "train")
        for piece in pieces:
            if len(piece) >= MIN_WORDS or by_line:
                clauses[split_of(" ".join(piece)) if by_line else place].append(piece)
    return Document(language, {split: tuple(found) for split, found in clauses.items()})


def read_training(path: Path, language: str) -> Document:
    """A text file of one text a line, cut into clauses that are all trained on."""
    clauses = []
    for line in path.read_text("utf-8").splitlines():
        for piece in _BREAK.split(line):
            words = tuple(normalise(piece, language).split())
            if len(words) >= MIN_WORDS and not any(map(has_digit, words)) and _in_script(words, language):
                clauses.append(words)
    return Document(language, {"train": tuple(clauses), "dev": (), "test": ()})


def _in_script(words: tuple[str, ...], language: str) -> bool:
    """Whether every letter is of the language's script (a Latin brand name in a Hindi prompt has no sure reading)."""
    script = script_of(language)
    return all(unicodedata.name(char, "").startswith(script) for word in words for char in word if char.isalpha())


@dataclass(frozen=True)
class Words:
    """A list of single words, for random sequences that cover what sentences miss."""

    language: str
    words: dict[str, tuple[str, ...]]

    def phrase(self, rng: random.Random, split: str) -> str:
        """One to six words of the split. In test and dev one word in two was never seen in training."""
        own, seen = self.words[split], self.words["train"]
        count = rng.choices(range(1, 7), weights=(2, 4, 5, 4, 2, 1))[0]
        return " ".join(rng.choice(own if split == "train" or rng.random() < 0.5 else seen) for _ in range(count))


def read_words(path: Path, language: str, limit: int = 30_000) -> Words:
    """Read one word per line; keep those of 2 to 14 letters in the language's script."""
    words: dict[str, list[str]] = {split: [] for split in SPLITS}
    for line in path.read_text("utf-8").splitlines()[:limit]:
        word = normalise(line, language)
        if 2 <= len(word) <= 14 and " " not in word and not has_digit(word) and _in_script((word,), language):
            words[split_of(word)].append(word)
    return Words(language, {split: tuple(found) for split, found in words.items()})
