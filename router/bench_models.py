"""What `boli bench router` compares on: one set of weights as each system wants it.

A base model with random adapters (times do not depend on their values), the same adapters merged into its weights, and
those converted for CTranslate2. Nobody may end early: the end of text is suppressed for all, so that every system
writes the same number of tokens.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.bench_models import TARGETS, build, random_adapter, save_as_peft
from router.bench_clips import LANGUAGES, BenchClip

if TYPE_CHECKING:
    from adapters.peft_files import LoraWeights

EMBEDDED = "boli-embedded"
VARIANTS = ("all", "above", "padded")
"""Adapters on all layers; only above the tap; on all layers of a base that pads to 30 s."""


@dataclass(frozen=True)
class Prepared:
    """One base model and all that the systems load from disk."""

    name: str
    base: Path
    """Folder in transformers' format."""
    store: Path
    """Adapters of every variant, and the classifier beside them."""
    peft: dict[str, Path]
    """Language -> PEFT folder of variant `all`."""
    merged: dict[str, Path]
    """Language -> folder for CTranslate2 of the base with that adapter merged."""
    end: int
    """The token that nobody may write."""


def prepare(name: str, folder: Path, clips: list[BenchClip], rank: int, merge: bool) -> Prepared:
    """name: a shape (`tiny`, `small`: random weights), or a model that `zoo.load` knows. Fills `folder`."""
    from adapters.bench_models import SHAPES
    from adapters.key import AdapterKey
    from adapters.peft_files import lowest_adapted_layer
    from adapters.record import Record
    from adapters.store import Store
    from zoo.whisper_family import family

    source = folder / "base"
    if name in SHAPES:
        write_shape(name, source)
    else:
        from zoo.manager import resolve

        shutil.copytree(resolve(name)[1], source)
    generation = source / "generation_config.json"
    settings = json.loads(generation.read_text(encoding="utf-8"))
    end = settings["eos_token_id"]
    generation.write_text(json.dumps({**settings, "suppress_tokens": [end], "begin_suppress_tokens": None}))
    card = replace(family.card(source, "bench"), context="dynamic")
    base = family.load(source, card, context="dynamic")
    kinds = TARGETS["all" if name == EMBEDDED else "qv"]
    store = Store(folder / "store", create=True)
    peft: dict[str, Path] = {}
    merged: dict[str, Path] = {}
    for seed, language in enumerate(LANGUAGES):
        weights = random_adapter(base, rank, kinds, seed)
        above = replace(
            weights,
            sites={
                site.name: weights.sites[site.name]
                for site in base.sites
                if site.name in weights.sites and (site.part == "decoder" or site.layer >= base.tap)
            },
        )
        for variant, used in (("all", weights), ("above", above), ("padded", weights)):
            made = folder / "peft" / variant / language
            made.mkdir(parents=True)
            save_as_peft(base, used, rank, kinds, made)
            record = Record(
                "bench",
                language,
                rank,
                variant,
                context="30s" if variant == "padded" else "dynamic",
                base_sha256=base.weights_sha256,
                lowest_adapted_layer=lowest_adapted_layer(used, base.sites, base.n_layers),
            )
            store.publish(AdapterKey("bench", language, rank, variant), made, record)
        peft[language] = folder / "peft" / "all" / language
        if merge:
            merged[language] = convert(source, weights, folder / "merged" / language)
    train_classifier(base, clips, folder / "store" / "classifier")
    return Prepared(name, source, folder / "store", peft, merged, end)


def write_shape(shape: str, folder: Path) -> None:
    """A model of Whisper's shape with random weights, and a tokenizer of Whisper's size whose tokens mean nothing."""
    import torch
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as WHISPERS

    from zoo.progress import quiet_bars
    from zoo.whisper_files import build_generation_config, build_tokenizer, byte_alphabet, save_extractor

    folder.mkdir(parents=True)
    module = build(shape, "cpu", torch.float32).module
    vocabulary = {character: i for i, character in enumerate(byte_alphabet())}
    for i in range(len(vocabulary), 50_257):
        vocabulary[f"Ġ{i}"] = i
    languages = list(WHISPERS)[: module.config.vocab_size - 51_766]  # 99 of the multilingual models, 100 of large-v3
    tokenizer = build_tokenizer(vocabulary, [], languages)
    module.generation_config = build_generation_config(tokenizer, languages, module.config.max_target_positions)
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    module.config.update({"pad_token_id": end, "bos_token_id": end, "eos_token_id": end})
    module.config.decoder_start_token_id = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    with quiet_bars():
        module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_extractor(folder, module.config.num_mel_bins)


def convert(source: Path, weights: "LoraWeights", folder: Path) -> Path:
    """Merge an adapter into the weights and convert them for CTranslate2, in fp32 (it rounds them when it loads)."""
    import torch
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperForConditionalGeneration

    from zoo.progress import quiet_bars

    copy = folder.with_name(f"{folder.name}-hf")
    shutil.copytree(source, copy)
    with quiet_bars(), torch.no_grad():
        module = WhisperForConditionalGeneration.from_pretrained(
            str(source), local_files_only=True, dtype=torch.float32
        )
        for name, pair in weights.sites.items():
            module.get_submodule(name).weight += pair.scale * (pair.B @ pair.A)
        module.save_pretrained(copy)
        TransformersConverter(str(copy), copy_files=["tokenizer.json", "preprocessor_config.json"]).convert(str(folder))
    shutil.rmtree(copy)
    return folder


def train_classifier(base, clips: list[BenchClip], folder: Path) -> None:
    """A linear head that knows these clips, in both contexts, so that each is routed to an adapter of its own language."""
    import torch

    from router.classifier import ClassifierConfig, TapClassifier

    config = ClassifierConfig("linear", LANGUAGES, "bench", base.tap, base.hidden_size, base_sha256=base.weights_sha256)
    classifier = TapClassifier.new(config)
    head = classifier.head
    pooled = []
    with torch.inference_mode():
        for context in ("dynamic", "30s"):
            base.context = context
            for clip in clips:
                hidden = base.encode(base.features([clip.utterance]), until=base.tap)
                pooled.append(head.norm(hidden.values.float())[0, : int(hidden.lengths[0])].mean(dim=0))
    x = torch.stack(pooled).clone()
    wanted = torch.nn.functional.one_hot(
        torch.tensor([LANGUAGES.index(clip.language) for clip in clips] * 2), len(LANGUAGES)
    ).float()
    with torch.no_grad():  # ridge regression on centred features
        mean = x.mean(dim=0)
        gram = (x - mean).T @ (x - mean)
        damped = gram + 1e-4 * gram.trace() / len(gram) * torch.eye(len(gram))
        weight = torch.linalg.solve(damped, (x - mean).T @ (20 * wanted - 10)).T
        head.out.weight.copy_(weight)
        head.out.bias.copy_(-weight @ mean)
    classifier.save(folder)
