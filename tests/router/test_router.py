"""The whole way on the trained debug model: audio, classifier, mixture, decoder, transcript."""

import threading
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import router
from adapters.store import Store
from tests import toy
from tests.toy_router import TAP, make
from zoo.errors import AudioError, RoutingError
from zoo.manager import cards
from zoo.speech import Utterance


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


@pytest.mark.parametrize(
    "options",
    [{}, {"policy": "soft"}, {"beam_size": 2}, {"timestamps": "word"}, {"ensemble": "logits"}],
    ids=str,
)
def test_clips_of_all_lengths_are_written_together_as_each_alone(toy_router, options, monkeypatch):
    """Encoded grid by grid, decoded at once: a step costs the same for two clips as for eight."""
    audio = [u.audio for u, _, _ in toy.clips(9, ("en", "hi", "te", "it"), seed=31, longest=36)]
    grids = {toy_router.base.grid_s(Utterance(a)) for a in audio}
    alone = [toy_router.transcribe(a, switching=False, **options) for a in audio]
    decodes = []
    for name in ("decode", "decode_ensemble"):
        plain = getattr(toy_router.base, name)

        def counted(*arguments, plain=plain):
            decodes.append(len(arguments[1]))
            return plain(*arguments)

        monkeypatch.setattr(toy_router.base, name, counted)
    together = list(toy_router.transcribe(audio, batch_size=9, switching=False, **options))
    assert len(grids) >= 3
    assert len(decodes) == 1
    assert any(t.text for t in alone)
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.language) == (other.text, other.language)
        for segment, own in zip(one.segments, other.segments, strict=True):
            assert (segment.start, segment.end, segment.tokens) == (own.start, own.end, own.tokens)
            assert segment.weights == pytest.approx(own.weights, abs=1e-4)
            assert [(w.word, w.start, w.end) for w in segment.words] == [(w.word, w.start, w.end) for w in own.words]


def test_an_adapter_below_the_tap_still_equals_the_forced_path(toy_router):
    """The routed way continues from the tap or from the lowest adapted layer; the forced way encodes once under the
    mixture. Both are the same function."""
    assert min(toy_router.lowest_layers.values()) < TAP
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


def test_a_base_hears_no_more_at_once_than_it_was_taught(toy_router):
    """Its card says how long the longest clips were, its encoder takes more."""
    parts = [u.audio for u, _, _ in clips(20, ("en",), seed=12)]
    whole = np.concatenate(parts)
    assert toy_router.longest_s == toy_router.base.max_duration_s == 30
    passed = []
    taught = copy(toy_router.base)
    taught.card = replace(taught.card, longest_s=5.0)
    taught.features = lambda us: passed.extend(u.duration_s for u in us) or type(taught).features(taught, us)
    router = toy_router.sharing()
    router.base = taught
    transcript = router.transcribe(whole, switching=False)  # a segment would be encoded once more
    assert router.longest_s == 5 >= max(passed)
    assert sum(passed) == pytest.approx(len(whole) / 16_000) == transcript.segments[-1].end


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
    for wrong in ({"polcy": "hard"}, {"vad": "ears"}, {"beam_size": 0}, {"ensemble": "mean"}, {"timestamps": "all"}):
        with pytest.raises(RoutingError, match="Valid:"):
            router.load("a model that is not even looked for", **wrong)
    results = list(toy_router.transcribe([text_file, utterance.audio], on_error="return"))
    assert isinstance(results[0], AudioError)
    assert results[1].text == wanted


def test_what_no_adapter_serves_is_said(toy_router):
    for utterance, _, _ in clips(6, ("it",), seed=8):
        segment = toy_router.transcribe(utterance.audio).segments[0]
        if segment.language == "it":
            assert segment.weights == {}
            assert segment.reason.endswith("no adapter for it: the base alone")
    soft = [
        toy_router.transcribe(u.audio, policy="soft", languages=["hi", "it"]).segments[0]
        for u, _, _ in clips(3, ("hi",), seed=8)
    ]
    assert all("no adapter for it: their share is the base's" in s.reason or "it" not in s.reason for s in soft)


def test_an_unknown_language_is_the_base_alone_under_its_own_token(toy_router, monkeypatch):
    """The classifier says `unknown`; the base detects which token to write under, and no adapter takes part."""
    from dataclasses import replace

    made = clips(6, ("it", "te"), seed=14)
    forced = [toy_router.sharing(fleet={}).transcribe(u.audio, language=lang).text for u, _, lang in made]
    heard = toy_router.classifier

    class Unsure:
        languages = ("unknown", "en")

        def __call__(self, hidden):
            found = heard(hidden)
            log = torch.tensor([[0.9, 0.1]]).log().expand(len(found.log_probabilities), 2)
            return replace(found, languages=self.languages, log_probabilities=log, frames=None)

    unsure = toy_router.sharing(classifier=Unsure())
    found = list(unsure.transcribe([u.audio for u, _, _ in made]))
    assert {t.language for t in found} == {"unknown"}
    assert all(t.segments[0].weights == {} for t in found)
    assert found[0].segments[0].reason == "unknown p=0.90: the base alone"
    assert sum(t.text == text for t, text in zip(found, forced, strict=True)) >= 5


def test_an_ensemble_of_one_is_that_one(toy_router):
    made = clips(8, ("hi", "te", "en"), seed=19)
    audio = [u.audio for u, _, _ in made]
    for options in ({}, {"beam_size": 3}):
        alone = [t.text for t in toy_router.transcribe(audio, **options)]
        together = [t.text for t in toy_router.transcribe(audio, ensemble="logits", **options)]
        assert together == alone


def test_an_ensemble_averages_distributions(toy_router):
    """Against the sum written out by hand: at each step the members' probabilities, each under its own adapter and
    language token, weighted by the decision's shares."""
    utterance = clips(1, ("hi",), seed=23)[0][0]
    router = toy_router.sharing(policy="soft", languages=("hi", "te"))
    router = router.sharing(classifier=Even(("hi", "te")))
    written = router.transcribe(utterance.audio, ensemble="logits", max_tokens=4).segments[0].tokens
    base, bank = router.base, router.bank
    from adapters.mixture import Mixture

    tokens: list[int] = []
    with torch.inference_mode():
        features = base.features([utterance])
        for _ in range(4):
            mixed = 0
            for language, share in (("hi", 0.6), ("te", 0.4)):
                with bank.mixing(Mixture.one_hot([router.adapters[language]])):
                    hidden = base.encode(features).values
                    prompt = torch.cat([base.prompt([language]), torch.tensor([tokens], dtype=torch.long)], dim=1)
                    out = base.module.model.decoder(input_ids=prompt, encoder_hidden_states=hidden, use_cache=False)
                    mixed += share * base.module.proj_out(out.last_hidden_state[:, -1]).softmax(dim=-1)
            tokens.append(int(mixed.argmax()))
            if tokens[-1] == base.end_token:
                break
    assert list(written) == [token for token in tokens if token != base.end_token]


class Even:
    """A classifier that always says 0.6 and 0.4."""

    def __init__(self, languages):
        self.languages = languages

    def __call__(self, hidden):
        from router.classifier import LanguageProbabilities

        log = torch.tensor([[0.6, 0.4]]).log().expand(len(hidden.values), 2)
        return LanguageProbabilities(self.languages, log)


def test_words_lie_where_their_tones_lie(toy_router):
    """Toy letters last 90 ms each. They are written without spaces, so one word holds them all; what is checked is that
    the tokens begin in order, near their tones."""
    from zoo.interface import DecodeOptions
    from zoo.whisper_words import align

    made = [c for c in clips(40, ("en",), seed=33) if len(c[1]) >= 5]
    errors = []
    for utterance, text, _ in made[:12]:
        transcript = toy_router.transcribe(utterance.audio, language="en", timestamps="word")
        segment = transcript.segments[0]
        assert "".join(word.word for word in segment.words).strip() == transcript.text
        assert 0 <= segment.start <= segment.end <= transcript.duration
        base = toy_router.base
        hidden = base.encode(base.features([utterance]))
        hypothesis = base.decode(hidden, ["en"], DecodeOptions())[0]
        if hypothesis.text != text:
            continue
        words = align(base, hidden, base.prompt(["en"]), [hypothesis])[0]
        errors.append(abs(words[-1].end_s - (utterance.duration_s - 0.06)))
    assert np.median(errors) < 0.35


def test_timed_words_make_subtitles():
    from router.assembling import sentences
    from zoo.interface import TimedWord

    said = [(" One", 0.0, 0.4), (" two.", 0.4, 0.9), (" Three", 1.0, 1.3), (" four", 2.5, 3.0), (" five", 3.0, 11.0)]
    groups = sentences([TimedWord(word, start, end, 0.9, (1,)) for word, start, end in said], 10.0, 12.0)
    assert ["".join(w.word for w in words) for words, _ in groups] == [" One two.", " Three", " four", " five"]
    assert groups[0][0][0].start == 10.0
    assert [len(tokens) for _, tokens in groups] == [2, 1, 1, 1]


def test_an_iterator_is_read_as_it_is_needed(toy_router):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield clips(1, ("hi",), seed=len(taken))[0][0].audio

    found = toy_router.transcribe(endless(), batch_size=2)
    first = next(found)
    assert first.text
    assert len(taken) <= 8
    found.close()


def test_what_stood_before_a_bad_input_is_given_out(toy_router, tmp_path, capsys):
    good = clips(1, ("hi",), seed=2)[0][0].audio
    found = toy_router.transcribe([good, good, tmp_path / "gone.wav", good], progress=True)
    assert next(found).text == next(found).text
    with pytest.raises(AudioError, match="does not exist"):
        next(found)
    assert "recording" in capsys.readouterr().err
    with pytest.raises(AudioError, match=r"input is a int.*Valid: a path, bytes"):
        toy_router.transcribe(5)


def test_the_card_says_how_many_beams_a_search_has(toy_folder, toy_store, monkeypatch):
    import zoo

    of_card = zoo.load

    def with_three(*args, **settings):
        base = of_card(*args, **settings)
        base.card = replace(base.card, beam_size=3)
        return base

    monkeypatch.setattr(zoo, "load", with_three)
    load = router.load
    assert load(str(toy_folder), toy_store, "whisper").options.beam_size == 3
    assert load(str(toy_folder), toy_store, "whisper", beam_size=1).options.beam_size == 1
    with pytest.raises(RoutingError, match="beam_size is 0"):
        load(str(toy_folder), toy_store, "whisper", beam_size=0)


def test_the_embedded_model_is_searched_with_beams():
    assert router.load().options.beam_size == cards()["boli-embedded"].beam_size > 1


def test_the_context_is_the_one_the_adapters_were_trained_in(toy_folder, toy_store, tmp_path, monkeypatch):
    """The card's is 30 s; all adapters of the store were trained on clips as long as they are."""
    from zoo.errors import AdapterError
    from zoo.whisper_family import family

    card = family.card(toy_folder, "toy")
    monkeypatch.setattr(
        "zoo.load", lambda name, **settings: family.load(toy_folder, card, **{"device": "cpu", **settings})
    )
    assert card.context == "30s"
    assert router.load("toy", toy_store).base.context == "dynamic"
    with pytest.raises(AdapterError, match=r"trained in context dynamic.*context='dynamic'"):
        router.load("toy", toy_store, context="30s")
    assert router.load("toy", Store(tmp_path / "empty", create=True).folder, classifier="whisper").base.context == "30s"
