"""The scripts that languages are written in, as Unicode names its letters."""

import unicodedata
from collections import Counter

LATIN = "LATIN"
SCRIPTS = {
    "hi": "DEVANAGARI", "mr": "DEVANAGARI", "ne": "DEVANAGARI", "sa": "DEVANAGARI", "pa": "GURMUKHI", "te": "TELUGU",
    "ta": "TAMIL", "kn": "KANNADA", "ml": "MALAYALAM", "bn": "BENGALI", "as": "BENGALI", "gu": "GUJARATI",
    "or": "ORIYA", "si": "SINHALA", "ur": "ARABIC", "sd": "ARABIC", "ar": "ARABIC", "fa": "ARABIC", "ps": "ARABIC",
    "ru": "CYRILLIC", "uk": "CYRILLIC", "be": "CYRILLIC", "bg": "CYRILLIC", "sr": "CYRILLIC", "mk": "CYRILLIC",
    "kk": "CYRILLIC", "mn": "CYRILLIC", "el": "GREEK", "he": "HEBREW", "yi": "HEBREW", "ka": "GEORGIAN",
    "hy": "ARMENIAN", "th": "THAI", "lo": "LAO", "my": "MYANMAR", "km": "KHMER", "ko": "HANGUL", "zh": "CJK",
    "ja": "CJK", "am": "ETHIOPIC",
}  # fmt: skip
"""The usual script of a language (Unicode CLDR); LATIN of all others."""


def script_of(language: str) -> str:
    """A region's language is written as the language is."""
    return SCRIPTS.get(language.split("-")[0], LATIN)


def letters(text: str) -> Counter[str]:
    """Script -> letters and vowel signs of it in the text."""
    return Counter(
        unicodedata.name(character, "?").split(maxsplit=1)[0]
        for character in text
        if character.isalpha() or unicodedata.category(character)[0] == "M"
    )
