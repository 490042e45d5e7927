"""How much of their words, tokens, letters and phones two languages share, in the texts of a manifest.

Of the *types* of both (words after the Indic normaliser, tokens of the base's tokenizer, letters, phones as espeak-ng
reads the words):

    Jaccard = |A ∩ B| / |A ∪ B|;    shared = share of B's running words (tokens, ...) that occur in A at all.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from analysis.result import Row

if TYPE_CHECKING:
    from training.clips import Clips

LEVELS = ("words", "tokens", "letters", "phones")


def overlaps(clips: "Clips", base: Any) -> list[Row]:
    """One row for each ordered pair of languages and level. Phones are left out where espeak-ng is missing."""
    languages = sorted({record.lang for record in clips.records})
    counts = {language: units(clips, language, base) for language in languages}
    rows: list[Row] = []
    for source in languages:
        for target in languages:
            if source == target:
                continue
            for level in LEVELS:
                ours, theirs = counts[source][level], counts[target][level]
                if ours and theirs:
                    rows.append({"source": source, "target": target, "level": level, **compared(ours, theirs)})
    return rows


def compared(ours: Counter[Any], theirs: Counter[Any]) -> Row:
    """Jaccard over types; the share of `theirs` that occurs in `ours`, over types and over running units."""
    both = set(ours) & set(theirs)
    return {
        "jaccard": len(both) / len(set(ours) | set(theirs)),
        "shared_types": len(both) / len(theirs),
        "shared_running": sum(theirs[unit] for unit in both) / theirs.total(),
        "types": len(theirs),
        "running": theirs.total(),
    }


def units(clips: "Clips", language: str, base: Any) -> dict[str, Counter[Any]]:
    """Level -> how often each word, token, letter and phone occurs in the texts of a language."""
    from training.evaluation.normalisers import indic

    texts = list(dict.fromkeys(r.text for r in clips.records if r.lang == language and r.text.strip()))
    words = Counter(word for text in texts for word in indic(text).split())
    letters: Counter[str] = Counter()
    for word, number in words.items():
        for letter in word:
            letters[letter] += number
    return {
        "words": words,
        "letters": letters,
        "tokens": _tokens(texts, language, base),
        "phones": _phones(words, language),
    }


def _tokens(texts: list[str], language: str, base: Any) -> Counter[int]:
    """Tokens as the base is trained on them, without those that every label has (language, task, end)."""
    if language not in base.languages and language.split("-")[0] not in base.languages:
        return Counter()
    frame = set(base.labels([""], [language])[0].tolist())
    found: Counter[int] = Counter()
    for text in texts:
        found.update(token for token in base.labels([text], [language])[0].tolist() if token not in frame)
    return found


def _phones(words: Counter[str], language: str) -> Counter[str]:
    from analysis.distances import broad
    from analysis.spoken import speaker
    from zoo.errors import DataError

    try:
        espeak = speaker()
    except DataError:
        return Counter()
    found: Counter[str] = Counter()
    if espeak.speaks(language):
        for word, number in words.items():
            for symbol in espeak.pronounce(word, language):
                found[broad(symbol)] += number
    return found
