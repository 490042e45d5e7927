"""The whole way on the trained debug model: audio, classifier, mixture, decoder, transcript."""

import threading

import numpy as np
import pytest
import torch

from tests import toy
from tests.toy_router import TAP, make
from zoo.errors import AudioError, RoutingError


@pytest.fixture
def toy_router(toy_folder, toy_store, monkeypatch):
    return make(toy_folder, toy_store, monkeypatch)


def clips(count, languages, seed):
    return [c for c in toy.clips(count, languages, seed)]


def test_each_clip_goes_through_its_own_adapter(toy_router):
    made = clips(24, ("en", "hi", "te"), seed=77)
    right = 0
    for transcript, (_, text, language) in zip(toy_router.transcribe([u.audio for u, _, _ in made]), made, strict=True):
        if transcript.language == language:
            expected = {"en": {}, "hi": {toy_router.adapters["hi"]: 1.0}, "te": {toy_router.adapters["te"]: 1.0}}[
                language
            ]
            assert transcript.segments[0].weights == expected
            assert transcript.segments[0].reason.startswith(f"hard: {language}")
        right += transcript.language == language and transcript.text == text
    assert right >= 12, "without adapters only the English third can be right"


def test_adapters_repair_what_the_base_cannot_write(toy_router):
    made = clips(12, ("hi",), seed=5)
    audio = [u.audio for u, _, _ in made]
    with_adapter = sum(
        t.text == text for t, (_, text, _) in zip(toy_router.transcribe(audio, language="hi"), made, strict=True)
    )
    toy_router.adapters = {}
    alone = sum(
        t.text == text for t, (_, text, _) in zip(toy_router.transcribe(audio, language="hi"), made, strict=True)
    )
    assert with_adapter >= alone + 4


@pytest.mark.parametrize("policy", ["hard", "soft", "threshold", "hierarchical"])
def test_every_policy_batched_equals_one_by_one(toy_router, policy):
    made = clips(9, ("en", "hi", "te", "it"), seed=31)
    audio = [u.audio for u, _, _ in made]
    together = [t.text for t in toy_router.transcribe(audio, policy=policy, batch_size=9)]
    assert together == [toy_router.transcribe(a, policy=policy).text for a in audio]


def test_an_adapter_below_the_tap_still_equals_the_forced_path(toy_router):
    """The routed way continues from the tap or from the lowest adapted layer; the forced way encodes once under the
    mixture. Both are the same function."""
    assert min(toy_router._lowest.values()) < TAP
    for utterance, _, _ in clips(8, ("hi", "te"), seed=61):
        routed = toy_router.transcribe(utterance.audio)
        if routed.language in toy_router.adapters:
            assert routed.text == toy_router.transcribe(utterance.audio, language=routed.language).text


def test_inputs_of_every_kind_give_the_same(toy_router, tmp_path):
    import io

    import soundfile

    utterance, _, _ = clips(1, ("hi",), seed=4)[0]
    path = tmp_path / "clip.wav"
    soundfile.write(path, utterance.audio, 16_000, subtype="FLOAT")
    texts = {
        toy_router.transcribe(item).text
        for item in (
            str(path),
            path,
            path.read_bytes(),
            io.BytesIO(path.read_bytes()),
            utterance.audio,
            torch.from_numpy(utterance.audio),
        )
    }
    assert len(texts) == 1


def test_long_audio_is_cut_and_nothing_is_dropped(toy_router):
    parts = [u.audio for u, _, _ in clips(60, ("en",), seed=12)]
    whole = np.concatenate(parts)
    transcript = toy_router.transcribe(whole)
    assert len(transcript.segments) >= 2
    assert transcript.segments[0].start == 0.0
    assert transcript.segments[-1].end == pytest.approx(len(whole) / 16_000)
    for before, after in zip(transcript.segments, transcript.segments[1:], strict=False):
        assert before.end == pytest.approx(after.start)


def test_silence_is_an_empty_transcript(toy_router):
    transcript = toy_router.transcribe(np.zeros(16_000, np.float32))
    assert (transcript.text, transcript.segments, transcript.language) == ("", (), "unknown")


def test_a_small_bank_splits_the_batch(toy_folder, toy_store, monkeypatch):
    small = make(toy_folder, toy_store, monkeypatch, max_adapters=1)
    large = make(toy_folder, toy_store, monkeypatch)
    audio = [u.audio for u, _, _ in clips(10, ("hi", "te"), seed=9)]
    assert [t.text for t in small.transcribe(audio)] == [t.text for t in large.transcribe(audio)]
    assert len(small.bank.residents) == 1


def test_many_threads_share_one_router(toy_router):
    made = clips(6, ("en", "hi", "te"), seed=3)
    wanted = [toy_router.transcribe(u.audio).text for u, _, _ in made]
    wrong = []

    def work():
        for (utterance, _, _), text in zip(made, wanted, strict=True):
            if toy_router.transcribe(utterance.audio).text != text:
                wrong.append(utterance.id)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_errors_say_what_is_valid_and_the_next_call_works(toy_router, tmp_path):
    utterance = clips(1, ("en",), seed=2)[0][0]
    wanted = toy_router.transcribe(utterance.audio).text
    text_file = tmp_path / "notes.wav"
    text_file.write_text("not audio at all\n" * 50)
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    bad = {
        "does not exist": tmp_path / "missing.wav",
        "is an empty file": empty,
        "is not audio that can be read": text_file,
        "is a folder": tmp_path,
        "NaN or infinite": np.full(1000, np.nan, np.float32),
        "holds no samples": np.zeros(0, np.float32),
        "has shape": np.zeros((2, 2, 2), np.float32),
    }
    for message, item in bad.items():
        with pytest.raises(AudioError, match=message):
            toy_router.transcribe(item)
        assert toy_router.transcribe(utterance.audio).text == wanted
    with pytest.raises(RoutingError, match=r"Language 'xx' is known neither.*en, hi, it, pa, te"):
        toy_router.transcribe(utterance.audio, language="xx")
    with pytest.raises(RoutingError, match=r"no options \['polcy'\].*policy"):
        toy_router.transcribe(utterance.audio, polcy="hard")
    with pytest.raises(RoutingError, match="hard, soft, threshold, hierarchical"):
        toy_router.transcribe(utterance.audio, policy="best")
    results = list(toy_router.transcribe([text_file, utterance.audio], on_error="return"))
    assert isinstance(results[0], AudioError)
    assert results[1].text == wanted
