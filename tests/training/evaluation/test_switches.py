"""Switches found against switches spoken, by hand."""

from pathlib import Path

import pytest

from router.causal import Change
from router.transcript import Segment as Written
from router.transcript import Transcript
from training.data.manifest import Record, Segment
from training.evaluation.switches import (
    Found,
    Spoken,
    decided_switches,
    found_switches,
    match,
    match_decisions,
    spoken_switches,
    tally,
)


def record(*segments) -> Record:
    found = tuple(Segment(start, end, lang, speaker=speaker) for start, end, lang, speaker in segments)
    return Record("clip", Path("clip.wav"), "", found[0].lang, duration=found[-1].end, segments=found)


CLIP = record((0.0, 1.0, "hi", "a"), (1.2, 2.0, "en", "a"), (2.0, 3.0, "en", "b"), (3.0, 4.0, "te", "b"))


def test_a_change_of_speaker_is_no_switch_and_a_language_lasts_over_it():
    assert spoken_switches(CLIP) == [Spoken(1.0, 1.2, 3.0, "en"), Spoken(3.0, 3.0, 4.0, "te")]
    assert spoken_switches(record((0.0, 1.0, "hi", "a"), (1.0, 2.0, "hi", "b"))) == []


def test_any_moment_of_the_pause_is_right_and_the_language_must_be():
    spoken = spoken_switches(CLIP)
    exact = match([Found(1.1, "en"), Found(3.3, "te")], spoken, 0.25)
    assert [pair[1].language for pair in exact.pairs] == ["en"]
    assert exact.offsets == [0.0]
    assert (len(exact.missed), len(exact.false)) == (1, 1)
    assert match([Found(1.1, "en"), Found(3.3, "te")], spoken, 0.5).offsets == pytest.approx([0.0, 0.3])
    assert match([Found(1.1, "te")], spoken, 0.5).pairs == ()


def test_one_found_switch_is_one_spoken_one_the_nearest():
    found = [Found(2.9, "te"), Found(3.1, "te"), Found(3.02, "te")]
    matched = match(found, [Spoken(3.0, 3.0, 4.0, "te")], 0.5)
    assert matched.pairs[0][0] == found[2]
    assert len(matched.false) == 2


def test_a_decision_counts_while_its_language_is_spoken():
    spoken = spoken_switches(CLIP)
    changes = [
        Change(0.3, 0.0, "hi", ""),
        Change(0.8, 0.7, "en", "hi"),  # 0.2 s before the pause: early, but its own
        Change(2.5, 2.4, "hi", "en"),  # nobody speaks Hindi there
        Change(3.4, 3.1, "te", "hi"),
        Change(4.5, 4.4, "te", "hi"),  # after the end: the switch is taken
    ]
    matched = match_decisions(decided_switches(changes), spoken)
    assert matched.delays == pytest.approx([0.0, 0.4])
    assert [f.time for f in matched.false] == [2.5, 4.5]
    late = match_decisions([Found(3.2, "en"), Found(4.2, "te")], spoken)
    assert (len(late.pairs), len(late.missed), len(late.false)) == (0, 2, 2)


def test_the_first_decision_is_never_a_false_alarm():
    matched = match_decisions(decided_switches([Change(0.3, 0.0, "it", "")]), spoken_switches(CLIP))
    assert (len(matched.false), len(matched.missed)) == (0, 2)
    named = match_decisions(decided_switches([Change(1.9, 0.0, "en", "")]), spoken_switches(CLIP))
    assert named.delays == pytest.approx([0.7])


def test_tallies():
    spoken = spoken_switches(CLIP)
    matchings = [
        match_decisions([Found(1.4, "en"), Found(3.9, "te"), Found(2.0, "it")], spoken),
        match_decisions([Found(1.5, "en")], spoken),
    ]
    total = tally(matchings, 120.0)
    assert (total.right, total.spoken, total.false) == (3, 4, 1)
    assert total.recall == 0.75
    assert total.precision == 0.75
    assert total.f1 == pytest.approx(0.75)
    assert total.false_alarms_per_minute == 0.5
    assert total.delay(50) == pytest.approx(0.3)
    assert total.within(0.5) == 0.5
    nothing = tally([], 0.0)
    assert (nothing.recall, nothing.precision, nothing.f1, nothing.false_alarms_per_minute) == (None,) * 4


def test_switches_of_a_transcript():
    def segment(start, end, language):
        return Written(start, end, "", language, 1.0, {}, "")

    segments = (segment(0, 1, "hi"), segment(1, 2, "hi"), segment(2, 3, "en"))
    transcript = Transcript("", "hi", 1.0, {}, segments, 3.0)
    assert found_switches(transcript) == [Found(2, "en")]
