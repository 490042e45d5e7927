import pytest

from training.evaluation.normalisers import NORMALISERS, indic, normaliser
from zoo.errors import DataError

SAME = [
    ("क\u093cलम", "\u0958लम", "precomposed nukta"),
    ("ਸ\u0a3cਹਿਰ", "\u0a36ਹਿਰ", "precomposed nukta, Gurmukhi"),
    ("ज\u093e\u093cदू", "ज\u093c\u093eदू", "nukta after the vowel sign"),
    ("हिन्दी", "हिंदी", "homorganic nasal"),
    ("पम्प", "पंप", "homorganic nasal, labial"),
    ("అన్త", "అంత", "homorganic nasal, Telugu"),
    ("मेँ", "में", "chandrabindu above a high vowel sign"),
    ("ਪੰਜਾਬੀ", "ਪਂਜਾਬੀ", "tippi and bindi"),
    ("दु:ख", "दुःख", "colon for visarga"),
    ("సాఫ్ట్\u200cవేర్", "సాఫ్ట్వేర్", "zero-width non-joiner"),
    ("क्\u200dष", "क्ष", "zero-width joiner"),
    ("घर।", "घर", "danda"),
    ("घर ॥", "घर", "double danda"),
    ("१२३", "123", "Devanagari digits"),
    ("੧੨", "12", "Gurmukhi digits"),
    ("౧౨", "12", "Telugu digits"),
    ("1,23,456", "123456", "grouped digits"),
    ("अ\u093eम", "आम", "carrier and sign"),
    ("\ufeffL’Acqua!", "l'acqua", "apostrophe and case"),
]
DIFFERENT = [
    ("की", "का", "vowel signs"),
    ("ਕੀ", "ਕਾ", "vowel signs, Gurmukhi"),
    ("కి", "కా", "vowel signs, Telugu"),
    ("हंस", "हँस", "swan and laugh"),
    ("ज", "ज़", "nukta"),
    ("दुख", "दुःख", "visarga"),
    ("सन्न", "संन", "doubled nasal is no anusvara"),
    ("कहा: सुनो", "कहाः सुनो", "colon at the end of a word is punctuation"),
]


@pytest.mark.parametrize(("one", "other", "why"), SAME, ids=[w for *_, w in SAME])
def test_one_word_in_two_encodings(one, other, why):
    assert indic(one) == indic(other)


@pytest.mark.parametrize(("one", "other", "why"), DIFFERENT, ids=[w for *_, w in DIFFERENT])
def test_different_words_stay_different(one, other, why):
    assert indic(one) != indic(other)


def test_gurmukhi_carriers():
    assert indic("\u0a73\u0a41") == "\u0a09"
    assert indic("\u0a72\u0a40") == "\u0a08"


def test_normalising_twice_changes_nothing():
    for one, other, _ in SAME + DIFFERENT:
        assert indic(indic(one)) == indic(one)
        assert indic(indic(other)) == indic(other)


def test_whisper_is_transformers_own_and_strips_matras():
    whisper = normaliser("whisper")
    assert whisper("की", "hi") == whisper("का", "hi") == "क"
    assert whisper("Mr. Smith's twenty one colours", "en") == "mister smith is 21 colours"
    spelled = normaliser("whisper", {"colours": "colors"})
    assert spelled("twenty one colours", "en") == "21 colors"
    assert spelled.version != whisper.version


def test_raw_touches_white_space_only():
    assert normaliser("raw")("  क़  B,\u200d\n", "hi") == "क़ B,\u200d"


def test_unknown_name():
    with pytest.raises(DataError, match="raw, whisper, indic"):
        normaliser("none")
    assert {normaliser(n).name for n in NORMALISERS} == set(NORMALISERS)
