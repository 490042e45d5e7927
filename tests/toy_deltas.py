"""Stores of small adapters with known factors, for the tests that need numbers and no speech."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS
from adapters.record import Record
from adapters.store import Store, StoredAdapter

SITES = (
    "model.encoder.layers.0.self_attn.q_proj",
    "model.encoder.layers.1.self_attn.q_proj",
    "model.encoder.layers.1.fc1",
    "model.decoder.layers.0.encoder_attn.v_proj",
)
SHAPES = {site: (40, 32) if site.endswith("fc1") else (24, 32) for site in SITES}  # out, in


def factors(rank: int, seed: int, sites=SITES) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Site -> random A `[r, in]`, B `[out, r]`, fp32."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    return {site: (drawn(rank, SHAPES[site][1]), drawn(SHAPES[site][0], rank)) for site in sites}


def publish(
    store: Store,
    language: str,
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]],
    *,
    variant: str = "default",
    base: str = "toy",
    base_sha256: str = "ab" * 32,
    alpha: float = 8.0,
    rslora: bool = False,
    record: dict | None = None,
) -> StoredAdapter:
    """An adapter of these factors in the store."""
    rank = next(iter(pairs.values()))[0].shape[0]
    folder = Path(store.folder) / ".made" / f"{language}-{rank}-{variant}-{base.replace('/', '-')}"
    folder.mkdir(parents=True, exist_ok=True)
    held = {}
    for site, (A, B) in pairs.items():
        held[f"base_model.model.{site}.lora_A.weight"] = A.contiguous()
        held[f"base_model.model.{site}.lora_B.weight"] = B.contiguous()
    save_file(held, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "target_modules": ["x"]}
    (folder / CONFIG).write_text(json.dumps(config))
    about = Record(base, language, rank, variant, base_sha256=base_sha256, **(record or {}))
    return store.publish(AdapterKey(base, language, rank, variant), folder, about)
