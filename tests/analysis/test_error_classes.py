"""Classes of errors, by examples made by hand."""

from collections import Counter

import jiwer
import pytest

from analysis.error_classes import NO_PHONE, distance, feature_confusions, judge, phone_pairs, scripts, substitution

SOUNDS = {
    "two": ("t", "uː"), "too": ("t", "uː"), "dog": ("d", "ɒ", "ɡ"), "dock": ("d", "ɒ", "k"), "cat": ("k", "a", "t"),
    "sea": ("s", "iː"), "see": ("s", "iː"),
}  # fmt: skip


def pronounce(word):
    return SOUNDS.get(word, tuple(word))


def classes(reference: str, hypothesis: str, loop: bool = False, sounds=pronounce):
    output = jiwer.process_words(reference, hypothesis)
    found = judge(reference.split(), hypothesis.split(), output.alignments[0], loop=loop, pronounce=sounds)
    return [(error.reference, error.hypothesis, error.kind) for error in found]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the two cats", "the too cats", [("two", "too", "homophone")]),
        ("the dog ran", "the dock ran", [("dog", "dock", "near in sound")]),
        ("the dog ran", "the elephant ran", [("dog", "elephant", "other word")]),
        ("घर है", "ghar है", [("घर", "ghar", "other script")]),
        ("ਘਰ ਹੈ", "घर ਹੈ", [("ਘਰ", "घर", "other script")]),
        ("some thing else", "something else", [("some thing", "something", "word boundary")]),
        ("something else", "some thing else", [("something", "some thing", "word boundary")]),
        ("a b", "a", [("b", "", "deletion")]),
        ("a b c d", "a", [("b", "", "dropped run"), ("c", "", "dropped run"), ("d", "", "dropped run")]),
        ("a", "a b", [("", "b", "insertion")]),
        ("a b", "a b", []),
    ],
)
def test_each_class_by_hand(reference, hypothesis, expected):
    assert classes(reference, hypothesis) == expected


def test_insertions_of_a_clip_that_loops_are_a_loop():
    assert classes("a", "a b b b b", loop=True) == [("", "b", "loop")] * 4


def test_without_sounds_no_error_is_a_homophone():
    assert classes("two", "too", sounds=None) == [("two", "too", "other word")]


def test_digits_have_no_script():
    assert scripts("१२") == set()
    assert scripts("कि") == {"DEVANAGARI"}
    assert substitution("12", "twelve", None) == "other word"


def test_distance_is_edits_over_the_longer_list():
    assert distance(("a", "b", "c"), ("a", "x")) == pytest.approx(2 / 3)


def test_phones_are_aligned_with_the_fewest_edits():
    assert phone_pairs(("d", "ɒ", "ɡ"), ("d", "ɒ", "k")) == [("d", "d"), ("ɒ", "ɒ"), ("ɡ", "k")]
    assert phone_pairs(("k", "a"), ("a",)) == [("k", NO_PHONE), ("a", "a")]


def test_features_that_change_are_counted_against_all_that_were_said():
    pairs = Counter({("ɡ", "k"): 1, ("d", "d"): 2, ("d", "t"): 1, ("t", "t"): 4, ("a", "i"): 3, ("a", NO_PHONE): 5})
    rows = feature_confusions(pairs)
    assert rows == [{"feature": "voicing", "said": "voiced", "written": "voiceless", "count": 2, "of": 4, "rate": 0.5}]
