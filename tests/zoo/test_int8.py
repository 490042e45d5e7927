"""A base held in int8: each row's own scale, close to fp32, and nothing that a batch mate could change."""

import pytest
import torch

from tests import toy
from zoo import int8
from zoo.errors import ModelError
from zoo.interface import DecodeOptions
from zoo.whisper_family import family

pytestmark = pytest.mark.skipif(not int8.available(), reason="torch without FBGEMM")


@pytest.fixture(scope="module")
def held(toy_folder):
    return family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic", quantize="int8")


def rounded(x, levels):
    """x and the scale of each row, by hand."""
    size = x.abs().amax(dim=-1, keepdim=True)
    return ((x / size * levels + 128).round() - 128) / levels * size


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 3 * int8.BLOCK_ROWS + 5])
def test_the_product_is_that_of_the_rounded_numbers(rows, bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(48, 32, bias=bias)
    layer = int8.Int8Linear(linear)
    x = torch.randn(rows, 48) * torch.logspace(-3, 3, rows)[:, None]
    scale = linear.weight.abs().amax(dim=1, keepdim=True) / 127
    weight = (linear.weight / scale).round() * scale
    wanted = torch.nn.functional.linear(rounded(x, layer.levels), weight, linear.bias)
    with torch.inference_mode():
        got = layer(x[None])[0]
    off = (got - wanted).abs().amax(dim=1) / wanted.abs().amax(dim=1)
    assert off.max() < 0.02  # one step of one input, where a value lies between two
    assert (off < 1e-5).float().mean() > 0.99


def test_a_row_of_zeros_is_the_bias():
    linear = torch.nn.Linear(16, 8)
    with torch.inference_mode():
        assert torch.equal(int8.Int8Linear(linear)(torch.zeros(2, 3, 16)), linear.bias.expand(2, 3, 8))


def test_a_row_does_not_feel_its_batch(held):
    """Bit by bit, beside a row a thousand times louder."""
    layer = held.module.model.encoder.layers[0].fc1
    x = torch.randn(3, 50, layer.in_features)
    loud = x.clone()
    loud[1:] *= 1000
    with torch.inference_mode():
        assert torch.equal(layer(x)[0], layer(loud)[0])
        assert torch.equal(layer(x)[0], layer(x[:1])[0])


def test_it_writes_what_fp32_writes(held, toy_base):
    assert held.quantization == "int8"
    assert not any(
        isinstance(child, int8.Int8Linear) for child in held.module.model.decoder.layers[0].self_attn.children()
    )
    chosen = [clip for clip in toy.clips(40, ("en", "hi", "te"), seed=11) if held.grid_s(clip[0]) == 1.0]
    utterances, languages = [u for u, _, _ in chosen], [lang for _, _, lang in chosen]

    def written(base):
        hidden = base.encode(base.features(utterances))
        return [h.tokens for h in base.decode(hidden, languages, DecodeOptions())]

    with torch.inference_mode():
        ours, theirs = written(held), written(toy_base)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert same >= 0.8 * len(chosen)


def test_where_it_cannot_be_is_said(toy_folder):
    with pytest.raises(ModelError, match=r"int8 on cpu in bfloat16.*quantize='8bit' or 'nf4' on a GPU"):
        family.load(toy_folder, family.card(toy_folder, "debug"), dtype="bfloat16", quantize="int8")
    with pytest.raises(ModelError, match=r"quantize 'int9' is unknown.*'8bit', 'nf4', 'int8'"):
        family.load(toy_folder, family.card(toy_folder, "debug"), quantize="int9")
