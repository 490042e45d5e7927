"""Clips that change language, through the whole way on the trained debug model."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from router.by_frame import overall, shared_out
from router.policies import Decision
from router.smoothing import Smoothing
from router.stretches import Spoken
from router.writers import write
from tests import toy
from tests.toy_router import make, switched
from zoo.errors import RoutingError
from zoo.interface import TimedWord


@pytest.fixture
def toy_router(toy_folder, toy_store, monkeypatch):
    return make(toy_folder, toy_store, monkeypatch)


@pytest.fixture(scope="module")
def mixed():
    return switched(8, seed=9, languages=("en", "hi", "te"))


def covered(transcript) -> None:
    """Segments follow each other without gap or overlap from start to end."""
    assert transcript.segments[0].start == 0.0
    assert transcript.segments[-1].end == pytest.approx(transcript.duration)
    for one, two in pairwise(transcript.segments):
        assert one.end == pytest.approx(two.start)


def test_each_segment_is_written_through_its_own_adapter(toy_router, mixed):
    right = 0
    for audio, segments in mixed:
        transcript = toy_router.transcribe(audio)  # on by itself
        covered(transcript)
        if [s.language for s in transcript.segments] != [language for *_, language, _ in segments]:
            continue
        assert transcript.segments[1].start == pytest.approx(segments[1][0], abs=0.16)
        for found, (_, _, language, text) in zip(transcript.segments, segments, strict=True):
            adapter = toy_router.adapters.get(language)
            assert found.weights == ({adapter: 1.0} if adapter else {})
            assert adapter or f"no adapter for {language}" in found.reason
            right += found.text == text
        assert transcript.text == " ".join(s.text for s in transcript.segments if s.text)
    assert right >= 6, "of 16; one language for the whole clip could write half of each at most"


def test_switching_writes_more_words_right_than_one_language(toy_router, mixed):
    def letters(**options) -> int:
        total = 0
        for audio, segments in mixed:
            written = toy_router.transcribe(audio, **options).text.replace(" ", "")
            total += sum(text in written for *_, text in segments)
        return total

    assert letters() >= letters(switching=False) + 4


def test_one_language_is_one_segment_and_as_without_switching(toy_router):
    for utterance, _, _ in toy.clips(6, ("en", "hi", "te"), seed=3):
        plain = toy_router.transcribe(utterance.audio, switching=False)
        for switching in (None, True):
            found = toy_router.transcribe(utterance.audio, switching=switching)
            assert len(found.segments) == 1
            assert (found.text, found.segments) == (plain.text, plain.segments)


def said(transcripts) -> list:
    return [[(s.start, s.end, s.language, s.text) for s in t.segments] for t in transcripts]


def test_where_nobody_says_so_the_most_probable_version_decides(toy_router, mixed):
    """Cuts are kept where no whole in one language is more probable, by the margin."""
    inputs = [audio for audio, _ in mixed] + [u.audio for u, _, _ in toy.clips(4, ("hi", "te"), seed=8)]
    sure = list(toy_router.transcribe(inputs, switching=True))
    never = list(toy_router.transcribe(inputs, switching=False))
    assert sum(len(t.segments) > 1 for t in sure) >= 6

    toy_router.smoothing = replace(toy_router.smoothing, shown=0.0, margin=1e9)
    assert said(toy_router.transcribe(inputs)) == said(sure)
    toy_router.smoothing = replace(toy_router.smoothing, margin=-1e9)
    whole = list(toy_router.transcribe(inputs))
    assert all(len(t.segments) == 1 for t in whole)
    assert said(whole[len(mixed) :]) == said(never[len(mixed) :])
    assert said(toy_router.transcribe(inputs, switching=True)) == said(sure), "told"

    toy_router.smoothing = replace(toy_router.smoothing, margin=0.0)
    found = list(toy_router.transcribe(inputs))
    assert [len(t.segments) > 1 for t in found].count(True) >= 3
    assert all(len(t.segments) == 1 for t in found[len(mixed) :])
    again = list(toy_router.transcribe(inputs, beam_size=2))
    assert [len(t.segments) > 1 for t in again].count(True) >= 3, "versions are compared as they are written"
    assert all(len(t.segments) == 1 for t in again[len(mixed) :])
    for audio, together in zip(inputs, found, strict=True):
        assert said([toy_router.transcribe(audio)]) == said([together])
    toy_router.smoothing = replace(toy_router.smoothing, margin=1e9, shown=1e9)
    assert all(len(t.segments) == 1 for t in toy_router.transcribe(inputs, rescore=False)), "`shown` decides"


def test_a_batch_of_switched_and_plain_clips_gives_what_each_gives_alone(toy_router, mixed):
    inputs = [audio for audio, _ in mixed[:4]] + [u.audio for u, _, _ in toy.clips(4, ("hi", "en"), seed=8)]
    inputs = [inputs[i] for i in (0, 4, 1, 5, 6, 2, 7, 3)]
    together = list(toy_router.transcribe(inputs, batch_size=8))
    alone = [toy_router.transcribe(audio) for audio in inputs]
    for one, other in zip(together, alone, strict=True):
        assert [(s.start, s.end, s.language, s.text) for s in one.segments] == [
            (s.start, s.end, s.language, s.text) for s in other.segments
        ]


def test_without_context_a_segment_is_the_cut_clip(toy_router, mixed):
    """Encoding the stretch with nothing around it and decoding all of it is transcribing it alone."""
    assert toy_router.smoothing.context_s == 0.0
    for audio, _ in mixed[:4]:
        for segment in toy_router.transcribe(audio).segments:
            part = audio[round(segment.start * 16_000) : round(segment.end * 16_000)]
            assert segment.text == toy_router.transcribe(part, language=segment.language).text


def test_with_context_a_segment_still_begins_and_ends_at_its_seams(toy_router, mixed):
    """The context is heard by the encoder alone: the segments' times do not move, and nothing is left out."""
    plain = [toy_router.transcribe(audio) for audio, _ in mixed[:4]]
    toy_router.smoothing = replace(toy_router.smoothing, context_s=0.2)
    around = [toy_router.transcribe(audio) for audio, _ in mixed[:4]]
    for one, other in zip(plain, around, strict=True):
        assert [(s.start, s.end, s.language) for s in one.segments] == [
            (s.start, s.end, s.language) for s in other.segments
        ]
        covered(other)
    assert [t.text for t in plain] != [t.text for t in around], "the encoder did hear it"


@pytest.mark.parametrize("policy", ["hard", "soft", "threshold", "hierarchical"])
def test_every_policy_and_both_strategies(toy_router, mixed, policy):
    audio, segments = mixed[0]
    for strategy in ("segments", "frames"):
        found = toy_router.transcribe(audio, policy=policy, strategy=strategy)
        covered(found)
        assert [s.language for s in found.segments] == [language for *_, language, _ in segments]
        assert all(s.reason.startswith(policy) for s in found.segments)


def test_frame_by_frame_the_mixture_changes_where_the_language_does(toy_router, mixed, monkeypatch):
    seen = []
    mixing = toy_router.bank.mixing
    monkeypatch.setattr(toy_router.bank, "mixing", lambda mixture: seen.append(mixture) or mixing(mixture))
    audio, segments = next(c for c in mixed if {s[2] for s in c[1]} == {"hi", "te"})
    found = toy_router.transcribe(audio, strategy="frames")
    (mixture,) = seen
    at = round(found.segments[1].start * 50)
    for frames, segment in ((mixture.frame_weights[0, :at], 0), (mixture.frame_weights[0, at:], 1)):
        own = mixture.names.index(toy_router.adapters[segments[segment][2]])
        assert (frames[:, own] == 1).all()
        assert frames.sum() == len(frames)
    assert mixture.weights.sum().item() == pytest.approx(1.0)
    together = "".join(s.text for s in found.segments).replace(" ", "")
    monkeypatch.undo()
    assert together, "the words were given to the segments"


def test_frames_that_all_have_one_mixture_are_that_mixture(toy_router):
    """The one pass by frame equals the plain pass where nothing changes."""
    from adapters.mixture import Mixture

    base, bank = toy_router.base, toy_router.bank
    utterance, _, _ = toy.clips(1, ("hi",), seed=4)[0]
    name = toy_router.adapters["hi"]
    with torch.inference_mode():
        features = base.features([utterance])
        with bank.mixing(Mixture.one_hot([name])):
            plain = base.encode(features).values
        with bank.mixing(Mixture((name,), torch.ones(1, 1), torch.ones(1, plain.shape[1], 1))):
            by_frame = base.encode(features).values
    assert torch.allclose(plain, by_frame, atol=1e-5)


def test_words_go_to_the_segment_of_their_middle_each_once():
    decision = Decision("hi", {"hi": 1.0}, "")
    heard = [Spoken(0, 50, {}, decision), Spoken(50, 60, {}, decision), Spoken(60, 100, {}, decision)]
    words = [TimedWord(str(i), t, t + 0.2, 1.0) for i, t in enumerate((0.0, 0.85, 0.95, 1.3, 1.15, 1.8))]
    groups = shared_out(words, heard, 0.02)
    assert [[w.word for w in group] for group in groups] == [["0", "1"], ["2"], ["3", "4", "5"]]


def test_where_the_mixture_cannot_change_languages_share_by_time():
    one = Spoken(0, 30, {}, Decision("hi", {"hi": 0.5, "te": 0.5}, ""))
    two = Spoken(30, 40, {}, Decision("en", {"en": 1.0}, ""))
    assert overall([one, two]) == Decision("hi", {"hi": 0.375, "te": 0.375, "en": 0.25}, "by time")


def test_a_stretch_of_a_fifth_of_a_second_at_the_end_is_not_lost(toy_router):
    toy_router.smoothing = Smoothing(cost=0.3, shortest_s=0.4, shown=0.2, context_s=0.2)
    rng = np.random.default_rng(0)
    first, _ = toy.clip([1, 2, 3, 4, 5], "hi", rng)
    last, _ = toy.clip([6, 7], "te", rng)
    audio = np.concatenate([first.audio, last.audio[: 16_000 * 28 // 100]])
    found = toy_router.transcribe(audio)
    assert [s.language for s in found.segments] == ["hi", "te"]
    assert found.segments[1].end - found.segments[1].start < 0.35
    covered(found)


def test_many_switches_and_long_audio_are_covered(toy_router):
    """A minute and more, some fifty switches, cut into chunks as well."""
    parts = [audio for audio, _ in switched(26, seed=12, parts=2)] * 2
    audio = np.concatenate(parts)
    found = toy_router.transcribe(audio, switching=True, max_tokens=8)
    assert found.duration > 45
    assert len(found.segments) >= 20
    covered(found)


def test_a_small_bank_takes_one_adapter_after_the_other(toy_folder, toy_store, monkeypatch, mixed):
    audio, _ = next(c for c in mixed if {s[2] for s in c[1]} == {"hi", "te"})
    wanted = make(toy_folder, toy_store, monkeypatch).transcribe(audio).text
    small = make(toy_folder, toy_store, monkeypatch, max_adapters=1)
    assert small.transcribe(audio).text == wanted
    assert len(small.bank.residents) == 1


def test_what_is_asked_for_rules(toy_router, mixed):
    audio, segments = mixed[0]
    languages = [language for *_, language, _ in segments]
    assert len(toy_router.transcribe(audio, switching=False).segments) == 1
    assert len(toy_router.transcribe(audio, language=languages[0]).segments) == 1
    assert len(toy_router.transcribe(audio, languages=[languages[0]]).segments) == 1
    assert len(toy_router.transcribe(audio, languages=languages).segments) == 2
    assert len(toy_router.transcribe(audio, switching=True, switch_cost=50.0).segments) == 1
    with pytest.raises(RoutingError, match="language or switching, not both"):
        toy_router.transcribe(audio, switching=True, language="hi")
    with pytest.raises(RoutingError, match=r"strategy is 'words'.*Valid: segments, frames"):
        toy_router.transcribe(audio, strategy="words")
    with pytest.raises(RoutingError, match=r"frames.*logits"):
        toy_router.transcribe(audio, strategy="frames", ensemble="logits")


def test_a_classifier_without_frames_cannot_switch(toy_folder, toy_store, monkeypatch, mixed):
    loaded = make(toy_folder, toy_store, monkeypatch, classifier="whisper")
    assert len(loaded.transcribe(mixed[0][0]).segments) == 1
    with pytest.raises(RoutingError, match=r"no frames.*boli train classifier"):
        loaded.transcribe(mixed[0][0], switching=True)


@pytest.mark.parametrize("timestamps", ["word", "segment"])
def test_times_count_from_the_recordings_start(toy_router, mixed, timestamps):
    for strategy in ("segments", "frames"):
        found = toy_router.transcribe(mixed[0][0], timestamps=timestamps, strategy=strategy)
        for one, two in pairwise(found.segments):
            assert one.start <= two.start
        assert all(0 <= s.start <= s.end <= found.duration + 0.05 for s in found.segments)
        words = [w for s in found.segments for w in s.words]
        assert all(a.start <= b.start + 1e-6 for a, b in pairwise(words))


def test_an_ensemble_of_distributions_also_writes_segments(toy_router, mixed):
    found = toy_router.transcribe(mixed[0][0], policy="soft", ensemble="logits")
    assert len(found.segments) == 2
    covered(found)


def test_formats_say_which_language(toy_router, mixed):
    audio, segments = mixed[0]
    found = toy_router.transcribe(audio)
    first, second = (language for *_, language, _ in segments)
    assert f"[{first}] " in write(found, "srt")
    assert f"<lang {second}>{found.segments[1].text}</lang>" in write(found, "vtt")
    assert [s["language"] for s in found.to_dict()["segments"]] == [first, second] == list(found.languages)
    alone = toy_router.transcribe(audio, switching=False)
    assert "[" not in write(alone, "srt")
    assert "<lang" not in write(alone, "vtt")


def test_posteriors_cover_the_recording(toy_router, mixed):
    found = toy_router.transcribe(mixed[0][0])
    assert sum(len(p.probabilities) for p in found.posteriors) == pytest.approx(found.duration * 50, abs=1)
    assert np.allclose(found.posteriors[0].probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert "posteriors" not in found.to_dict()
    assert found.timings["switch"] > 0
