"""What text goes through before it is scored: `raw`, `whisper`, `indic`.

Whisper's own normaliser removes every mark (Unicode category M), so in Devanagari, Gurmukhi and Telugu it strips the
vowel signs and scores "की" = "का" as right. It is reported because the literature does, never alone. `indic` keeps
every vowel sign and only unifies what is the same word in another encoding or another accepted spelling:

- NFC; precomposed nukta letters (क़, ਸ਼) and letter + nukta are one spelling; a nukta typed after the vowel sign is
  moved before it; **the nukta is kept**: ज and ज़ are different sounds.
- Vowel letters typed as carrier + sign (अ + ा, ੳ + ੁ) become the letter (Unicode Standard, tables 12-1 and 12-16).
- **Anusvara and chandrabindu** stay distinct (हंस, हँस) except where the Central Hindi Directorate prints one for the
  other: over a vowel sign that stands above the line (मेँ = में). A nasal consonant + virama before a stop of its own
  class is the anusvara (हिन्दी = हिंदी). Gurmukhi tippi and bindi are one nasal sign, chosen by the vowel: unified.
- Visarga is kept; a colon typed for it inside a word (दु:ख) becomes one.
- Zero-width joiners, non-joiners, spaces, soft hyphens and byte-order marks go.
- Danda, double danda, the abbreviation sign and all punctuation and symbols become spaces; an apostrophe inside a word
  stays (l'acqua). Digits of every script become 0-9, and 1,234 becomes 1234.
- Case is folded to lower; runs of white space become one space.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from zoo.errors import DataError


@dataclass(frozen=True)
class Normaliser:
    """A way to bring text into the form that is scored."""

    name: str
    version: str
    """Changes whenever any output may change: scores of other versions are not comparable."""
    apply: Callable[[str, str], str] = field(repr=False, compare=False)
    """(text, BCP-47 language) -> text."""

    def __call__(self, text: str, language: str) -> str:
        return self.apply(text, language)


def normaliser(name: str, english_spelling: Mapping[str, str] | None = None) -> Normaliser:
    """`raw`, `whisper` or `indic`. Raises DataError for another name.

    english_spelling: British -> American, the base model's `normalizer.json`; used by `whisper` for English only.
    """
    if name == "raw":
        return Normaliser("raw", "1", _raw)
    if name == "indic":
        return Normaliser("indic", "1", lambda text, language: indic(text))
    if name == "whisper":
        spelling = dict(english_spelling or {})
        digest = hashlib.sha256(json.dumps(spelling, sort_keys=True).encode()).hexdigest()[:8] if spelling else "none"
        return Normaliser("whisper", f"transformers, spelling {digest}", _whisper(spelling))
    raise DataError(f"There is no normaliser {name!r}", valid=", ".join(NORMALISERS))


NORMALISERS = ("raw", "whisper", "indic")


def _raw(text: str, language: str) -> str:
    return " ".join(text.split())


def _whisper(spelling: dict[str, str]) -> Callable[[str, str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    basic, english = BasicTextNormalizer(), EnglishTextNormalizer(spelling)

    def apply(text: str, language: str) -> str:
        return (english if language.split("-")[0] == "en" else basic)(text).strip()

    return apply


_NUKTAS = "\u093c\u09bc\u0a3c\u0abc\u0b3c\u0c3c\u0cbc"
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_SIGN_NUKTA = re.compile(f"([\u093e-\u094c\u0a3e-\u0a4c])([{_NUKTAS}])")
_COLON_VISARGA = re.compile("(?<=[\u0904-\u094f]):(?=[\u0904-\u0939\u0958-\u0961])")
_GROUPED_DIGITS = re.compile(r"(?<=[0-9]),(?=[0-9]{2,3}(?![0-9]))")
# vowel signs that reach above the head line, where print has no room for the chandrabindu
_ABOVE = "\u093f\u0940\u0945-\u094c\u0907\u0908\u090d-\u0914"
_CHANDRABINDU_ABOVE = re.compile(f"([{_ABOVE}])\u0901")


def _homorganic(base: int, anusvara: str) -> list[tuple[re.Pattern[str], str]]:
    """nasal + virama before a stop of its own class; `base` is the script's block, laid out as ISCII is."""
    virama = chr(base + 0x4D)
    rules = []
    for first in (0x15, 0x1A, 0x1F, 0x24, 0x2A):  # ka, ca, tta, ta, pa: four stops, then the nasal
        stops, nasal = f"{chr(base + first)}-{chr(base + first + 3)}", chr(base + first + 4)
        rules.append((re.compile(f"{nasal}{virama}(?=[{stops}])"), anusvara))
    return rules


_NASALS = [*_homorganic(0x900, "\u0902"), *_homorganic(0xC00, "\u0c02")]
_TIPPI_TO_BINDI = str.maketrans({"\u0a70": "\u0a02"})
_CARRIERS = {
    # Devanagari
    "\u0905\u093e": "\u0906", "\u0905\u0949": "\u0911", "\u0905\u094a": "\u0912", "\u0905\u094b": "\u0913",
    "\u0905\u094c": "\u0914", "\u0906\u0947": "\u0913", "\u0906\u0948": "\u0914", "\u090f\u0947": "\u0910",
    "\u090f\u0945": "\u090d", "\u090f\u0946": "\u090e", "\u0905\u0945": "\u0972",
    # Gurmukhi
    "\u0a05\u0a3e": "\u0a06", "\u0a72\u0a3f": "\u0a07", "\u0a72\u0a40": "\u0a08", "\u0a73\u0a41": "\u0a09",
    "\u0a73\u0a42": "\u0a0a", "\u0a72\u0a47": "\u0a0f", "\u0a05\u0a48": "\u0a10", "\u0a73\u0a4b": "\u0a13",
    "\u0a05\u0a4c": "\u0a14",
    # Telugu
    "\u0c12\u0c4c": "\u0c14", "\u0c12\u0c55": "\u0c13",
}  # fmt: skip
_CARRIER = re.compile("|".join(map(re.escape, _CARRIERS)))
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'", "\u2018": "'", "`": "'", "\u00b4": "'"})
_INNER_APOSTROPHE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
_APOSTROPHE_MARK = "\ue000"  # private use: survives the removal of punctuation


@lru_cache(maxsize=200_000)
def indic(text: str) -> str:
    """The Indic normaliser; the choices stand at the head of this file. Languages in other scripts pass unharmed."""
    text = unicodedata.normalize("NFC", text)
    text = _INVISIBLE.sub("", text)
    text = _SIGN_NUKTA.sub(r"\2\1", text)
    text = _CARRIER.sub(lambda match: _CARRIERS[match.group()], text)
    text = _CHANDRABINDU_ABOVE.sub("\\1\u0902", text)
    for pattern, anusvara in _NASALS:
        text = pattern.sub(anusvara, text)
    text = text.translate(_TIPPI_TO_BINDI)
    text = _COLON_VISARGA.sub("\u0903", text)
    text = _INNER_APOSTROPHE.sub(_APOSTROPHE_MARK, text.translate(_APOSTROPHES))
    text = "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in text)
    text = _GROUPED_DIGITS.sub("", text)
    text = "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)
    return " ".join(text.replace(_APOSTROPHE_MARK, "'").lower().split())
