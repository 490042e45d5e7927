"""Sentences from small grammars in the languages' own scripts.

A grammar file (`grammars/<language>.txt`) is a list of named lists:

    # comment
    [fruit]
    apple | pear | plum
    [S]                      the sentences; `[S 3]` weighs this block three times
    i (really|) like {fruit} and {#2-9} more

`{name}` draws from a list, which may hold slots itself; `(a|b|)` draws one of the alternatives; `{#2-90}` is a number
in words, `{#digits 4-8}` a string of digits read one by one, `{#year}` a year.

About one entry in ten of every long list (sentences included) is kept out of training: test sentences draw from those
entries too, so that the test set asks for words and frames that were never heard. A sentence without any such entry
goes where the hash of its text sends it (`prompts.split_of`).
"""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.data.prompts import normalise, split_of
from training.data.templates_numbers import DIGIT_VARIANTS, DIGITS, number_words
from zoo.errors import DataError

FOLDER = Path(__file__).parent / "grammars"
LONG_LIST = 8  # entries from which on some are kept out of training
HELD_OUT_DRAW = 0.2  # how often a slot of a test sentence asks for a kept-out entry

_HEADER = re.compile(r"\[(\w+)(?:\s+(\d+))?\]$")
_SLOT = re.compile(r"\{([^{}]+)\}")
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")

ELISIONS = {
    "en": (
        (re.compile(r"\ba (?=[aeiou])(?!one\b|us|uni|euro)"), "an "),
        (re.compile(r"\ban (?![aeiou]|hour|hon)"), "a "),
    ),
    "it": (
        (re.compile(r"\b(a|de|da|ne|su)l (?=[aeiouè])"), r"\1ll'"),
        (re.compile(r"\buna (?=[aeiou])"), "un'"),
    ),
    "de": ((re.compile(r"\beins uhr\b"), "ein uhr"),),
}
"""What a word does to the one before it, and a slot cannot know."""


@dataclass(frozen=True)
class Entries:
    """One list: what training may use, and what it may not."""

    open: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    language: str
    lists: dict[str, Entries]
    blocks: tuple[tuple[int, Entries], ...]
    """Sentence blocks with their weights."""

    def sentence(self, rng: random.Random, split: str) -> str:
        """A sentence of the split, in normal form."""
        weights = [weight for weight, _ in self.blocks]
        for _ in range(400):
            block = rng.choices(self.blocks, weights)[0][1]
            text, held_out = self._expand(rng, block, split)
            text = normalise(text, self.language)
            for pattern, joined in ELISIONS.get(self.language, ()):
                text = pattern.sub(joined, text)
            if text and (held_out or split_of(text) == split) and len(text.split()) <= 16:
                return text
        raise DataError(
            f"grammar {self.language!r} yields no sentence for {split}", valid="a grammar with many distinct sentences"
        )

    def _expand(self, rng: random.Random, entries: Entries, split: str) -> tuple[str, bool]:
        held_out = split == "test" and bool(entries.held_out) and rng.random() < HELD_OUT_DRAW
        text = rng.choice(entries.held_out if held_out else entries.open)
        while match := _CHOICE.search(text):
            text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
        out, position = [], 0
        for match in _SLOT.finditer(text):
            out.append(text[position : match.start()])
            position = match.end()
            if match[1].startswith("#"):
                out.append(_number(rng, match[1][1:], self.language))
            else:
                inner, inner_held_out = self._expand(rng, self.lists[match[1]], split)
                out.append(inner)
                held_out |= inner_held_out
        out.append(text[position:])
        return "".join(out), held_out


def _number(rng: random.Random, spec: str, language: str) -> str:
    if spec.startswith("digits"):
        low, high = map(int, spec.split()[1].split("-"))
        return digit_string(rng, language, rng.randint(low, high))
    if spec == "year":
        return number_words(rng.choice((rng.randint(1850, 1999), rng.randint(2000, 2035))), language)
    low, high = map(int, spec.split("-"))
    return number_words(rng.randint(low, high), language)


def digit_string(rng: random.Random, language: str, length: int) -> str:
    """`length` digits read one by one; one string in six uses the other spoken form of a digit."""
    variants = DIGIT_VARIANTS.get(language, {}) if rng.random() < 1 / 6 else {}
    style = rng.random()
    if style < 0.1:  # runs and repeats are common in what people read out
        start, step = rng.randrange(10), rng.choice((-1, 0, 1, 2))
        digits = [(start + step * i // (1 + (step == 0))) % 10 for i in range(length)]
    elif style < 0.2:
        digits = [(rng.randrange(10) if i % 2 == 0 else -1) for i in range(length)]
        digits = [digits[i - 1] if digit < 0 else digit for i, digit in enumerate(digits)]
    else:
        digits = [rng.randrange(10) for _ in range(length)]
    return " ".join(variants.get(DIGITS[language][digit], DIGITS[language][digit]) for digit in digits)


def split_digits(rng: random.Random, language: str, split: str, lengths: tuple[int, int] = (1, 10)) -> str:
    """A digit string of the split; single digits and pairs, too few to part, belong to every split."""
    while True:
        length = rng.randint(*lengths)
        text = normalise(digit_string(rng, language, length), language)
        if length <= 2 or split_of(text) == split:
            return text


def _part(entries: list[str]) -> Entries:
    if len(entries) < LONG_LIST:
        return Entries(tuple(entries), ())
    held_out = [entry for entry in entries if int(hashlib.sha1(entry.encode()).hexdigest()[:6], 16) % 10 == 0]
    return Entries(tuple(entry for entry in entries if entry not in held_out), tuple(held_out))


def parse_grammar(text: str, language: str) -> Grammar:
    """Read a grammar; a slot without a list, a list without entries and a stray line are errors."""
    raw: list[tuple[str, int, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#!")[0].strip()
        if not line or line.startswith("# "):
            continue
        if header := _HEADER.match(line):
            raw.append((header[1], int(header[2] or 1), []))
        elif raw:
            depth_free = _CHOICE.sub(lambda match: match[0].replace("|", "\0"), line)
            raw[-1][2].extend(piece.strip().replace("\0", "|") for piece in depth_free.split("|") if piece.strip())
        else:
            raise DataError(f"grammar {language!r}, line {number} stands before any list", valid="[name] first")
    lists = {name: _part(list(dict.fromkeys(entries))) for name, _, entries in raw if name != "S"}
    blocks = tuple((weight, _part(list(dict.fromkeys(entries)))) for name, weight, entries in raw if name == "S")
    known = set(lists)
    for name, _, entries in raw:
        missing = {slot for entry in entries for slot in _SLOT.findall(entry) if not slot.startswith("#")} - known
        if missing or not entries:
            raise DataError(
                f"grammar {language!r}, list [{name}] "
                + (f"names unknown lists {sorted(missing)}" if missing else "is empty"),
                valid=", ".join(sorted(known)),
            )
    if not blocks:
        raise DataError(f"grammar {language!r} has no sentences", valid="at least one [S] block")
    return Grammar(language, lists, blocks)


@cache
def load_grammar(language: str) -> Grammar:
    path = FOLDER / f"{language}.txt"
    if not path.is_file():
        raise DataError(
            f"no grammar for {language!r}", valid=", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        )
    return parse_grammar(path.read_text("utf-8"), language)
