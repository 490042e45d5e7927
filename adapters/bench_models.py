"""What the bank's benchmark runs on: bases of Whisper's shapes, random adapters, and the same adapters in PEFT."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from adapters.peft_files import LoraWeights


@dataclass(frozen=True)
class Shape:
    width: int
    layers: tuple[int, int]
    """Of encoder and decoder."""
    heads: int
    mels: int


SHAPES = {
    "debug": Shape(64, (3, 2), 2, 80),
    "tiny": Shape(384, (4, 4), 6, 80),
    "small": Shape(768, (12, 12), 12, 80),
    "large-v3": Shape(1280, (32, 32), 20, 128),
}
TARGETS = {
    "qv": ("q_proj", "v_proj"),
    "qkvo": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}


def build(shape: str, device: str, dtype: "torch.dtype"):
    """A base model of Whisper's shape with random weights (times do not depend on their values)."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    from zoo.card import Card
    from zoo.whisper import WhisperBase

    s = SHAPES[shape]
    config = WhisperConfig(
        vocab_size=51866,
        d_model=s.width,
        num_mel_bins=s.mels,
        encoder_layers=s.layers[0],
        decoder_layers=s.layers[1],
        encoder_attention_heads=s.heads,
        decoder_attention_heads=s.heads,
        encoder_ffn_dim=4 * s.width,
        decoder_ffn_dim=4 * s.width,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with torch.device(device):
        module = WhisperForConditionalGeneration(config).to(dtype)
    module.generation_config = GenerationConfig(eos_token_id=50257, pad_token_id=50257, decoder_start_token_id=50258)
    for name, value in {
        "is_multilingual": True,
        "prev_sot_token_id": 50361,
        "lang_to_id": {"<|hi|>": 50276},
        "task_to_id": {"transcribe": 50360},
        "no_timestamps_token_id": 50364,
    }.items():
        setattr(module.generation_config, name, value)
    card = Card(f"bench/{shape}", "whisper", context="dynamic", tap=s.layers[0] // 2)
    extractor = WhisperFeatureExtractor(feature_size=s.mels)
    return WhisperBase(module, None, extractor, card, Path("."), context="dynamic")


def random_adapter(base, rank: int, targets: tuple[str, ...], seed: int) -> "LoraWeights":
    import torch

    from adapters.peft_files import LoraSite, LoraWeights

    generator = torch.Generator().manual_seed(seed)
    sites = {
        site.name: LoraSite(
            torch.randn(rank, site.in_features, generator=generator) * 0.02,
            torch.randn(site.out_features, rank, generator=generator) * 0.02,
            1.0,
        )
        for site in base.sites
        if site.kind in targets
    }
    return LoraWeights(sites, {"r": rank, "lora_alpha": rank, "peft_type": "LORA"}, f"random-{seed}")


def save_as_peft(base, weights: "LoraWeights", rank: int, kinds: tuple[str, ...], folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for site, pair in weights.sites.items():
        tensors[f"base_model.model.{site}.lora_A.weight"] = pair.A
        tensors[f"base_model.model.{site}.lora_B.weight"] = pair.B
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(kinds), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def peft_copy(base, adapters: dict[str, "LoraWeights"], rank: int, targets: tuple[str, ...]):
    """The same adapters in PEFT, on a copy of the base that shares its weights."""
    import copy

    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict

    from zoo.whisper import WhisperBase

    memo = {id(p): p for p in base.module.parameters()}
    module = copy.deepcopy(base.module, memo)
    names = list(adapters)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    model = get_peft_model(module, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    for name, weights in adapters.items():
        state = {}
        for site, pair in weights.sites.items():
            state[f"base_model.model.{site}.lora_A.weight"] = pair.A
            state[f"base_model.model.{site}.lora_B.weight"] = pair.B
        set_peft_model_state_dict(model, state, adapter_name=name)
    model.set_adapter(names[0])
    model.eval().requires_grad_(False)
    return WhisperBase(module, None, base.extractor, base.card, base.folder, context="dynamic"), model


def cut_for_generate(module, frames: int) -> None:
    """Let transformers' own `generate` take clips of so many encoder frames: its encoder refuses any other length."""
    from torch import nn

    encoder = module.model.encoder
    encoder.embed_positions = nn.Embedding.from_pretrained(encoder.embed_positions.weight[:frames])
    encoder.max_source_positions = module.config.max_source_positions = frames


def merged(base, weights: "LoraWeights"):
    """A copy of the base whose weights hold the update."""
    import copy

    import torch

    from zoo.whisper import WhisperBase

    module = copy.deepcopy(base.module)
    with torch.no_grad():
        for name, pair in weights.sites.items():
            linear = module.get_submodule(name)
            linear.weight += (pair.B @ pair.A * pair.scale).to(linear.weight)
    return WhisperBase(module, None, base.extractor, base.card, base.folder, context="dynamic")
