"""Properties of the bank that hold for any mixture, ranks, order of rows, evictions and failures in mid-call."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.bank import Bank, BankFull
from adapters.mixture import Mixture
from adapters.peft_files import LoraSite, LoraWeights
from tests import toy
from zoo.errors import BoliError
from zoo.interface import DecodeOptions
from zoo.joining import join
from zoo.speech import Utterance
from zoo.whisper_family import family

NAMES = ("a", "b", "c", "d", "e")
KINDS = {
    "a": ("q_proj", "v_proj"),
    "b": ("fc1", "fc2"),
    "c": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "d": ("v_proj",),
    "e": ("q_proj", "fc2"),
}
RANKS = {"a": 4, "b": 1, "c": 7, "d": 16, "e": 3}
EXAMPLES = settings(
    max_examples=25, deadline=None, print_blob=False, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random_adapter(base, name, part=None):
    generator = torch.Generator().manual_seed(NAMES.index(name))
    return LoraWeights(
        {
            site.name: LoraSite(
                0.3 * torch.randn(RANKS[name], site.in_features, generator=generator),
                0.3 * torch.randn(site.out_features, RANKS[name], generator=generator),
                0.5,
            )
            for site in base.sites
            if site.kind in KINDS[name] and part in (None, site.part)
        },
        name=name,
    )


@pytest.fixture(scope="module")
def weights(toy_folder):
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    return {name: random_adapter(base, name) for name in NAMES}


@pytest.fixture(scope="module")
def doubled(toy_folder, weights):
    """Base and bank in fp64, where only a wrong formula can differ, and not the order of a sum."""
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    base.module.double()
    bank = Bank(base, dtype=torch.float64)
    for name in NAMES:
        bank.load(name, weights[name])
    return bank


@pytest.fixture(scope="module")
def clips(toy_folder):
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    return [c for c in toy.clips(30, ("en", "hi", "te"), seed=40) if base.grid_s(c[0]) == 1.0][:5]


def logits(bank, clips, mixture):
    base = bank.base
    features = base.features([u for u, _, _ in clips])
    labels = base.labels([t for _, t, _ in clips], [lang for _, _, lang in clips])
    with torch.inference_mode(), bank.mixing(mixture):
        return base.logits(features, labels)


def merged_logits(base, weights, row, clip):
    """The definition: the update added to each frozen weight, one clip, one pass."""
    changed = {}
    with torch.no_grad():
        for name, share in row.items():  # a mixture holds fp32 shares
            for site, pair in weights[name].sites.items():
                linear = base.module.get_submodule(site).base
                changed.setdefault(site, linear.weight.clone())
                linear.weight += (float(torch.tensor(share)) * pair.scale * (pair.B.double() @ pair.A.double())).to(
                    linear.weight
                )
        try:
            features = base.features([clip[0]])
            return base.logits(features, base.labels([clip[1]], [clip[2]]))[0]
        finally:
            for site, weight in changed.items():
                base.module.get_submodule(site).base.weight.copy_(weight)


rows_strategy = st.lists(
    st.dictionaries(
        st.sampled_from(NAMES), st.floats(-1.5, 1.5, allow_nan=False).filter(lambda w: abs(w) > 1e-3), max_size=4
    ),
    min_size=5,
    max_size=5,
)


@EXAMPLES
@given(rows=rows_strategy)
def test_any_mixture_is_the_merged_model_of_each_row(doubled, weights, clips, rows):
    together = logits(doubled, clips, Mixture.from_rows(rows))
    for i, row in enumerate(rows):
        wanted = merged_logits(doubled.base, weights, row, clips[i])
        torch.testing.assert_close(together[i, : len(wanted)], wanted, atol=1e-9, rtol=1e-9)


@EXAMPLES
@given(rows=rows_strategy, order=st.permutations(range(5)))
def test_the_order_of_rows_changes_nothing(doubled, clips, rows, order):
    straight = logits(doubled, clips, Mixture.from_rows(rows))
    turned = logits(doubled, [clips[i] for i in order], Mixture.from_rows([rows[i] for i in order]))
    for new, old in enumerate(order):
        n = doubled.base.labels([clips[old][1]], [clips[old][2]]).shape[1]
        torch.testing.assert_close(turned[new, :n], straight[old, :n], atol=1e-9, rtol=1e-9)


@EXAMPLES
@given(rows=rows_strategy, beam=st.sampled_from([1, 3]))
def test_decoding_together_is_decoding_alone(doubled, clips, rows, beam):
    base, options = doubled.base, DecodeOptions(beam_size=beam, max_tokens=14)

    def decoded(chosen, mixture):
        with torch.inference_mode(), doubled.mixing(mixture):
            hidden = base.encode(base.features([u for u, _, _ in chosen]))
            return [h.tokens for h in base.decode(hidden, [lang for _, _, lang in chosen], options)]

    together = decoded(clips, Mixture.from_rows(rows))
    assert together == [decoded([clip], Mixture.from_rows([row]))[0] for clip, row in zip(clips, rows, strict=True)]


@EXAMPLES
@given(rows=rows_strategy, seconds=st.lists(st.integers(1, 4), min_size=5, max_size=5), beam=st.sampled_from([1, 3]))
def test_clips_of_any_lengths_are_decoded_together_each_under_its_own_mixture(doubled, clips, rows, seconds, beam):
    base, options = doubled.base, DecodeOptions(beam_size=beam, max_tokens=14)
    mixture = Mixture.from_rows(rows)
    padded = [
        Utterance(np.pad(u.audio, (0, s * 16_000 - len(u.audio)))) for (u, _, _), s in zip(clips, seconds, strict=True)
    ]
    languages = [language for _, _, language in clips]
    with torch.inference_mode(), doubled.mixing(mixture):
        states = []
        for i, utterance in enumerate(padded):
            with doubled.mixing(mixture.rows(slice(i, i + 1))):
                states.append(base.encode(base.features([utterance])))
        together = [h.tokens for h in base.decode(join(states), languages, options)]
    for i, utterance in enumerate(padded):
        with torch.inference_mode(), doubled.mixing(Mixture.from_rows([rows[i]])):
            (alone,) = base.decode(base.encode(base.features([utterance])), languages[i : i + 1], options)
        assert together[i] == alone.tokens


@EXAMPLES
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["load", "evict", "call", "fail", "nested"]), st.sampled_from(NAMES)), max_size=12
    )
)
def test_loads_evictions_and_failures_leave_the_bank_right(toy_folder_bank, weights, clips, steps):
    """Whatever happened before, the next call is the call of a fresh bank; leases and limits hold."""
    bank, alone = toy_folder_bank
    for action, name in steps:
        one = Mixture.one_hot([name] * 2)
        try:
            if action == "load":
                bank.load(name, weights[name])
            elif action == "evict":
                bank.evict(name)
            elif action == "call":
                torch.testing.assert_close(logits(bank, clips[:2], one), alone[name], atol=1e-4, rtol=1e-4)
            elif action == "nested":
                with bank.mixing(one):
                    other = NAMES[(NAMES.index(name) + 1) % len(NAMES)]
                    torch.testing.assert_close(
                        logits(bank, clips[:2], Mixture.one_hot([other] * 2)), alone[other], atol=1e-4, rtol=1e-4
                    )
            else:
                with bank.mixing(one):
                    raise KeyError("in mid-call")
        except BankFull:
            pass  # two places, and both may be leased
        except BoliError:
            if action != "evict":  # evicting what is not there is the one other thing that may be refused
                raise
        except KeyError:
            pass  # the failure in mid-call
        assert len(bank.residents) <= 2
        assert bank._leases.total() == 0
        assert bank._call.get() is None


@pytest.fixture(scope="module")
def toy_folder_bank(toy_folder, weights, clips):
    """A bank of two places that can ask for any adapter, and what each adapter alone must give."""
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    bank = Bank(base, lambda name: weights[name], max_adapters=2)
    return bank, {name: logits(bank, clips[:2], Mixture.one_hot([name] * 2)) for name in NAMES}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_adapters_of_one_half_only(toy_folder, clips, part):
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    base.module.double()
    bank = Bank(base, dtype=torch.float64)
    half = random_adapter(base, "c", part)
    bank.load("half", half)
    got = logits(bank, clips, Mixture.one_hot(["half"] * 5))
    for i, clip in enumerate(clips):
        wanted = merged_logits(base, {"half": half}, {"half": 1.0}, clip)
        torch.testing.assert_close(got[i, : len(wanted)], wanted, atol=1e-9, rtol=1e-9)


@pytest.mark.filterwarnings("ignore")  # bitsandbytes warns about its CPU kernels
@pytest.mark.parametrize("kind", ["nf4", "8bit"])
def test_over_a_quantised_base_the_update_is_exact(toy_folder, weights, clips, kind):
    """f is called, its weight never read: what the bank adds at a site over a 4- or 8-bit layer is the fp32 update."""
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic", quantize=kind)
    assert base.quantization == kind
    bank = Bank(base)
    for name in ("a", "c"):
        bank.load(name, weights[name])
    site = next(s for s in base.sites if s.kind == "q_proj" and s.part == "encoder")
    module = base.module.get_submodule(site.name)
    assert type(module.base).__module__.startswith("bitsandbytes")
    x = torch.randn(2, 5, site.in_features)
    with torch.inference_mode():
        wanted = module.base(x.clone())
        for name, share in (("a", 0.7), ("c", 0.3)):
            pair = weights[name].sites[site.name]
            wanted = wanted + share * pair.scale * (x @ pair.A.T @ pair.B.T)
        with bank.mixing(Mixture.from_rows([{"a": 0.7, "c": 0.3}] * 2)):
            torch.testing.assert_close(module(x.clone()), wanted, atol=1e-4, rtol=1e-4)
    alone = logits(bank, clips, Mixture((), torch.zeros(5, 0)))
    mixed = logits(bank, clips, Mixture.from_rows([{"a": 0.7, "c": 0.3}] * 5))
    assert (alone - mixed).abs().max() > 0.1


@pytest.mark.parametrize("bank_dtype", [torch.float32, torch.bfloat16])
def test_a_bf16_base_differs_by_bf16_only(toy_folder, weights, clips, bank_dtype):
    """Adapters in fp32 or bf16 on a bf16 base: as far from the fp32 answer as the bf16 base itself is, not farther."""

    def banked(dtype, kept):
        base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic", dtype=dtype)
        bank = Bank(base, dtype=kept)
        bank.load("d", weights["d"])
        return bank

    exact, half = banked("float32", torch.float32), banked("bfloat16", bank_dtype)
    none, one = Mixture((), torch.zeros(5, 0)), Mixture.one_hot(["d"] * 5)
    base_error = (logits(exact, clips, none) - logits(half, clips, none).float()).abs().mean()
    mixed_error = (logits(exact, clips, one) - logits(half, clips, one).float()).abs().mean()
    assert mixed_error < 3 * base_error
