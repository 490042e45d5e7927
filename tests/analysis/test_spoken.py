"""Speech with exact times: the phones espeak-ng says are those it writes, and lie where the sound is."""

import numpy as np
import pytest

from tests.analysis.speech import needs_espeak
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

pytestmark = needs_espeak


@pytest.fixture
def spoken():
    from analysis.spoken import speak_all

    return speak_all([("धोबिन जब सोकर उठती", "hi"), ("la casa è bella, ciao 25", "it")], voices=2, seed=1)


def test_phones_follow_each_other_inside_the_clip(spoken):
    assert len(spoken) == 4
    for made in spoken:
        duration = len(made.audio) / SAMPLE_RATE
        starts = [p.start_s for p in made.phones]
        assert starts == sorted(starts)
        assert all(p.start_s < p.end_s <= duration + 0.02 for p in made.phones)
        assert all(a.end_s <= b.start_s + 1e-9 for a, b in zip(made.phones, made.phones[1:], strict=False))


def test_the_phones_are_those_of_the_words(spoken):
    from analysis.spoken import speaker

    hindi = spoken[0]
    wanted = [p for word in hindi.text.split() for p in speaker().pronounce(word, "hi")]
    assert [p.label for p in hindi.phones] == wanted
    assert [w.label for w in hindi.words] == hindi.text.split()


def test_the_times_are_where_the_sounds_are():
    """An `s` crosses zero far more often than a vowel; times that were off by half a phone would not show it."""
    from analysis.spoken import speak_all

    made = speak_all([("casa sasso sessanta sei", "it")], voices=4)
    crossings = {"s": [], "vowel": []}
    for one in made:
        for p in one.phones:
            kind = p.label if p.label == "s" else "vowel" if p.label in "aeio" else ""
            if kind:
                sound = one.audio[int(p.start_s * SAMPLE_RATE) : int(p.end_s * SAMPLE_RATE)]
                crossings[kind].append(np.mean(np.diff(np.signbit(sound).astype(int)) != 0))
    assert np.percentile(crossings["s"], 20) > 1.5 * np.percentile(crossings["vowel"], 80)


def test_the_same_seed_gives_the_same_speech(spoken):
    from analysis.spoken import speak_all

    again = speak_all([("धोबिन जब सोकर उठती", "hi")], voices=2, seed=1)
    assert again[0].speaker == spoken[0].speaker
    assert again[0].phones == spoken[0].phones
    assert np.array_equal(again[0].audio, spoken[0].audio)


def test_a_language_that_espeak_does_not_speak_is_an_error():
    from analysis.spoken import speak_all

    with pytest.raises(DataError, match=r"^espeak-ng has no voice 'tlh\+"):
        speak_all([("nuqneH", "tlh")])


def test_homophones_are_pronounced_alike_and_others_are_not():
    from analysis.spoken import speaker

    espeak = speaker()
    assert espeak.pronounce("two", "en") == espeak.pronounce("too", "en")
    assert espeak.pronounce("bat", "en") != espeak.pronounce("bad", "en")
    assert espeak.speaks("te")
    assert not espeak.speaks("xx")
    with pytest.raises(DataError, match="no voice 'xx'"):
        espeak.pronounce("a", "xx")


def test_the_corpus_maker_still_speaks_afterwards(spoken):
    import random

    from training.data.synthesis import Espeak, draw_manner, draw_voice

    rng = random.Random(0)
    other = Espeak()
    assert len(other.speak("ciao", draw_voice(rng, "it", "test"), draw_manner(rng))) > 1000
    from analysis.spoken import speak_all

    assert speak_all([("ciao", "it")])[0].phones
