"""Features of phones against the chart of the International Phonetic Association."""

import pytest

from analysis.ipa import phone, split


@pytest.mark.parametrize(
    ("symbol", "manner", "place", "voiced"),
    [
        ("p", "stop", "labial", False),
        ("dʰ", "stop", "coronal", True),
        ("ʈʰ", "stop", "retroflex", False),
        ("tʃ", "affricate", "postalveolar", False),
        ("dʒ", "affricate", "postalveolar", True),
        ("ts", "affricate", "coronal", False),
        ("ɲ", "nasal", "palatal", True),
        ("ɦ", "fricative", "glottal", True),
        ("ç", "fricative", "palatal", False),
        ("ɽ", "tap or trill", "retroflex", True),
        ("lː", "lateral", "coronal", True),
    ],
)
def test_consonants(symbol, manner, place, voiced):
    found = phone(symbol)
    assert not found.vowel
    assert (found.manner, found.place, found.voiced) == (manner, place, voiced)
    assert found.feature("voicing") == ("voiced" if voiced else "voiceless")


@pytest.mark.parametrize("symbol", ["a", "oː", "eɪ", "ɪ̃", "ɔ̃"])
def test_vowels_have_no_place_or_manner(symbol):
    found = phone(symbol)
    assert found.vowel
    assert found.feature("vowel or consonant") == "vowel"
    assert found.feature("place") is None
    assert found.feature("voicing") is None


@pytest.mark.parametrize("symbol", ["", "(en)", "ˈ", "_"])
def test_what_is_no_phone(symbol):
    assert phone(symbol) is None


def test_a_transcription_without_stress_pauses_and_other_languages():
    assert split("dʰ_ˈoː_b_ɪ_n (en)ɟ_ˈʌ_b(hi) k_ˈa_z_a_ e") == tuple(
        ["dʰ", "oː", "b", "ɪ", "n", "ɟ", "ʌ", "b", "k", "a", "z", "a", "e"]
    )
