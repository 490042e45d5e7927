"""How far apart two languages are, in two ways that can be computed and stated in one line each.

`family tree`: lineages after the classification of Glottolog (Hammarström et al.), shortened to the levels at which
these languages part. With s shared leading nodes of lineages of lengths a and b (each ends in the language itself),

    d = 1 - 2 s / (a + b):        0 the same language, 1 no known relation.

`phones`: the Jensen-Shannon distance (Lin 1991; root of the divergence in bits, 0 to 1) between the frequencies of
phones in one text, the Universal Declaration of Human Rights, as espeak-ng reads it. Parallel text, so that it is the
language that differs and not the subject. Phones are compared by letter and aspiration; length is left out, because
espeak-ng marks it in some languages only. What it measures includes espeak-ng's habits of transcription.

The frequencies lie in `phone_frequencies.json`; this makes them again, from files `udhr.<language>.txt`:

    python -m analysis.distances FOLDER
"""

import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

KINDS = ("family tree", "phones")
FREQUENCIES = Path(__file__).parent / "phone_frequencies.json"

_INDO_ARYAN = ("Indo-European", "Indo-Iranian", "Indo-Aryan")
_WEST_GERMANIC = ("Indo-European", "Germanic", "West Germanic")
_ITALO_WESTERN = ("Indo-European", "Italic", "Romance", "Italo-Western")
_SLAVIC = ("Indo-European", "Balto-Slavic", "Slavic")
_SOUTH_DRAVIDIAN = ("Dravidian", "South Dravidian")
LINEAGES: dict[str, tuple[str, ...]] = {
    "hi": (*_INDO_ARYAN, "Central", "Hindustani"), "ur": (*_INDO_ARYAN, "Central", "Hindustani"),
    "gu": (*_INDO_ARYAN, "Western"), "pa": (*_INDO_ARYAN, "Northwestern"), "sd": (*_INDO_ARYAN, "Northwestern"),
    "mr": (*_INDO_ARYAN, "Southern"), "kok": (*_INDO_ARYAN, "Southern"), "ne": (*_INDO_ARYAN, "Northern"),
    "bn": (*_INDO_ARYAN, "Eastern", "Bengali-Assamese"), "as": (*_INDO_ARYAN, "Eastern", "Bengali-Assamese"),
    "or": (*_INDO_ARYAN, "Eastern"), "mai": (*_INDO_ARYAN, "Eastern"), "si": (*_INDO_ARYAN, "Insular"),
    "fa": ("Indo-European", "Indo-Iranian", "Iranian"), "ps": ("Indo-European", "Indo-Iranian", "Iranian"),
    "te": ("Dravidian", "South-Central Dravidian"), "kn": (*_SOUTH_DRAVIDIAN, "Kannadoid"),
    "ta": (*_SOUTH_DRAVIDIAN, "Tamil-Malayalam"), "ml": (*_SOUTH_DRAVIDIAN, "Tamil-Malayalam"),
    "en": (*_WEST_GERMANIC, "Anglo-Frisian"), "de": (*_WEST_GERMANIC, "High German"),
    "nl": (*_WEST_GERMANIC, "Low Franconian"),
    "sv": ("Indo-European", "Germanic", "North Germanic"), "da": ("Indo-European", "Germanic", "North Germanic"),
    "no": ("Indo-European", "Germanic", "North Germanic"),
    "it": (*_ITALO_WESTERN, "Italo-Dalmatian"), "fr": (*_ITALO_WESTERN, "Western Romance", "Gallo-Romance"),
    "es": (*_ITALO_WESTERN, "Western Romance", "Ibero-Romance"),
    "pt": (*_ITALO_WESTERN, "Western Romance", "Ibero-Romance"),
    "ro": ("Indo-European", "Italic", "Romance", "Eastern Romance"),
    "ru": (*_SLAVIC, "East Slavic"), "uk": (*_SLAVIC, "East Slavic"), "pl": (*_SLAVIC, "West Slavic"),
    "cs": (*_SLAVIC, "West Slavic"), "el": ("Indo-European", "Greek"),
    "tr": ("Turkic", "Oghuz"), "az": ("Turkic", "Oghuz"), "kk": ("Turkic", "Kipchak"),
    "ar": ("Afro-Asiatic", "Semitic", "Central Semitic"), "he": ("Afro-Asiatic", "Semitic", "Central Semitic"),
    "fi": ("Uralic", "Finnic"), "et": ("Uralic", "Finnic"), "hu": ("Uralic",), "zh": ("Sino-Tibetan", "Sinitic"),
    "ja": ("Japonic",), "ko": ("Koreanic",), "vi": ("Austroasiatic",), "th": ("Tai-Kadai",),
    "id": ("Austronesian", "Malayic"), "ms": ("Austronesian", "Malayic"), "sw": ("Atlantic-Congo", "Bantu"),
}  # fmt: skip


def between(languages: Sequence[str], kind: str) -> np.ndarray:
    """float64 `[n, n]` of distances of `kind`; NaN where a language is not in the table."""
    measure = {"family tree": family_tree, "phones": phones}[kind]
    return np.array([[measure(a, b) for b in languages] for a in languages], dtype=np.float64).reshape(
        len(languages), len(languages)
    )


def family_tree(a: str, b: str) -> float:
    """1 - 2 s / (|a| + |b|) over lineages that end in the language itself; NaN where one is not known."""
    first, second = _primary(a), _primary(b)
    if first not in LINEAGES or second not in LINEAGES:
        return float("nan")
    one, other = (*LINEAGES[first], first), (*LINEAGES[second], second)
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return 1 - 2 * shared / (len(one) + len(other))


def phones(a: str, b: str) -> float:
    """Jensen-Shannon distance of phone frequencies; NaN where a language is not in the table."""
    from scipy.spatial.distance import jensenshannon

    known = _frequencies()
    first, second = known.get(_primary(a)), known.get(_primary(b))
    if first is None or second is None:
        return float("nan")
    symbols = sorted({*first, *second})
    rows = [[counts.get(symbol, 0) for symbol in symbols] for counts in (first, second)]
    return float(jensenshannon(*rows, base=2))


def broad(symbol: str) -> str:
    """A phone's letters and aspiration: `dʰ`, `ɪ̃` -> `ɪ`, `oː` -> `o`."""
    plain = unicodedata.normalize("NFD", symbol)
    return "".join(c for c in plain if unicodedata.category(c) in ("Ll", "Lo") or c == "ʰ")


def count(texts: Iterable[str], language: str) -> Counter[str]:
    """How often each phone (`broad`) is said in the texts. Raises DataError where espeak-ng is missing."""
    from analysis.spoken import speaker

    espeak = speaker()
    found: Counter[str] = Counter()
    for text in texts:
        for word in text.split():
            found.update(broad(symbol) for symbol in espeak.pronounce(word, language))
    return found


def _primary(language: str) -> str:
    return language.split("-")[0]


@cache
def _frequencies() -> dict[str, dict[str, int]]:
    return json.loads(FREQUENCIES.read_text(encoding="utf-8"))["languages"]


def _remake(folder: Path) -> None:
    from analysis.spoken import speaker
    from training.data.files import written_whole

    languages = {}
    for path in sorted(folder.glob("udhr.*.txt")):
        language = path.name.split(".")[1]
        if speaker().speaks(language):
            languages[language] = dict(count(path.read_text(encoding="utf-8").splitlines(), language).most_common())
    source = "Universal Declaration of Human Rights, about 60 paragraphs a language, read by espeak-ng"
    content = {"source": source, "espeak-ng": speaker().version, "languages": languages}
    with written_whole(FREQUENCIES) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _remake(Path(sys.argv[1]))
