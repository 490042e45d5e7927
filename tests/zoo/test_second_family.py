"""A family that is no Whisper goes through the same door: waveforms in, frames of 40 ms, other module names, and a
decoder that writes all tokens at once (CTC). It has OWSM's shapes in small and random weights."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from adapters.bank import Bank
from adapters.mixture import Mixture
from adapters.peft_files import LoraSite, LoraWeights
from router.classifier import ClassifierConfig, TapClassifier
from router.router import Router
from zoo.card import Card
from zoo.interface import BaseModel, DecodeOptions, Features, Hidden, Hypothesis, Site
from zoo.speech import SAMPLE_RATE, Utterance

FRAME_SAMPLES = 640  # 40 ms


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x):
        y = torch.nn.functional.scaled_dot_product_attention(self.linear_q(x), self.linear_k(x), self.linear_v(x))
        return x + self.linear_out(y)


class Network(nn.Module):
    def __init__(self, size=16, layers=3, vocabulary=30):
        super().__init__()
        self.embed = nn.Linear(FRAME_SAMPLES, size)
        self.encoders = nn.ModuleList(nn.ModuleDict({"self_attn": Attention(size)}) for _ in range(layers))
        self.after_norm = nn.LayerNorm(size)
        self.ctc = nn.Linear(size, vocabulary)


class CtcBase:
    """Implements zoo.interface.BaseModel."""

    def __init__(self):
        torch.manual_seed(0)
        self.card = Card("toy-ctc", "toy-ctc", frame_rate=25.0, n_layers=3, tap=1, context="dynamic")
        self.module = Network().eval().requires_grad_(False)
        self.sites = tuple(
            Site(f"encoders.{i}.self_attn.{kind}", "frames", "encoder", i, 16, 16)
            for i in range(3)
            for kind in ("linear_q", "linear_k", "linear_v", "linear_out")
        )
        self.n_layers, self.tap, self.hidden_size, self.frame_rate = 3, 1, 16, 25.0
        self.max_duration_s, self.context, self.languages = 30.0, "dynamic", ("eng", "hi", "te")
        self.spare_frames = 0
        self.weights_sha256 = self.tokenizer_sha256 = self.quantization = ""
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def grid_s(self, utterance: Utterance) -> float:
        return float(-(-len(utterance.audio) // SAMPLE_RATE))

    def features(self, utterances: Sequence[Utterance]) -> Features:
        samples = int(self.grid_s(utterances[0]) * SAMPLE_RATE)
        values = torch.stack([torch.from_numpy(np.pad(u.audio, (0, samples - len(u.audio)))) for u in utterances])
        lengths = torch.tensor([-(-len(u.audio) // FRAME_SAMPLES) for u in utterances])
        return Features(values, lengths, "dynamic")

    def encode(self, inputs: Features | Hidden, until: int | None = None) -> Hidden:
        if isinstance(inputs, Features):
            inputs = Hidden(self.module.embed(inputs.values.unflatten(1, (-1, FRAME_SAMPLES))), inputs.lengths, 0)
        x = inputs.values
        for layer in self.module.encoders[inputs.layer : until]:
            x = layer["self_attn"](x)
        return Hidden(
            x if until is not None else self.module.after_norm(x), inputs.lengths, until or 3, done=until is None
        )

    def decode(
        self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions = DecodeOptions()
    ) -> list[Hypothesis]:
        found = []
        for row, length, language in zip(
            self.module.ctc(hidden.values).log_softmax(-1), hidden.lengths.tolist(), languages, strict=True
        ):
            score, best = row[:length].max(dim=-1)
            tokens = tuple(t for t in torch.unique_consecutive(best).tolist() if t)
            found.append(Hypothesis(" ".join(map(str, tokens)), tokens, language, float(score.sum())))
        return found

    def labels(self, texts, languages):
        return torch.tensor([[int(token) for token in text.split()] for text in texts])

    def loss(self, features, labels):
        frames = self.module.ctc(self.encode(features).values).log_softmax(-1)
        return nn.functional.ctc_loss(
            frames.transpose(0, 1), labels, features.lengths, torch.full((len(labels),), labels.shape[1])
        )


def utterances(*seconds):
    rng = np.random.default_rng(1)
    return [Utterance(rng.standard_normal(int(s * SAMPLE_RATE)).astype(np.float32), f"{s} s") for s in seconds]


def adapter(base, seed):
    generator = torch.Generator().manual_seed(seed)
    sites = {
        site.name: LoraSite(torch.randn(4, 16, generator=generator), torch.randn(16, 4, generator=generator), 0.5)
        for site in base.sites
        if site.kind in ("linear_q", "linear_v")
    }
    return LoraWeights(sites, name=f"random-{seed}")


@pytest.fixture
def base():
    return CtcBase()


def test_it_fulfils_the_protocol(base):
    assert isinstance(base, BaseModel)
    features = base.features(utterances(0.5, 0.9))
    whole = base.encode(features)
    torch.testing.assert_close(base.encode(base.encode(features, until=1)).values, whole.values)
    assert torch.isfinite(base.loss(features, base.labels(["3 4", "5 6"], ["hi", "te"])))


def test_the_bank_mixes_on_it(base):
    bank = Bank(base)
    names = ["a", "b"]
    for i, name in enumerate(names):
        bank.load(name, adapter(base, i))
    features = base.features(utterances(0.5, 0.9))
    alone = base.encode(features).values
    with bank.mixing(Mixture.one_hot(names)):
        together = base.encode(features).values
    assert not torch.allclose(together, alone)
    for i, name in enumerate(names):
        one = base.features(utterances(0.5, 0.9)[i : i + 1])
        with bank.mixing(Mixture.one_hot([name])):
            torch.testing.assert_close(base.encode(one).values[0], together[i], atol=1e-5, rtol=1e-5)


def test_the_router_transcribes_with_it(base):
    """The whole way, by a classifier on its tap; clips of several grids in one call."""
    torch.manual_seed(0)
    classifier = TapClassifier.new(ClassifierConfig("linear", ("hi", "te"), "toy-ctc", 1, 16))
    router = Router(base, None, classifier)
    for i, language in enumerate(("hi", "te")):
        router.bank.load(language, adapter(base, i))
        router.adapters[language] = language
        router.lowest_layers[language] = 0
    clips = utterances(0.5, 2.3, 0.7, 1.4)
    together = list(router.transcribe([u.audio for u in clips]))
    assert [t.text for t in together] == [router.transcribe(u.audio).text for u in clips]
    assert all(t.segments[0].weights == {t.language: 1.0} for t in together)
    assert any(t.text for t in together)
