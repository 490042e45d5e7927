"""The bank, held to PEFT's own forward on adapters that were trained until the outputs vary."""

import threading

import pytest
import torch
from peft import PeftModel

from adapters.bank import Bank, BankFull
from adapters.mixture import Mixture
from adapters.peft_files import LoraSite, LoraWeights, read_weights
from tests import toy
from zoo import rows
from zoo.errors import AdapterError, ModelError, RoutingError
from zoo.interface import DecodeOptions
from zoo.whisper_decoder import WhisperStepper
from zoo.whisper_family import family

# Two ways of summing the same fp32 numbers differ in the last bits; 1e-5 is meant beside the largest logit.
TOLERANCE = 1e-5


def assert_same(got, wanted):
    assert float((got - wanted).abs().max() / wanted.abs().max()) < TOLERANCE


ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
ADAPTERS = {
    "hi": ("hi", 8, ALL, 0, {}),
    "te": ("te", 16, ("q_proj", "v_proj"), 0, {}),
    "pa": ("pa", 4, ALL, 0, {"use_rslora": True}),
    "it": ("it", 6, ALL, 0, {"rank_pattern": {"fc1": 3}, "alpha_pattern": {"fc2": 20}}),
    "encoder": ("hi", 4, r"model\.encoder\.layers\.\d+\.self_attn\.(q|v)_proj", 0, {}),
    "decoder": ("te", 4, r"model\.decoder\..*(q_proj|v_proj)", 0, {}),
}


def folder(name):
    language, rank, targets, seed, config = ADAPTERS[name]
    return toy.trained_adapter(language, rank, targets, seed, **config)


def load(toy_folder):
    return family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")


@pytest.fixture
def bank(toy_base):
    bank = Bank(toy_base)
    for name in ADAPTERS:
        bank.load(name, read_weights(folder(name)))
    return bank


@pytest.fixture(scope="module")
def peft(toy_folder):
    """The same adapters in PEFT, on another copy of the base."""
    base = load(toy_folder)
    names = list(ADAPTERS)
    model = PeftModel.from_pretrained(base.module, folder(names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(folder(name), adapter_name=name)
    model.eval()
    return base, model


@pytest.fixture(scope="module")
def batch(toy_folder):
    """Six clips of one grid, in several languages."""
    base = load(toy_folder)
    chosen = [c for c in toy.clips(40, ("hi", "te", "pa", "it"), seed=21) if base.grid_s(c[0]) == 1.0][:6]
    return [u for u, _, _ in chosen], [t for _, t, _ in chosen], [lang for _, _, lang in chosen]


def ours(bank, batch, mixture):
    base = bank.base
    features, labels = base.features(batch[0]), base.labels(batch[1], batch[2])
    with torch.inference_mode(), bank.mixing(mixture):
        return base.logits(features, labels)


def theirs(peft, batch, row=slice(None)):
    base, _ = peft
    utterances, texts, languages = (part[row] for part in batch)
    with torch.inference_mode():
        return base.logits(base.features(utterances), base.labels(texts, languages))


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_one_adapter_equals_peft(bank, peft, batch, name):
    peft[1].set_adapter(name)
    wanted = theirs(peft, batch)
    assert_same(ours(bank, batch, Mixture.one_hot([name] * 6)), wanted)
    alone = ours(bank, batch, Mixture((), torch.zeros(6, 0)))
    assert (wanted - alone).abs().max() > 0.1, "the adapter must matter, or the test proves nothing"


def test_another_adapter_in_every_row_equals_peft(bank, peft, batch):
    names = ["hi", "te", "pa", "it", "encoder", "decoder"]
    got = ours(bank, batch, Mixture.one_hot(names))
    for i, name in enumerate(names):
        peft[1].set_adapter(name)
        wanted = theirs(peft, tuple(part[i : i + 1] for part in batch))[0]
        assert_same(got[i, : len(wanted)], wanted)


def test_mixed_batch_equals_pefts_adapter_names(bank, peft, batch):
    names = ["hi", "te", "hi", "pa", "te", "it"]
    base, model = peft
    features, labels = base.features(batch[0]), base.labels(batch[1], batch[2])
    with torch.inference_mode(), model._enable_peft_forward_hooks(adapter_names=names):
        wanted = base.logits(features, labels)
    assert_same(ours(bank, batch, Mixture.one_hot(names)), wanted)


def test_soft_equals_cat_merging(bank, peft, batch):
    model = peft[1]
    shares = {"hi": 0.5, "te": 0.3, "pa": 0.2}
    model.add_weighted_adapter(list(shares), list(shares.values()), "soft", combination_type="cat")
    try:
        model.set_adapter("soft")
        wanted = theirs(peft, batch)
    finally:
        model.set_adapter("hi")
        model.delete_adapter("soft")
    assert_same(ours(bank, batch, Mixture.from_rows([shares] * 6)), wanted)


def test_rows_with_different_shares_equal_their_own_call(bank, batch):
    rows_ = [{"hi": 0.5, "te": 0.5}, {"hi": 1.0}, {}, {"pa": 0.3, "it": 0.7}, {"te": 0.25, "hi": 0.75}, {"it": -0.5}]
    together = ours(bank, batch, Mixture.from_rows(rows_))
    for i, row in enumerate(rows_):
        alone = ours(bank, tuple(part[i : i + 1] for part in batch), Mixture.from_rows([row]))[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"beam_size": 4}], ids=["greedy", "beam"])
def test_decoding_a_mixed_batch_equals_peft_clip_by_clip(bank, peft, batch, options):
    """Rows end at different steps and beams change places: the mixture must move with the cache."""
    names = ["hi", "te", "pa", "it", "encoder", "decoder"]
    base, model = peft
    wanted = []
    for i, name in enumerate(names):
        model.set_adapter(name)
        hidden = base.encode(base.features(batch[0][i : i + 1]))
        wanted.append(base.decode(hidden, batch[2][i : i + 1], DecodeOptions(**options))[0].tokens)
    with torch.inference_mode(), bank.mixing(Mixture.one_hot(names)):
        hidden = bank.base.encode(bank.base.features(batch[0]))
        got = [h.tokens for h in bank.base.decode(hidden, batch[2], DecodeOptions(**options))]
    assert got == wanted
    assert len({len(tokens) for tokens in got}) > 1, "clips must end at different steps"


def test_a_constant_frame_mixture_equals_the_utterance_mixture(bank, batch):
    row = {"hi": 0.6, "te": 0.4}
    flat = Mixture.from_rows([row] * 6)
    frames = bank.base.encode(bank.base.features(batch[0])).values.shape[1]
    framed = Mixture(flat.names, flat.weights, flat.weights[:, None, :].expand(-1, frames, -1))
    torch.testing.assert_close(ours(bank, batch, framed), ours(bank, batch, flat), atol=1e-5, rtol=1e-5)


def test_frame_weights_act_frame_by_frame(bank, batch):
    """At one site, by hand."""
    base = bank.base
    site = next(s for s in base.sites if s.part == "encoder" and s.kind == "q_proj")
    module = base.module.get_submodule(site.name)
    index = module.index
    x = torch.randn(2, 5, site.in_features)
    weights = torch.rand(2, 5, 2)
    weights[0, :3, 0] = 0
    hi, te = (bank._residents[name] for name in ("hi", "te"))
    wanted = module.base(x)
    for k, adapter in enumerate((hi, te)):
        wanted = wanted + weights[:, :, k : k + 1] * (x @ adapter.A[index].T @ adapter.B[index])
    with torch.inference_mode(), bank.mixing(Mixture(("hi", "te"), torch.ones(2, 2), weights)):
        torch.testing.assert_close(module(x), wanted, atol=1e-5, rtol=1e-5)


def test_a_frame_mixture_of_the_wrong_length_raises(bank, batch):
    frames = torch.ones(6, 7, 1)
    with pytest.raises(RoutingError, match=r"A site sees 50 frames, the mixture has 7"):
        ours(bank, batch, Mixture(("hi",), torch.ones(6, 1), frames))


def test_a_mixture_of_the_wrong_batch_raises_and_the_next_call_is_clean(bank, batch):
    clean = ours(bank, batch, Mixture.one_hot(["hi"] * 6))
    with pytest.raises(RoutingError, match=r"A site sees 6 rows, the mixture has 1"):
        ours(bank, batch, Mixture.one_hot(["hi"]))
    torch.testing.assert_close(ours(bank, batch, Mixture.one_hot(["hi"] * 6)), clean, atol=0, rtol=0)
    assert bank._leases.total() == 0


def test_an_exception_inside_a_decode_leaves_nothing_behind(bank, batch):
    class Boom(Exception):
        pass

    class Exploding:
        def __init__(self):
            self.moves = 0

        def select(self, index):
            self.moves += 1
            if self.moves == 2:
                raise Boom

        def snapshot(self):
            return None

        def restore(self, state):
            pass

    base = bank.base
    mixture = Mixture.one_hot(["hi", "te", "pa", "it", "hi", "te"])
    hidden = base.encode(base.features(batch[0]))
    with torch.inference_mode(), bank.mixing(mixture):
        before = base.decode(hidden, batch[2], DecodeOptions(beam_size=2))
        with pytest.raises(Boom), rows.following(Exploding()):
            base.decode(hidden, batch[2], DecodeOptions(beam_size=2))
        assert base.decode(hidden, batch[2], DecodeOptions(beam_size=2)) == before
    assert bank._leases.total() == 0
    assert bank._call.get() is None


def test_a_mixture_lives_as_long_as_the_cache_it_filled(bank, batch):
    """Another mixture, or none, in the middle of a decode is refused; the old one goes on as if nothing had been."""
    base = bank.base
    one, other = Mixture.one_hot(["hi"] * 6), Mixture.one_hot(["te"] * 6)
    prompt = base.prompt(batch[2])
    with torch.inference_mode(), bank.mixing(one):
        states = base.encode(base.features(batch[0]))
        stepper = WhisperStepper(base.module.model.decoder, base.module.proj_out, states, prompt, 5)
        token = stepper.start().argmax(dim=-1)
        with (
            bank.mixing(other),
            pytest.raises(ModelError, match="under other adapters than those that filled its cache"),
        ):
            stepper.step(token)
        again = WhisperStepper(base.module.model.decoder, base.module.proj_out, states, prompt, 5)
        assert torch.equal(again.start().argmax(dim=-1), token)
        assert torch.equal(again.step(token), stepper.step(token))
    with torch.inference_mode(), pytest.raises(ModelError, match="start a new decode"):
        stepper.step(token)


def test_threads_do_not_see_each_others_mixture(bank, batch):
    names = ["hi", "te", "pa", "it"]
    wanted = {name: ours(bank, batch, Mixture.one_hot([name] * 6)) for name in names}
    wrong: list[str] = []
    barrier = threading.Barrier(len(names) + 1)

    def work(name):
        barrier.wait()
        for _ in range(5):
            if not torch.allclose(ours(bank, batch, Mixture.one_hot([name] * 6)), wanted[name], atol=1e-5):
                wrong.append(name)

    def base_alone():
        barrier.wait()
        base = bank.base
        for _ in range(5):
            with torch.inference_mode():
                base.logits(base.features(batch[0]), base.labels(batch[1], batch[2]))

    threads = [threading.Thread(target=work, args=(name,)) for name in names] + [threading.Thread(target=base_alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_nan_in_one_adapter_never_reaches_another_row(bank, batch):
    clean = ours(bank, batch, Mixture.one_hot(["hi", "te", "hi", "te", "hi", "te"]))
    for matrix in bank._residents["te"].A.values():
        matrix.fill_(float("nan"))
    dirty = ours(bank, batch, Mixture.one_hot(["hi", "te", "hi", "te", "hi", "te"]))
    torch.testing.assert_close(dirty[::2], clean[::2], atol=0, rtol=0)
    assert dirty[1::2].isnan().any()
    base = bank.base
    with torch.inference_mode(), bank.mixing(Mixture.one_hot(["hi", "te", "hi", "te", "hi", "te"])):
        hidden = base.encode(base.features(batch[0]))
        poisoned = base.decode(hidden, batch[2], DecodeOptions(max_tokens=12))
    with torch.inference_mode(), bank.mixing(Mixture.one_hot(["hi"] * 3)):
        hidden = base.encode(base.features(batch[0][::2]))
        alone = base.decode(hidden, batch[2][::2], DecodeOptions(max_tokens=12))
    assert [h.tokens for h in poisoned[::2]] == [h.tokens for h in alone]


def test_least_recently_used_goes_first_and_a_leased_one_never(toy_base):
    bank = Bank(toy_base, max_adapters=2)
    bank.load("hi", read_weights(folder("hi")))
    bank.load("te", read_weights(folder("te")))
    with bank.mixing(Mixture.one_hot(["hi"])):
        bank.load("pa", read_weights(folder("pa")))
        assert set(bank.residents) == {"hi", "pa"}
        with pytest.raises(AdapterError, match="leased by 1 running call"):
            bank.evict("hi")
        with (
            bank.mixing(Mixture.one_hot(["pa"])),
            pytest.raises(BankFull, match=r"No room for adapter it .*2 adapters at once"),
        ):
            bank.load("it", read_weights(folder("it")))
    bank.load("it", read_weights(folder("it")))
    assert len(bank.residents) == 2


def test_the_source_is_asked_when_an_adapter_is_not_resident(toy_base, batch):
    asked = []

    def source(name):
        asked.append(name)
        return read_weights(folder(name))

    bank = Bank(toy_base, source, max_adapters=1)
    for name in ("hi", "hi", "te", "hi"):
        ours(bank, batch, Mixture.one_hot([name] * 6))
    assert asked == ["hi", "te", "hi"]


def test_memory_is_that_of_the_adapters_own_rank(toy_base):
    bank = Bank(toy_base)
    weights = read_weights(folder("te"))
    bank.load("te", weights)
    assert bank.n_bytes == weights.parameters * 4
    bank.evict("te")
    assert bank.n_bytes == 0


def test_what_does_not_fit_is_refused(bank):
    pair = LoraSite(torch.ones(2, 64), torch.ones(64, 2), 1.0)
    with pytest.raises(AdapterError, match=r"1 of 1 sites do not exist in debug, e\.g\. model\.encoder\.layers\.9"):
        bank.load("far", LoraWeights({"model.encoder.layers.9.self_attn.q_proj": pair}, name="far"))
    wide = LoraSite(torch.ones(2, 32), torch.ones(64, 2), 1.0)
    with pytest.raises(AdapterError, match=r"is 32 -> 64, debug has 64 -> 64"):
        bank.load("wide", LoraWeights({"model.encoder.layers.0.self_attn.q_proj": wide}, name="wide"))
    with pytest.raises(AdapterError, match="Adapter nobody is not resident"), bank.mixing(Mixture.one_hot(["nobody"])):
        pass
    with pytest.raises(AdapterError, match="already carries a bank"):
        Bank(bank.base)
