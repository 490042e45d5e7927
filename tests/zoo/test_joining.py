"""Clips of several grids decoded together: each gets what it gets alone."""

from dataclasses import replace

import pytest
import torch

from tests import espnet_reference, toy, toy_owsm
from zoo.errors import ModelError
from zoo.interface import DecodeOptions
from zoo.joining import frames_seen, join, together

SEARCHES = {
    "greedy": DecodeOptions(),
    "beams": DecodeOptions(beam_size=3),
    "timestamps": DecodeOptions(timestamps=True),
    "beams, timestamps": DecodeOptions(beam_size=2, timestamps=True),
    "few tokens": DecodeOptions(max_tokens=4),
    "two beams of few tokens": DecodeOptions(beam_size=2, max_tokens=4),
}
OWSM_SEARCHES = {
    **SEARCHES,
    "joint": DecodeOptions(beam_size=3, ctc_weight=0.4),
    "joint, few tokens": DecodeOptions(beam_size=2, ctc_weight=0.4, max_tokens=3),
    "CTC prefixes": DecodeOptions(beam_size=3, ctc_weight=1.0),
    "best path": DecodeOptions(ctc_weight=1.0),
}


def heard(base):
    """Clips of at least three grids, shortest last but one, encoded one by one; and their languages."""
    clips = sorted(toy.clips(7, ("en", "hi", "te"), seed=5, longest=36), key=lambda clip: len(clip[0].audio))
    clips = [*clips[2:], clips[0], clips[1]]
    states = [base.encode(base.features([utterance])) for utterance, *_ in clips]
    assert len({one.values.shape[1] for one in states}) >= 3
    return states, [language for *_, language in clips]


def same(together_, alone) -> None:
    assert [h.tokens for h in together_] == [h.tokens for h in alone]
    assert any(h.tokens for h in alone)
    for one, other in zip(together_, alone, strict=True):
        assert one.text == other.text
        assert one.pieces == other.pieces
        assert one.goes_on_s == other.goes_on_s
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)
        assert one.token_log_probabilities == pytest.approx(other.token_log_probabilities, abs=1e-3)


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@torch.inference_mode()
def test_whisper_writes_what_it_writes_alone(toy_base, options):
    states, languages = heard(toy_base)
    alone = [toy_base.decode(one, [lang], options)[0] for one, lang in zip(states, languages, strict=True)]
    same(toy_base.decode(join(states), languages, options), alone)


@pytest.mark.parametrize("options", OWSM_SEARCHES.values(), ids=OWSM_SEARCHES)
@torch.inference_mode()
def test_owsm_writes_what_it_writes_alone(options):
    base = espnet_reference.loaded(toy_owsm.folder(), context="dynamic")
    states, languages = heard(base)
    alone = [base.decode(one, [lang], options)[0] for one, lang in zip(states, languages, strict=True)]
    same(base.decode(join(states), languages, options), alone)


@pytest.mark.parametrize("family", ["whisper", "owsm"])
@torch.inference_mode()
def test_each_clip_has_its_own_limit_its_words_their_times_and_its_language(family, toy_base):
    base = toy_base if family == "whisper" else espnet_reference.loaded(toy_owsm.folder(), context="dynamic")
    states, languages = heard(base)
    limits = tuple(range(1, len(states) + 1))
    for beams in (1, 2):
        alone = [
            base.decode(one, [lang], DecodeOptions(beams, max_tokens=limit))[0]
            for one, lang, limit in zip(states, languages, limits, strict=True)
        ]
        found = base.decode(join(states), languages, DecodeOptions(beams, max_tokens=limits))
        same(found, alone)
        assert len({len(h.tokens) for h in found}) > 2
    words = base.align_words(join(states), found)
    one_by_one = [base.align_words(one, [h])[0] for one, h in zip(states, found, strict=True)]
    assert any(words)
    assert [len(row) for row in words] == [len(row) for row in one_by_one]
    for row, own in zip(words, one_by_one, strict=True):
        for word, other in zip(row, own, strict=True):
            assert word == replace(other, probability=pytest.approx(other.probability, abs=1e-3))
    detected = torch.cat([base.detect_language(one) for one in states])
    torch.testing.assert_close(base.detect_language(join(states)), detected, atol=1e-4, rtol=0)
    with pytest.raises(ModelError, match="max_tokens are 2 numbers for 7 clips"):
        base.decode(join(states), languages, DecodeOptions(max_tokens=(3, 4)))


@torch.inference_mode()
def test_members_of_an_ensemble_may_be_joined(toy_base):
    states, _ = heard(toy_base)
    pairs = [one.rows(torch.tensor([0, 0])) for one in states]
    weights = torch.tensor([[0.7, 0.3]] * len(states))
    alone = [toy_base.decode_ensemble(two, ["hi", "te"], row[None])[0] for two, row in zip(pairs, weights, strict=True)]
    same(toy_base.decode_ensemble(join(pairs), ["hi", "te"] * len(states), weights), alone)


@torch.inference_mode()
def test_nobody_sees_what_a_clip_was_filled_up_with(toy_base):
    states, languages = heard(toy_base)
    joined = join(states)
    seen = frames_seen(joined)
    assert seen.tolist() == [one.values.shape[1] for one in states]
    assert torch.equal(frames_seen(states[0]), seen[:1])
    assert join(states[:1]) is states[0]
    filled = torch.arange(joined.values.shape[1]) >= seen[:, None]
    assert filled.any()
    assert not joined.values[filled].any()
    loud = replace(joined, values=joined.values.masked_fill(filled[:, :, None], 50.0))
    same(toy_base.decode(loud, languages), toy_base.decode(joined, languages))
    same(toy_base.decode(join([join(states[:3]), join(states[3:])]), languages), toy_base.decode(joined, languages))


@torch.inference_mode()
def test_states_of_different_layers_are_not_joined(toy_base):
    utterance = toy.clips(1, ("en",), seed=1)[0][0]
    features = toy_base.features([utterance])
    with pytest.raises(ModelError, match=r"after layers \[1, \d\] cannot be joined"):
        join([toy_base.encode(features, until=1), toy_base.encode(features)])


def test_who_is_decoded_together():
    assert together([50, 200, 100, 100], most=16, spare=1000) == [[1, 2, 3, 0]]
    assert together([50, 200, 100, 100], most=3, spare=1000) == [[1, 2, 3], [0]]
    # 100 + 100 frames are filled up for the two of 100; the third would make it 350
    assert together([50, 200, 100, 100], most=16, spare=200) == [[1, 2, 3], [0]]
    assert together([50, 200, 100, 100], most=16, spare=199) == [[1, 2], [3, 0]]
    assert together([50, 200, 100, 100], most=16, spare=0) == [[1], [2, 3], [0]]
    assert together([], most=4, spare=10) == []


def test_what_filling_up_may_cost(toy_base):
    """As many frames as have keys and values of the size of the decoder's weights."""
    decoder = toy_base.module.model.decoder
    linears = sum(m.weight.numel() for m in decoder.modules() if isinstance(m, torch.nn.Linear))
    width, layers = toy_base.hidden_size, len(decoder.layers)
    expected = (linears + decoder.embed_tokens.weight.numel()) // (2 * width * layers)
    assert toy_base.spare_frames == expected > 100
