"""Clips whose language the classifier is not sure of, written by every candidate."""

import math

import numpy as np
import pytest
import torch

from router.classifier import LanguageProbabilities, TapClassifier
from router.rescoring import Rescoring, candidates, rescored, surety
from tests import toy
from tests.toy_router import make
from zoo.errors import ModelError

HEARD = {"hi": 0.5, "pa": 0.3, "unknown": 0.15, "te": 0.05}


def test_candidates_are_the_most_probable_languages_of_a_doubted_clip():
    writable = ["hi", "pa", "te"]
    assert candidates(HEARD, writable, Rescoring(weight=1.0)) == ["hi", "pa", "te"]
    assert candidates(HEARD, writable, Rescoring(weight=1.0, most=2)) == ["hi", "pa"]
    assert candidates(HEARD, writable, Rescoring()) == [], "no weight: nobody is heard twice"
    assert candidates(HEARD, writable, Rescoring(weight=1.0, sure=0.45)) == []
    half = {tag: p / 2 for tag, p in HEARD.items()}  # what is left where only some languages are permitted
    assert candidates(half, writable, Rescoring(weight=1.0, sure=0.45)) == []
    assert candidates(HEARD, ["hi"], Rescoring(weight=1.0)) == [], "one alone has nobody to be compared with"
    assert candidates({}, writable, Rescoring(weight=1.0)) == []


def test_rescored_probabilities_are_those_computed_by_hand():
    options = Rescoring(weight=2.0, unknown=-0.4, temperature=1.5)
    found = rescored(HEARD, {"hi": -1.0, "pa": -0.2}, options)  # te was not tried and counts as hi
    weights = {
        "hi": (0.5 * math.exp(-2.0)) ** (1 / 1.5),
        "pa": (0.3 * math.exp(-0.4)) ** (1 / 1.5),
        "unknown": (0.15 * math.exp(-0.8)) ** (1 / 1.5),
        "te": (0.05 * math.exp(-2.0)) ** (1 / 1.5),
    }
    total = sum(weights.values())
    assert found == pytest.approx({tag: weight / total for tag, weight in weights.items()})
    assert list(found) == ["pa", "hi", "unknown", "te"], "most probable first"
    sure = rescored({"hi": 1.0, "pa": 0.0}, {"hi": -4.0, "pa": -0.1}, Rescoring(weight=20.0))
    assert sure["pa"] > 0.99, "no language is so improbable that its words cannot speak for it"


def test_surety_is_a_mean():
    assert surety([-0.5, -1.5, -1.0]) == pytest.approx(-1.0)
    assert surety([]) == 0.0


def test_parameters_that_cannot_be_are_refused():
    for wrong in ({"weight": -1.0}, {"weight": math.nan}, {"sure": 1.2}, {"most": 1}, {"temperature": 0.0}):
        with pytest.raises(ModelError, match=f"rescoring {next(iter(wrong))} is"):
            Rescoring(**wrong)


class Undecided:
    """Every language is as probable as every other."""

    languages = ("en", "hi", "te")

    def __call__(self, hidden, frames_only=False):
        B = hidden.values.shape[0]
        return LanguageProbabilities(self.languages, torch.full((B, 3), 1 / 3).log())


@pytest.fixture
def undecided(toy_folder, toy_store, monkeypatch):
    def made(**options):
        router = make(toy_folder, toy_store, monkeypatch, **options).sharing(classifier=Undecided())
        router.rescoring = Rescoring(weight=20.0, sure=1.0)
        return router

    return made


@pytest.fixture(scope="module")
def spoken():
    return [clip for clip in toy.clips(24, ("en", "hi", "te"), seed=17) if len(clip[1]) > 3]


def test_the_language_that_writes_most_surely_is_chosen(undecided, spoken):
    router = undecided()
    audio = [utterance.audio for utterance, _, _ in spoken]
    found = list(router.transcribe(audio))
    right = np.mean([t.language == language for t, (_, _, language) in zip(found, spoken, strict=True)])
    assert right > 0.55, "chance is one in three"
    for t in found:
        assert sum(t.probabilities.values()) == pytest.approx(1.0)
        assert t.language == max(t.probabilities, key=lambda tag: t.probabilities[tag])
        adapter = router.adapters.get(t.language)
        assert t.segments[0].weights == ({adapter: 1.0} if adapter else {})
    told = [router.transcribe(clip, language=t.language).text for clip, t in zip(audio, found, strict=True)]
    assert [t.text for t in found] == told


def test_a_batch_gives_what_each_clip_gives_alone_also_in_a_small_bank(undecided, spoken):
    audio = [utterance.audio for utterance, _, _ in spoken[:8]]
    router, small = undecided(), undecided(max_adapters=1)
    together = list(router.transcribe(audio, batch_size=8))
    for batched, clip in zip(together, audio, strict=True):
        for other in (router.transcribe(clip), small.transcribe(clip), small.transcribe(clip, beam_size=3)):
            assert other.language == batched.language
            assert other.probabilities == pytest.approx(batched.probabilities, abs=1e-4)


def test_who_is_told_or_sure_or_asked_not_to_is_heard_once(undecided, spoken):
    router = undecided()
    clip = spoken[0][0].audio
    thirds = dict.fromkeys(("en", "hi", "te"), pytest.approx(1 / 3))
    assert router.transcribe(clip, rescore=False).probabilities == thirds
    assert router.transcribe(clip, language="te").language == "te"
    assert router.transcribe(clip, languages=["hi"]).language == "hi"
    two = router.transcribe(clip, languages=["hi", "te"])
    assert two.language in ("hi", "te")
    assert two.probabilities["en"] == pytest.approx(1 / 3), "who may not speak is not heard again"
    router.rescoring = Rescoring(weight=20.0, sure=0.3)
    assert router.transcribe(clip).probabilities == thirds


class Halves(Undecided):
    """Frames that are sure of a change and of nothing else: the first half sounds like hi or te, the second like en or te,
    a little."""

    def __call__(self, hidden, frames_only=False):
        found = super().__call__(hidden)
        B, T, _ = hidden.values.shape
        frames = torch.tensor([0.02, 0.68, 0.3]).repeat(B, T, 1)
        for row, n in zip(frames, hidden.lengths.tolist(), strict=True):
            row[n // 2 :] = torch.tensor([0.68, 0.02, 0.3])
        return LanguageProbabilities(self.languages, found.log_probabilities, frames.log())


def test_stretches_are_heard_again_each_for_itself(toy_folder, toy_store, monkeypatch):
    """Two halves that sound like hi and en, and that te writes most surely, become one stretch, in te; those that hi and en write
    most surely stay. Which clips these are hangs on how the toy was trained, so each half is asked alone first."""
    from router.smoothing import Smoothing

    router = make(toy_folder, toy_store, monkeypatch).sharing(classifier=Halves())
    router.smoothing = Smoothing(cost=0.1, shortest_s=0.1, seam_s=0.0)
    rng = np.random.default_rng(4)

    def joined(*languages: str) -> np.ndarray:
        parts = [toy.clip(list(rng.integers(0, 8, 8)), language, rng)[0].audio for language in languages]
        length = min(map(len, parts))
        return np.concatenate([part[:length] for part in parts])

    def surest(half: np.ndarray, language: str) -> bool:
        """By more than the frames say for another: 0.05 x 60 nats, they lead by 0.8."""
        said = {
            tag: router.transcribe(half, language=tag, switching=False).segments[0].avg_logprob
            for tag in ("en", "hi", "te")
        }
        return said[language] > 0.05 + max(sure for tag, sure in said.items() if tag != language)

    def clear(*languages: str) -> list[np.ndarray]:
        made = [joined(*languages) for _ in range(80)]
        halves = [(audio[: len(audio) // 2], audio[len(audio) // 2 :]) for audio in made]
        return [a for a, two in zip(made, halves, strict=True) if all(map(surest, two, languages))]

    one, two = clear("te", "te"), clear("hi", "en")
    assert min(len(one), len(two)) >= 3
    plain = list(router.transcribe(one + two, switching=True))
    assert all([s.language for s in t.segments] == ["hi", "en"] for t in plain), "no weight: as the frames say"
    router.rescoring = Rescoring(weight=60.0, sure=1.0)
    found = list(router.transcribe(one + two, switching=True))
    assert sum([s.language for s in t.segments] == ["te"] for t in found[: len(one)]) >= 0.6 * len(one)
    assert sum([s.language for s in t.segments] == ["hi", "en"] for t in found[len(one) :]) >= 0.6 * len(two)
    for t in found:
        assert t.segments[0].start == 0.0
        assert t.segments[-1].end == pytest.approx(t.duration)
        for segment in t.segments:
            assert segment.weights == ({} if segment.language == "en" else {router.adapters[segment.language]: 1.0})
    again = list(router.transcribe(one + two, switching=True, rescore=False))
    assert [t.text for t in again] == [t.text for t in plain]


def test_the_parameters_lie_in_the_classifiers_config(toy_folder, toy_store, tmp_path, monkeypatch):
    from dataclasses import replace

    plain = TapClassifier.load(toy_store / "classifier")
    options = {"weight": 3.0, "unknown": -0.5, "sure": 0.9, "most": 4, "temperature": 1.2}
    config = replace(plain.config, rescoring={"options": options, "chosen_on": {}})
    TapClassifier(config, plain.head).save(tmp_path / "good")
    assert make(toy_folder, toy_store, monkeypatch, classifier=tmp_path / "good").rescoring == Rescoring(**options)
    TapClassifier(replace(config, rescoring={"options": {"wait": 1}}), plain.head).save(tmp_path / "bad")
    with pytest.raises(ModelError, match="boli train rescoring"):
        make(toy_folder, toy_store, monkeypatch, classifier=tmp_path / "bad")
