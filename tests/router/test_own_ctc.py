"""What the base's own CTC says of the languages, frame by frame, and the cuts that this gives: by hand."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from router.options import TranscribeOptions
from router.own_ctc import SCRIPTS, WRONG, OwnCtc
from router.smoothing import Smoothing
from router.stretches import cuts_by_evidence
from zoo.interface import Hidden
from zoo.speech import SAMPLE_RATE, Utterance

LANGUAGES = ("en", "hi", "it", "te", "unknown")
RATE = 25


class Writes:
    """A base whose CTC writes known scripts: `[T, 3]` of Devanagari, Latin, Telugu, as it is asked."""

    languages = ("en", "hi", "it", "te")
    frame_rate = RATE
    encoded = 0

    def __init__(self, *frames: tuple[float, float, float]):
        self.frames = torch.tensor(frames)

    def encode(self, features):
        self.encoded += 1
        return features

    def script_probabilities(self, hidden, scripts):
        assert list(scripts) == ["DEVANAGARI", "LATIN", "TELUGU"]
        return self.frames


def own(base) -> OwnCtc:
    return OwnCtc(base, SimpleNamespace(off=nullcontext), SimpleNamespace(tapped="tapped"))


def test_scripts_speak_for_the_languages_that_are_written_in_them():
    base = Writes((0.0, 0.0, 0.0), (0.0, 0.8, 0.0), (0.0, 0.0, 1.0))
    judge = own(base)
    found = judge.of_languages(LANGUAGES)
    assert found.shape == (3, 5)
    assert (found[0] == 0).all(), "a blank says nothing"
    latin = np.log([0.5, WRONG, 0.5, WRONG])  # English and Italian share it
    assert found[1, :4] == pytest.approx(0.8 * (latin - latin.mean()))
    telugu = np.log([WRONG, WRONG, WRONG, 1.0])
    assert found[2, :4] == pytest.approx(telugu - telugu.mean())
    assert (found[:, 4] == 0).all(), "the class unknown has no script"
    judge.of_languages(LANGUAGES)
    assert base.encoded == 1


def test_no_ctc_and_one_script_say_nothing():
    assert own(Writes((0.0, 1.0, 0.0))).of_languages(("en", "it", "unknown")) is None
    assert own(SimpleNamespace(languages=("en", "te"))).of_languages(("en", "te")) is None
    silent = SimpleNamespace(languages=("en", "te"), encode=lambda x: x, script_probabilities=lambda h, s: None)
    assert own(silent).of_languages(("en", "te")) is None
    assert own(SimpleNamespace(languages=())).of_texts(["a", "b"]) == [0.0, 0.0]


def test_cuts_follow_the_script_where_the_frames_alone_would_not():
    """Two seconds of English and two of Telugu, of which the classifier is never sure: it gives each 0.4 throughout."""
    base = SimpleNamespace(frame_rate=RATE, card=SimpleNamespace(name="x"))
    rows = torch.tensor([[0.4, 0.05, 0.05, 0.4, 0.1]]).log().repeat(4 * RATE, 1)
    classifier = SimpleNamespace(languages=LANGUAGES)
    judge = own(Writes(*[(0.0, 0.9, 0.0)] * (2 * RATE), *[(0.0, 0.0, 0.9)] * (2 * RATE)))
    evidence = judge.evidence(classifier, -3.0)
    assert evidence == pytest.approx(SCRIPTS * judge.of_languages(LANGUAGES))
    utterance = Utterance(np.zeros(4 * SAMPLE_RATE, dtype=np.float32))
    options, smoothing = TranscribeOptions(), Smoothing(seam_s=0.0)

    def cuts(evidence, options=options):
        found = cuts_by_evidence(rows, evidence, classifier, utterance, base, options, smoothing)
        return [[(s.start, s.end, s.decision.language) for s in spans] for spans in found]

    assert cuts(evidence) == [[(0, 50, "en"), (50, 100, "te")]], "all three costs agree"
    assert cuts(np.zeros_like(evidence)) == []
    assert cuts(None) == []
    assert cuts(evidence, replace(options, languages=("en", "hi"))) == [], "Telugu cannot be spoken"
    assert cuts(evidence, replace(options, switch_cost=1000.0)) == []


def test_a_head_that_follows_speaks_beside_the_scripts():
    """Its log-probabilities on the chunk, none below the floor, are added to the scripts' evidence."""
    said = np.log(np.array([[0.9, 0.05, 0.02, 0.02, 0.01], [0.1, 0.1, 0.1, 0.6, 0.1]], dtype=np.float32))

    class Follows:
        def states(self, base, tapped, done):
            assert (tapped.layer, done.done) == (1, True)
            return done.values

        def __call__(self, states, memory):
            assert states.shape == (2, 3), "real frames only"
            assert memory is None
            return said, None

    class Base(Writes):
        def encode(self, hidden):
            return replace(hidden, layer=2, done=True)

    tapped = Hidden(torch.zeros(1, 4, 3), torch.tensor([2]), 1)
    judge = OwnCtc(
        Base((0.0, 0.8, 0.0), (0.0, 0.0, 0.0)), SimpleNamespace(off=nullcontext), SimpleNamespace(tapped=tapped)
    )
    classifier = SimpleNamespace(languages=LANGUAGES, following=Follows())
    wanted = SCRIPTS * judge.of_languages(LANGUAGES) + np.maximum(said, -2.5)
    assert judge.evidence(classifier, -2.5) == pytest.approx(wanted)
    assert judge.evidence(classifier, -2.5)[0, 4] == -2.5
    silent = OwnCtc(SimpleNamespace(languages=(), encode=Base().encode), judge.bank, judge.one)
    assert silent.evidence(classifier, -2.5) == pytest.approx(np.maximum(said, -2.5))
    assert silent.evidence(SimpleNamespace(languages=LANGUAGES), -2.5) is None
