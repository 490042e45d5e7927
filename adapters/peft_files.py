"""Reads and checks LoRA folders in PEFT's file format.

Refused with a reason: pickles, kinds that cannot be mixed exactly (DoRA, biases, trained embeddings, modules saved
whole, inits that change the base's weights), values that are not finite, tensors without a partner.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import AdapterError

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_TENSOR = re.compile(r"^(?P<site>.+)\.lora_(?P<which>[AB])(?:\.default)?\.weight$")
# Inits that move part of the base's weight into the adapter: it is only right on the changed base, which nobody has.
_BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq", "eva_residual")


@dataclass(frozen=True)
class LoraSite:
    """One site's pair: A `[r, in]`, B `[out, r]`, both fp32; scale alpha/r (alpha/sqrt(r) for rsLoRA)."""

    A: "torch.Tensor"
    B: "torch.Tensor"
    scale: float

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    def update_norm(self) -> float:
        """Frobenius norm of scale BA without forming it: ||BA||² = sum((BᵀB) * (AAᵀ))."""
        gram = (self.B.double().T @ self.B.double()) * (self.A.double() @ self.A.double().T)
        return abs(self.scale) * math.sqrt(max(0.0, float(gram.sum())))


@dataclass(frozen=True)
class LoraWeights:
    """A whole adapter as read from a folder."""

    sites: dict[str, LoraSite]
    """Module path in the base model -> pair."""
    config: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def rank(self) -> int:
        """The largest rank of any site."""
        return max(site.rank for site in self.sites.values())

    @property
    def parameters(self) -> int:
        return sum(site.A.numel() + site.B.numel() for site in self.sites.values())

    def update_norms(self) -> dict[str, float]:
        return {name: site.update_norm() for name, site in self.sites.items()}


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, checked for kinds that cannot be mixed exactly."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise AdapterError(f"{folder} is no folder", valid=f"a folder with {CONFIG} and {WEIGHTS}")
    if not path.is_file():
        raise AdapterError(f"{folder} holds no {CONFIG}", valid="a LoRA folder written by PEFT's save_pretrained")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise AdapterError(
            f"{path} is no JSON: {error}", remedy="copy the adapter again from where it was made"
        ) from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path} holds a {type(config).__name__}", valid="an object")
    _refuse_unmixable(config, folder)
    return config


def _refuse_unmixable(config: dict[str, Any], folder: Path) -> None:
    def refuse(reason: str, remedy: str = "train it again as plain LoRA: boli train adapter") -> None:
        raise AdapterError(
            f"{folder} cannot be mixed exactly: {reason}", valid="plain LoRA on linear modules", remedy=remedy
        )

    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        refuse(f"its kind is {config.get('peft_type')!r}")
    if config.get("use_dora"):
        refuse("it is DoRA, whose magnitude depends on the merged weight")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        refuse("it trained biases")
    if config.get("modules_to_save"):
        refuse(f"it replaces whole modules ({', '.join(map(str, config['modules_to_save']))})")
    if config.get("trainable_token_indices"):
        refuse("it trained token embeddings")
    if config.get("fan_in_fan_out"):
        refuse("its weights are stored transposed (fan_in_fan_out)")
    for key in (
        "layer_replication",
        "alora_invocation_tokens",
        "target_parameters",
        "use_qalora",
        "use_bdlora",
        "velora_config",
    ):
        if config.get(key):
            refuse(f"it uses {key}")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower().startswith(_BASE_CHANGING_INITS):
        refuse(
            f"its initialisation {init!r} changed the base's weights",
            "save it with PEFT's path_initial_model_for_weight_conversion, which turns it into plain LoRA",
        )


def read_weights(folder: Path) -> LoraWeights:
    """Config and tensors, checked. Raises AdapterError with the reason and what to do."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    config = read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        pickles = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]
        if pickles:
            raise AdapterError(
                f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when it is read",
                valid=WEIGHTS,
                remedy="where you trust it: load it with PEFT and call save_pretrained(folder, safe_serialization=True)",
            )
        raise AdapterError(f"{folder} holds no {WEIGHTS}", remedy="copy the adapter again from where it was made")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"{path} is damaged: {error}", remedy="copy the adapter again from where it was made"
        ) from None
    return _assemble(tensors, config, str(folder))


def _assemble(tensors: dict[str, "torch.Tensor"], config: dict[str, Any], name: str) -> LoraWeights:
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _TENSOR.match(key)
        if not match:
            raise AdapterError(
                f"{name} holds the tensor {key!r}, which is no LoRA matrix of a linear module",
                valid="...lora_A.weight and ...lora_B.weight",
                remedy="train it again as plain LoRA: boli train adapter",
            )
        site = match["site"].removeprefix(PREFIX)
        pair = pairs.setdefault(site, {})
        if match["which"] in pair:
            raise AdapterError(
                f"{name} holds lora_{match['which']} of {site} twice", remedy="keep one of the two tensors"
            )
        pair[match["which"]] = tensor
    if not pairs:
        raise AdapterError(f"{name} holds no weights at all", remedy="copy the adapter again from where it was made")
    sites = {}
    for site, pair in sorted(pairs.items()):
        if len(pair) != 2:
            raise AdapterError(f"{name} holds only lora_{next(iter(pair))} of {site}", valid="both lora_A and lora_B")
        A, B = pair["A"].float(), pair["B"].float()
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
            raise AdapterError(
                f"{name}: shapes of {site} do not fit: A {list(A.shape)}, B {list(B.shape)}",
                valid="A [r, in], B [out, r]",
            )
        if not (A.isfinite().all() and B.isfinite().all()):
            raise AdapterError(
                f"{name}: {site} holds NaN or infinite values",
                remedy="its training diverged: train it again with a lower learning rate",
            )
        sites[site] = LoraSite(A, B, _scale(config, site, A.shape[0], name))
    weights = LoraWeights(sites, config, name)
    if max(weights.update_norms().values()) == 0.0:
        raise AdapterError(
            f"{name} does nothing: every lora_B is zero",
            remedy="it was saved before it was trained: train it, boli train adapter",
        )
    return weights


def _scale(config: dict[str, Any], site: str, rank: int, name: str) -> float:
    """alpha / r, or alpha / sqrt(r) under rsLoRA, with PEFT's per-module patterns."""
    alpha = _by_pattern(config.get("alpha_pattern"), site, config.get("lora_alpha"))
    declared = _by_pattern(config.get("rank_pattern"), site, config.get("r"))
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise AdapterError(f"{name}: lora_alpha is {alpha!r}", valid="a number")
    if declared != rank:
        raise AdapterError(f"{name}: {site} has rank {rank}, its config says {declared}", valid="one and the same rank")
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _by_pattern(patterns: dict[str, Any] | None, site: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of the site's path, as PEFT matches them."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern.removeprefix('^')})$", site):
            return value
    return default


def lowest_adapted_layer(weights: LoraWeights, sites, n_layers: int) -> int:
    """First encoder layer that the adapter changes; `n_layers` where it changes none. sites: the base's Sites."""
    layers = [site.layer for site in sites if site.part == "encoder" and site.name in weights.sites]
    return min(layers, default=n_layers)


def check_fits(weights: LoraWeights, sites, base_name: str) -> None:
    """Every tensor is consumed by exactly one site of the base, with its shape; else AdapterError."""
    known = {site.name: site for site in sites}
    strangers = [name for name in weights.sites if name not in known]
    if strangers:
        raise AdapterError(
            f"{weights.name}: {len(strangers)} of {len(weights.sites)} sites do not exist in {base_name}, e.g. {strangers[0]}",
            valid=", ".join(sorted({site.kind for site in sites})) + " of that base model's layers",
            remedy="add it to the base model it was trained on (base_model_name_or_path in its adapter_config.json)",
        )
    for name, pair in weights.sites.items():
        site = known[name]
        if (pair.A.shape[1], pair.B.shape[0]) != (site.in_features, site.out_features):
            raise AdapterError(
                f"{weights.name}: {name} is {pair.A.shape[1]} -> {pair.B.shape[0]}, {base_name} has {site.in_features} -> {site.out_features}",
                valid="an adapter of the same model size",
                remedy="boli adapters add with the base model it was trained on",
            )
