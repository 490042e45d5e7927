"""What the repository has for OpenAI's Whisper base: five adapters, a classifier, a head that follows.

That they fit the published weights is told by checksums; that they work, where the model was pulled (`sh zoo/carry_whisper.sh`).
"""

from pathlib import Path

import numpy as np
import pytest

import router
from adapters.store import Store
from router.classifier import TapClassifier
from router.following import Following
from zoo import manager
from zoo.audio import decode

MODEL = "openai/whisper-base"
STORE = Path("adapters/whisper-base")
CLIPS = Path("router/clips")
LANGUAGES = {"en", "hi", "it", "pa", "te"}


def test_they_name_the_published_weights():
    weights = manager.cards()[MODEL].files["model.safetensors"]
    found = Store(STORE).find(base=MODEL)
    assert {stored.key.language for stored in found} == LANGUAGES
    for stored in found:
        stored.check()
        assert stored.record.base_sha256 == weights
        assert stored.record.context == "dynamic"
    classifier = TapClassifier.load(STORE / "classifier")
    assert classifier.config.base_sha256 == weights
    assert set(classifier.languages) == {*LANGUAGES, "unknown"}
    assert isinstance(classifier.following, Following)
    assert classifier.following.config.base_sha256 == weights


@pytest.fixture(scope="module")
def whisper():
    if manager.find(MODEL) is None:
        pytest.skip(f"{MODEL} is not pulled: sh zoo/carry_whisper.sh")
    return router.load(MODEL, STORE)


def test_people_are_heard_and_written_in_their_language(whisper):
    """The base alone writes the first in Latin letters."""
    names = ("te_human.ogg", "te_human_2.ogg", "en_human.ogg", "en_human_long.ogg", "it_tts.ogg")
    transcripts = list(whisper.transcribe([CLIPS / name for name in names]))
    assert [t.language for t in transcripts] == ["te", "te", "en", "en", "it"]
    assert all(any("\u0c00" <= letter <= "\u0c7f" for letter in t.text) for t in transcripts[:2])
    assert "immediate predecessors" in transcripts[3].text
    assert "timer" in transcripts[4].text


def test_a_change_of_language_is_cut_and_followed(whisper):
    """Two people, one after the other."""
    one, two = decode(CLIPS / "en_human_long.ogg"), decode(CLIPS / "te_human.ogg")
    both, seam = np.concatenate([one, two]), len(one) / 16_000
    transcript = whisper.transcribe(both)
    assert [segment.language for segment in transcript.segments] == ["en", "te"]
    assert transcript.segments[1].start == pytest.approx(seam, abs=0.5)
    changes = list(whisper.follow(both))
    assert [change.language for change in changes] == ["en", "te"]
    assert seam < changes[1].decided_s < seam + 2.0
