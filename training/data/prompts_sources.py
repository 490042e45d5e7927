"""Everything that can be said in one language, and how often which kind of it is said."""

import random
from dataclasses import dataclass
from pathlib import Path

from training.data.prompts import Document, Words, read_document, read_training, read_words
from training.data.prompts_human import Forbidden
from training.data.templates import FOLDER, load_grammar, split_digits
from training.data.templates_numbers import DIGITS
from zoo.errors import DataError

WEIGHTS = {
    "template": 42.0,
    "document": 22.0,
    "digits": 6.0,
    "told": 6.0,
    "prompt": 5.0,
    "words": 16.0,
    "reading": 100.0,
}
"""How often each kind is drawn, where the language has it."""
LEAST_PROMPTS, PROMPTS_A_WEIGHT = 5, 15  # a list of prompts weighs 1 for every 15 of them, up to 15
WORDS_HELD_OUT = 8.0  # weight of random words in dev and test: recorded test speech has none


@dataclass
class Texts:
    """The sources of one language."""

    language: str
    document: Document | None = None
    """Paragraphs (the Universal Declaration of Human Rights)."""
    prompts: Document | None = None
    """Independent sentences."""
    words: Words | None = None
    told: Document | None = None
    """Transcripts of recorded training clips, spoken again by synthetic voices."""
    reading: Document | None = None
    """Texts of other packages, for words that the corpus's own texts lack; trained on only."""

    def draw(self, rng: random.Random, split: str) -> tuple[str, str]:
        """A text of the split, and its kind: a key of `WEIGHTS`."""
        weights = self._weights(split)
        kind = rng.choices(list(weights), list(weights.values()))[0]
        if kind == "digits":
            return split_digits(rng, self.language, split), kind
        if kind == "template":
            return load_grammar(self.language).sentence(rng, split), kind
        source = {
            "document": self.document, "prompt": self.prompts, "told": self.told, "words": self.words,
            "reading": self.reading,
        }[kind]  # fmt: skip
        assert source is not None, "only what is there has a weight"
        return source.phrase(rng, split), kind

    def _weights(self, split: str) -> dict[str, float]:
        weights = {}
        if self.language in DIGITS:
            weights["digits"] = WEIGHTS["digits"]
        if (FOLDER / f"{self.language}.txt").is_file():
            weights["template"] = WEIGHTS["template"]
        documents = {"document": self.document, "prompt": self.prompts, "told": self.told, "reading": self.reading}
        for kind, source in documents.items():
            if source and source.clauses[split]:
                weights[kind] = WEIGHTS[kind]
        if self.prompts and "prompt" in weights:
            weights["prompt"] = min(15.0, len(self.prompts.clauses["train"]) / PROMPTS_A_WEIGHT)
        if self.words and self.words.words[split]:
            weights["words"] = WEIGHTS["words"] if split == "train" else WORDS_HELD_OUT
        return weights

    def sentence(self, rng: random.Random, split: str, forbidden: Forbidden) -> tuple[str, str]:
        """A text and its kind; one in eight is two texts in a row, for recorded sentences are longer than phrases.
        Training texts that recorded test clips say are drawn again."""
        while True:
            text, kind = self.draw(rng, split)
            if kind != "digits" and rng.random() < 1 / 8:
                text = f"{text} {self.draw(rng, split)[0]}"
            if not (split == "train" and forbidden.refuses(text)):
                return text, kind


def gather(
    languages: set[str], text: Path, words: Path | None, told: dict[str, list[str]], reading: Path | None = None
) -> dict[str, Texts]:
    """The sources of every language that has any; raises for one that has none.

    text: folder with `udhr.LANGUAGE.txt` and `text_LANGUAGE_cc0.txt`; words and reading: folders with `LANGUAGE.txt`;
    told: transcripts by language.
    """
    found = {}
    for language in sorted(languages):
        entry = Texts(language)
        if (path := text / f"udhr.{language}.txt").is_file():
            entry.document = read_document(path, language)
        if (path := text / f"text_{language}_cc0.txt").is_file():
            entry.prompts = read_document(path, language, by_line=True)
        if words and (path := words / f"{language}.txt").is_file():
            entry.words = read_words(path, language)
        if reading and (path := reading / f"{language}.txt").is_file():
            entry.reading = read_training(path, language)
        if told.get(language):
            clauses = tuple(tuple(line.split()) for line in told[language])
            entry.told = Document(language, {"train": clauses, "dev": (), "test": ()})
        if not entry._weights("test"):
            raise DataError(
                f"no text for {language} in {text}", valid="udhr.LANGUAGE.txt", remedy="pass the folder with --text"
            )
        found[language] = entry
    if not any(entry.document for entry in found.values()):
        raise DataError(f"no udhr.LANGUAGE.txt in {text}", remedy="pass the folder of texts with --text")
    return found
