"""Distances between languages, by hand and as a table."""

import numpy as np
import pytest

from analysis.distances import KINDS, LINEAGES, _frequencies, between, broad, family_tree, phones
from tests.analysis.speech import needs_espeak


def test_family_tree_by_hand():
    assert family_tree("hi", "hi") == 0
    assert family_tree("hi", "te") == 1
    # hi: IE, Indo-Iranian, Indo-Aryan, Central, Hindustani, hi; pa: IE, Indo-Iranian, Indo-Aryan, Northwestern, pa
    assert family_tree("hi", "pa") == pytest.approx(1 - 2 * 3 / 11)
    assert family_tree("hi-IN", "ur") == pytest.approx(1 - 2 * 5 / 12)
    assert np.isnan(family_tree("hi", "xx"))


def test_distances_are_symmetric_and_zero_on_the_diagonal():
    languages = sorted(_frequencies())
    for kind in KINDS:
        matrix = between(languages, kind)
        assert np.allclose(matrix, matrix.T)
        assert np.allclose(np.diag(matrix), 0, atol=1e-6)
        assert matrix.min() >= 0
        assert matrix.max() <= 1


def test_phones_tell_sisters_from_strangers():
    assert phones("hi", "mr") < phones("hi", "en")
    assert phones("es", "it") < phones("es", "te")
    assert np.isnan(phones("hi", "sw"))


def test_every_lineage_has_a_family():
    assert all(lineage and all(lineage) for lineage in LINEAGES.values())


def test_broad_phones_keep_letters_and_aspiration():
    assert [broad(symbol) for symbol in ("dʰ", "oː", "ɪ̃", "tʃ", "t̪ʰ")] == ["dʰ", "o", "ɪ", "tʃ", "tʰ"]


@needs_espeak
def test_frequencies_are_counted_over_running_words():
    from analysis.distances import count

    found = count(["la casa", "la"], "it")
    assert found["l"] == 2
    assert found["a"] == 4
