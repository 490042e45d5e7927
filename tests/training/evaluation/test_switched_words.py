"""PIER, the language of the words, dropped and doubled ones, by hand."""

from pathlib import Path

import pytest

from training.data.manifest import Record, Segment
from training.evaluation.metrics import align
from training.evaluation.normalisers import normaliser
from training.evaluation.switched_words import WordCounts, count

INDIC = normaliser("indic")


def counted(segments: list[tuple[str, str]], written: list[tuple[str, str]]) -> WordCounts:
    parts = tuple(Segment(i, i + 1, lang, text) for i, (text, lang) in enumerate(segments))
    text = " ".join(text for text, _ in segments)
    record = Record("clip", Path("clip.wav"), text, "mul", segments=parts)
    alignment = align([text], [" ".join(text for text, _ in written if text)], ["mul"], INDIC)
    found = count(record, written, alignment, 0, INDIC)
    assert found is not None
    return found


SPOKEN = [("मेरा नाम राम है", "hi"), ("good morning", "en")]


def test_all_right():
    assert counted(SPOKEN, SPOKEN) == WordCounts(2, 0, 6, 6, 2, 0, 1, 0)


def test_words_outside_the_main_language_are_of_interest():
    found = counted(SPOKEN, [("मेरा नाम श्याम है", "hi"), ("god", "en")])
    assert found.of_interest == 2
    assert found.wrong == 2, "one substituted, one deleted; the wrong name is of the main language"


def test_a_right_word_may_stand_in_a_segment_of_another_language():
    found = counted(SPOKEN, [("मेरा नाम राम", "hi"), ("है good morning", "en")])
    assert (found.written, found.right_language) == (6, 5)


def test_dropped_at_the_seam_and_elsewhere():
    assert counted(SPOKEN, [("मेरा नाम राम", "hi"), ("good morning", "en")]).dropped == 1
    assert counted(SPOKEN, [("नाम राम है", "hi"), ("good morning", "en")]).dropped == 0
    assert counted(SPOKEN, [("मेरा नाम राम", "hi"), ("morning", "en")]).at_seams == 2


@pytest.mark.parametrize(
    ("written", "doubled"),
    [
        ([("मेरा नाम राम है", "hi"), ("है good morning", "en")], 1),
        ([("मेरा नाम राम है", "hi"), ("राम है good morning", "en")], 2),
        ([("मेरा नाम राम है good", "hi"), ("good morning", "en")], 1),
        ([("मेरा नाम राम है", "hi"), ("good good morning", "en")], 0),  # a loop, but not over a seam
        ([("मेरा नाम राम है है good morning", "hi")], 0),
    ],
)
def test_doubled_over_a_seam(written, doubled):
    assert counted(SPOKEN, written).doubled == doubled


def test_what_was_really_said_twice_is_not_doubled():
    said = [("no no", "en"), ("no grazie", "it")]
    assert counted(said, said).doubled == 0


def test_nothing_written():
    found = counted(SPOKEN, [("", "hi")])
    assert (found.wrong, found.written, found.dropped, found.seams) == (2, 0, 2, 0)


def test_counts_add_up():
    assert WordCounts(1, 2, 3, 4, 5, 6, 7, 8) + WordCounts(1, 1, 1, 1, 1, 1, 1, 1) == WordCounts(2, 3, 4, 5, 6, 7, 8, 9)
