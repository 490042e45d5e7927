"""Corpora name languages in many ways (`hindi`, `hi_in`, `hi-IN`, `pan`); boli uses one BCP-47 tag (`hi`)."""

import re

from zoo.errors import DataError

# The 22 scheduled languages of India, English, and the languages of MLS, by the names corpus folders use.
NAMES = {
    "assamese": "as", "bengali": "bn", "bodo": "brx", "dogri": "doi", "gujarati": "gu", "hindi": "hi",
    "kannada": "kn", "kashmiri": "ks", "konkani": "kok", "maithili": "mai", "malayalam": "ml", "manipuri": "mni",
    "marathi": "mr", "nepali": "ne", "odia": "or", "oriya": "or", "punjabi": "pa", "panjabi": "pa", "sanskrit": "sa",
    "santali": "sat", "sindhi": "sd", "tamil": "ta", "telugu": "te", "urdu": "ur",
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it", "polish": "pl",
    "portuguese": "pt", "spanish": "es",
}  # fmt: skip

# ISO 639-2/3 codes that have a two-letter tag, and FLEURS' own codes.
CODES = {
    "asm": "as", "ben": "bn", "guj": "gu", "hin": "hi", "kan": "kn", "kas": "ks", "mal": "ml", "mar": "mr",
    "nep": "ne", "npi": "ne", "ori": "or", "ory": "or", "pan": "pa", "san": "sa", "snd": "sd", "tam": "ta",
    "tel": "te", "urd": "ur", "eng": "en", "ita": "it", "deu": "de", "fra": "fr", "spa": "es", "por": "pt",
    "nld": "nl", "pol": "pl", "cmn": "zh", "fil": "tl", "nb": "no",
}  # fmt: skip

_TAG = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{2,8})*")


def language_tag(name: str, where: str = "") -> str:
    """`Hindi`, `hi_in`, `hi-IN`, `hin` -> `hi`. Regions and scripts are dropped: one language, one adapter.

    Raises DataError (starting with `where`) for anything that is no language.
    """
    plain = str(name).strip().lower()
    if plain in NAMES:
        return NAMES[plain]
    if not _TAG.fullmatch(plain):
        raise DataError(
            f"{where + ': ' if where else ''}{name!r} is not a language",
            valid="a BCP-47 tag (hi, pa, te, it, ...) or one of " + ", ".join(sorted(NAMES)),
        )
    primary = re.split("[-_]", plain)[0]
    return CODES.get(primary, primary)


def is_language(name: str) -> bool:
    """Whether a folder's name is a language as corpora write it: a name, a tag with region, or a known code."""
    plain = str(name).strip().lower()
    return (
        plain in NAMES
        or plain in NAMES.values()
        or plain in CODES
        or bool(re.fullmatch(r"[a-z]{2,3}([-_][a-z]{4})?[-_][a-z]{2}", plain))
    )
