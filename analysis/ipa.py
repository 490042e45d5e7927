"""What a phone is: vowel or consonant; a consonant's manner, place and voicing.

The letters are those of the chart of the International Phonetic Association (revised to 2020), as far as espeak-ng
writes them. Places that languages tell apart by a diacritic only (dental, alveolar) are one; uvulars stand with the
velars, pharyngeals with the glottals. Length, aspiration, nasality
and stress do not change a phone's features here; stress is no part of a phone.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

FEATURES = ("vowel or consonant", "manner", "place", "voicing")
"""What probes and confusions look at. The last three are of consonants alone: every vowel is voiced."""

VOWELS = frozenset("iyɨʉɯuɪʏʊeøɘɵɤoəɛœɜɞʌɔæɐaɶɑɒᵻɚɝ")

# (place, manner) -> voiceless letters, voiced letters
_CHART = {
    ("labial", "stop"): ("p", "bɓ"),
    ("coronal", "stop"): ("t", "dɗ"),
    ("retroflex", "stop"): ("ʈ", "ɖ"),
    ("palatal", "stop"): ("c", "ɟʄ"),
    ("velar", "stop"): ("kq", "ɡgɠɢ"),
    ("glottal", "stop"): ("ʔ", ""),
    ("labial", "nasal"): ("", "mɱ"),
    ("coronal", "nasal"): ("", "n"),
    ("retroflex", "nasal"): ("", "ɳ"),
    ("palatal", "nasal"): ("", "ɲ"),
    ("velar", "nasal"): ("", "ŋɴ"),
    ("labial", "fricative"): ("ɸf", "βv"),
    ("coronal", "fricative"): ("θs", "ðz"),
    ("postalveolar", "fricative"): ("ʃɕ", "ʒʑ"),
    ("retroflex", "fricative"): ("ʂ", "ʐ"),
    ("palatal", "fricative"): ("ç", "ʝ"),
    ("velar", "fricative"): ("xχ", "ɣʁ"),
    ("glottal", "fricative"): ("hħ", "ɦʕ"),
    ("labial", "approximant"): ("ʍ", "ʋw"),
    ("coronal", "approximant"): ("", "ɹ"),
    ("retroflex", "approximant"): ("", "ɻ"),
    ("palatal", "approximant"): ("", "jɥ"),
    ("velar", "approximant"): ("", "ɰ"),
    ("coronal", "lateral"): ("ɬ", "lɫɮ"),
    ("retroflex", "lateral"): ("", "ɭ"),
    ("palatal", "lateral"): ("", "ʎ"),
    ("velar", "lateral"): ("", "ʟ"),
    ("coronal", "tap or trill"): ("", "rɾ"),
    ("retroflex", "tap or trill"): ("", "ɽ"),
    ("velar", "tap or trill"): ("", "ʀ"),
}
_LETTERS = {
    letter: (place, manner, voiced)
    for (place, manner), (voiceless, with_voice) in _CHART.items()
    for letters, voiced in ((voiceless, False), (with_voice, True))
    for letter in letters
}
STRESS = "ˈˌ"


@dataclass(frozen=True)
class Phone:
    """A phone's features. A vowel has no place or manner of its own here."""

    symbol: str
    vowel: bool
    manner: str = ""
    """stop, nasal, fricative, affricate, approximant, lateral, tap or trill."""
    place: str = ""
    """labial, coronal, postalveolar, retroflex, palatal, velar, glottal."""
    voiced: bool = True

    def feature(self, name: str) -> str | None:
        """The value of one of `FEATURES`; None where the phone has none."""
        if name == "vowel or consonant":
            return "vowel" if self.vowel else "consonant"
        if self.vowel:
            return None
        return {"manner": self.manner, "place": self.place, "voicing": "voiced" if self.voiced else "voiceless"}[name]


@lru_cache(maxsize=4096)
def phone(symbol: str) -> Phone | None:
    """Features of one IPA symbol (`dʰ`, `tʃ`, `oː`, `eɪ`, `ɪ̃`); None for what is no phone (a pause, a language mark)."""
    if symbol.startswith("("):
        return None
    plain = unicodedata.normalize("NFD", symbol)
    letters = [letter for letter in plain if letter in VOWELS or letter in _LETTERS]
    if "ç" in unicodedata.normalize("NFC", symbol):
        letters = ["ç"] + [letter for letter in letters if letter != "c"]
    if not letters:
        return None
    first = letters[0]
    if first in VOWELS:
        return Phone(symbol, vowel=True)
    place, manner, voiced = _LETTERS[first]
    if manner == "stop" and len(letters) > 1 and letters[1] in _LETTERS and _LETTERS[letters[1]][1] == "fricative":
        place, manner = _LETTERS[letters[1]][0], "affricate"
    return Phone(symbol, vowel=False, manner=manner, place=place, voiced=voiced)


def split(transcription: str, separator: str = "_") -> tuple[str, ...]:
    """The phones of espeak-ng's transcription `dʰ_ˈoː_b_ɪ_n`, without stress, pauses and marks of other languages."""
    plain = re.sub(r"\([a-z-]+\)", "", transcription)
    parts = (part.strip(STRESS + " \n.") for part in re.split(rf"[{separator}\s]", plain))
    return tuple(part for part in parts if part and phone(part) is not None)
