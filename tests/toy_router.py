"""A store, a classifier and a router for the trained debug model, which is called `toy` there."""

from pathlib import Path

import numpy as np
import torch

import router
from adapters.key import AdapterKey
from adapters.peft_files import lowest_adapted_layer, read_weights
from adapters.record import Record
from adapters.store import Store
from router.classifier import ClassifierConfig, TapClassifier
from tests import toy
from zoo.speech import Utterance
from zoo.whisper_family import family

TAP = 1
ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
LANGUAGES = ("en", "hi", "it", "pa", "te")


def build_store(toy_folder: Path, folder: Path) -> Path:
    """Trained adapters for hi and te and a classifier for five languages."""
    base = family.load(toy_folder, family.card(toy_folder, "toy"), context="dynamic")
    store = Store(folder, create=True)
    for language in ("hi", "te"):
        made = toy.trained_adapter(language, 8, ALL)
        weights = read_weights(made)
        record = Record(
            "toy",
            language,
            8,
            context="dynamic",
            base_sha256=base.weights_sha256,
            lowest_adapted_layer=lowest_adapted_layer(weights, base.sites, base.n_layers),
        )
        store.publish(AdapterKey("toy", language, 8), made, record)
    train_classifier(base, folder / "classifier")
    return folder


def switched(count: int, seed: int, languages=LANGUAGES, parts: int = 2) -> list[tuple[np.ndarray, list[tuple]]]:
    """Clips of `parts` languages one after the other: audio, and (start_s, end_s, language, text) of each."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        spoken: list[str] = []
        for _ in range(parts):
            spoken.append(str(rng.choice([tag for tag in languages if tag not in spoken[-1:]])))
        pieces = [toy.clip(list(rng.integers(0, 8, rng.integers(4, 9))), language, rng) for language in spoken]
        ends = np.cumsum([len(utterance.audio) for utterance, _ in pieces]) / 16_000
        segments = [
            (float(end) - len(utterance.audio) / 16_000, float(end), language, text)
            for end, (utterance, text), language in zip(ends, pieces, spoken, strict=True)
        ]
        made.append((np.concatenate([utterance.audio for utterance, _ in pieces]), segments))
    return made


def train_classifier(base, folder: Path) -> None:
    """On utterances of one language, and on the frames of clips that switch."""
    torch.manual_seed(0)
    config = ClassifierConfig(
        "linear", LANGUAGES, "toy", TAP, base.hidden_size, base_sha256=base.weights_sha256,
        switching={"offline": {"context_s": 0.0}},  # the toy model knows clips that begin at once, and no others
    )  # fmt: skip
    classifier = TapClassifier.new(config)
    made = [c for c in toy.clips(200, LANGUAGES, seed=50) if base.grid_s(c[0]) == 1.0]
    with torch.inference_mode():
        hidden = base.encode(base.features([u for u, _, _ in made]), until=TAP)
        values, lengths = hidden.values.float(), hidden.lengths
    values = values.clone()
    target = torch.tensor([LANGUAGES.index(lang) for _, _, lang in made])
    both = [clip for clip in switched(150, seed=51) if 1.0 < len(clip[0]) / 16_000 <= 2.0]
    with torch.inference_mode():
        hidden = base.encode(base.features([Utterance(audio) for audio, _ in both]), until=TAP)
        mixed, mixed_lengths = hidden.values.float(), hidden.lengths
    mixed, mixed_lengths = mixed.clone(), mixed_lengths.clone()
    labels = torch.full(mixed.shape[:2], -1)
    for row, (_, segments) in zip(labels, both, strict=True):
        for start, end, language, _ in segments:
            row[round(start * base.frame_rate) : round(end * base.frame_rate)] = LANGUAGES.index(language)
    optimiser = torch.optim.Adam(classifier.head.parameters(), lr=2e-2)
    for _ in range(150):
        _, utterance = classifier.head(values, lengths.clone())
        loss = torch.nn.functional.cross_entropy(utterance, target)
        frames, _ = classifier.head(mixed, mixed_lengths)
        loss = loss + torch.nn.functional.cross_entropy(frames.flatten(0, 1), labels.flatten(), ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    classifier.save(folder)


def name_toy(toy_folder: Path, monkeypatch) -> None:
    """Let `zoo.load` know the trained debug model, whatever it is asked for, by the name `toy`."""
    card = family.card(toy_folder, "toy")
    monkeypatch.setattr(
        "zoo.load",
        lambda name, **settings: family.load(toy_folder, card, **{"device": "cpu", **settings, "context": "dynamic"}),
    )


def make(toy_folder: Path, toy_store: Path, monkeypatch, **options):
    name_toy(toy_folder, monkeypatch)
    return router.load("toy", toy_store, context="dynamic", **options)
