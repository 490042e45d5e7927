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

# Whisper's languages and those FLEURS adds: what a folder's name may mean. `cv_hi` is Common Voice, not Chuvash.
KNOWN = {
    *NAMES.values(),
    "af", "am", "ar", "as", "az", "ba", "be", "bg", "bn", "bo", "br", "bs", "ca", "cs", "cy", "da", "de", "el", "en",
    "es", "et", "eu", "fa", "fi", "fo", "fr", "gl", "gu", "ha", "haw", "he", "hi", "hr", "ht", "hu", "hy", "id", "is",
    "it", "ja", "jw", "ka", "kk", "km", "kn", "ko", "la", "lb", "ln", "lo", "lt", "lv", "mg", "mi", "mk", "ml", "mn",
    "mr", "ms", "mt", "my", "ne", "nl", "nn", "no", "oc", "pa", "pl", "ps", "pt", "ro", "ru", "sa", "sd", "si", "sk",
    "sl", "sn", "so", "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "uk", "ur", "uz",
    "vi", "yi", "yo", "yue", "zh", "ast", "ceb", "ckb", "ff", "ga", "ig", "kam", "kea", "ky", "lg", "luo", "nso",
    "ny", "om", "or", "umb", "wo", "xh", "zu",
}  # fmt: skip

_TAG = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{2,8})*")
_REGIONAL = re.compile(r"([a-z]{2,3})([-_][a-z]{4})?[-_][a-z]{2}")  # pa-IN, hi_in, cmn_hans_cn


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
    """Whether a folder's name is a language as corpora write it: a name, a code, or a code with its region."""
    plain = str(name).strip().lower()
    regional = _REGIONAL.fullmatch(plain)
    code = regional[1] if regional else plain
    return plain in NAMES or code in KNOWN or code in CODES
