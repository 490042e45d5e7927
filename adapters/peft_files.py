"""Reads and checks LoRA folders in PEFT's file format.

Refused with a reason: pickles, kinds that cannot be mixed exactly (DoRA, biases, trained embeddings, modules saved
whole, initialisations that change the base's weights), values that are not finite, tensors without a partner. The
configuration is judged field by field: a field that PEFT 0.21 does not have is refused where it is set, because it may
change what the two matrices mean.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import AdapterError

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
RETRAIN = "boli train adapter  (it trains plain LoRA)"
AGAIN = "copy the adapter again from where it was made, then boli adapters add FOLDER"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_TENSOR = re.compile(r"(?P<site>.+)\.lora_(?P<which>[AB])(?:\.(?P<adapter>[^.]+))?\.weight")
_DEFAULT = 8  # PEFT's own r and lora_alpha where a configuration names none

# Initialisations after which A and B mean the same as ever. The others (pissa, olora, corda, loftq, lora_ga, kasa)
# move part of the base's weight into the adapter: it is only right on the changed base, which nobody else has.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica")

# Fields of LoraConfig (PEFT 0.21.2, and of its older versions) that do not change what A and B mean once trained.
_HARMLESS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "r", "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern",
    "alpha_pattern", "layers_to_transform", "layers_pattern", "megatron_core", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config", "ensure_weight_tying", "init_lora_weights",
    "bias", "merge_weights",
    # for Conv1D of GPT-2, which boli has no site for; the two matrices are stored the same way round
    "fan_in_fan_out",
}  # fmt: skip
_REASONS = {
    "use_dora": "it is DoRA, whose magnitude depends on the merged weight",
    "lora_bias": "it trained biases (lora_bias)",
    "modules_to_save": "it replaces whole modules (modules_to_save: {value})",
    "trainable_token_indices": "it trained token embeddings (trainable_token_indices)",
    "layer_replication": "its base has layers repeated (layer_replication)",
    "alora_invocation_tokens": "it is aLoRA, active behind an invocation text only",
    "target_parameters": "it adapts bare parameters and no modules (target_parameters: {value})",
    "use_qalora": "it is QA-LoRA, which pools the inputs in groups",
    "use_bdlora": "it is BD-LoRA, whose matrices are block-diagonal",
    "arrow_config": "it is an Arrow router over other adapters",
    "kasa_config": "it is KaSA, which truncates the base's weights",
    "monteclora_config": "it is MonteCLoRA, which samples its matrices",
    "velora_config": "it is VeLoRA, which carries more than the two matrices",
    "megatron_config": "it is for Megatron's parallel layers",
    "enable_lora": "it is of PEFT before 0.3, with several updates in one matrix (enable_lora)",
}
_TENSOR_REASONS = (
    ("lora_embedding_", "a trained embedding"),
    ("lora_magnitude_vector", "DoRA's magnitude"),
    ("modules_to_save", "a module saved whole"),
    ("trainable_tokens", "trained token embeddings"),
    ("lora_E", "AdaLoRA's singular values"),
    ("lora_diag", "KaSA's singular values"),
    ("bias", "a trained bias"),
)


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


def read_config(folder: Path, name: str = "") -> dict[str, Any]:
    """`adapter_config.json`, checked for kinds that cannot be mixed exactly. name: what messages call the adapter."""
    name = name or str(folder)
    path = folder / CONFIG
    if not folder.is_dir():
        raise AdapterError(f"{name} is no folder", valid=f"a folder with {CONFIG} and {WEIGHTS}", remedy=AGAIN)
    if not path.is_file():
        raise AdapterError(
            f"{name} holds no {CONFIG}", valid="a LoRA folder written by PEFT's save_pretrained", remedy=AGAIN
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{name}: {CONFIG} is no JSON: {error}", remedy=AGAIN) from None
    if not isinstance(config, dict):
        raise AdapterError(f"{name}: {CONFIG} holds a {type(config).__name__}", valid="an object", remedy=AGAIN)
    _refuse_unmixable(config, name)
    return config


def _refuse_unmixable(config: dict[str, Any], name: str) -> None:
    def refuse(reason: str, remedy: str = RETRAIN) -> None:
        raise AdapterError(
            f"{name} cannot be mixed exactly: {reason}", valid="plain LoRA on linear modules", remedy=remedy
        )

    kind = config.get("peft_type")
    if str(kind).upper() != "LORA":
        refuse(f"its kind (peft_type) is {kind!r}")
    if config.get("bias", "none") not in ("none", None):
        refuse(f"it trained biases (bias: {config['bias']!r})")
    for key, value in config.items():
        if value and key not in _HARMLESS:
            refuse(_REASONS.get(key, "it uses {key}, which boli does not know").format(key=key, value=_short(value)))
    init = config.get("init_lora_weights", True)
    if init is not None and not isinstance(init, bool) and str(init).lower() not in _PLAIN_INITS:
        refuse(
            f"its initialisation {init!r} changed the base's weights",
            "save it with PEFT's save_pretrained(FOLDER, path_initial_model_for_weight_conversion=INITIAL), which "
            "turns it into plain LoRA, then boli adapters add FOLDER",
        )


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def require_safetensors(folder: Path, name: str = "") -> Path:
    """Where its tensors are. Raises AdapterError for a folder without, saying so of a pickle."""
    name = name or str(folder)
    path = folder / WEIGHTS
    if path.is_file():
        return path
    if pickles := sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES):
        raise pickled(name, pickles[0])
    raise AdapterError(f"{name} holds no {WEIGHTS}", remedy=AGAIN)


def pickled(name: str, file: str) -> AdapterError:
    """The refusal of an adapter whose weights are a pickle."""
    return AdapterError(
        f"{name} holds its weights as a pickle ({file}), which can run code when it is read",
        valid=WEIGHTS,
        remedy='where you trust it, in its folder: python -c "import torch, safetensors.torch as s; '
        f"s.save_file({{k: v.contiguous() for k, v in torch.load('{file}', weights_only=True).items()}}, "
        f"'{WEIGHTS}')\"",
    )


def read_weights(folder: Path, name: str = "") -> LoraWeights:
    """Config and tensors, checked. Raises AdapterError with the reason and what to do. name: for messages."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    name = name or str(folder)
    config = read_config(folder, name)
    path = require_safetensors(folder, name)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"{name}: {WEIGHTS} is damaged: {error}", remedy=AGAIN) from None
    return _assemble(tensors, config, name)


def read_some(folder: Path, sites: Collection[str], name: str = "") -> dict[str, LoraSite]:
    """The pairs of `sites` alone, for readers that go through many adapters a few sites at a time.

    For adapters that a store has checked: what the other sites hold is not looked at. Raises AdapterError for a site
    that the adapter does not have.
    """
    from safetensors import SafetensorError, safe_open

    folder, name = Path(folder), name or str(folder)
    config = read_config(folder, name)
    pairs: dict[str, dict[str, torch.Tensor]] = {site: {} for site in sites}
    try:
        with safe_open(require_safetensors(folder, name), framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  # it is no dict
                match = _TENSOR.fullmatch(key)
                site = match["site"] if match else ""
                while site.startswith(PREFIX):
                    site = site.removeprefix(PREFIX)
                if match and site in pairs:
                    pairs[site][match["which"]] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(f"{name}: {WEIGHTS} is damaged: {error}", remedy=AGAIN) from None
    if missing := [site for site, pair in pairs.items() if not pair]:
        raise AdapterError(f"{name} does not adapt {missing[0]}", valid="a site that it has", remedy=AGAIN)
    return {site: _pair(site, pair, config, name) for site, pair in pairs.items()}


def _assemble(tensors: dict[str, "torch.Tensor"], config: dict[str, Any], name: str) -> LoraWeights:
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    adapters = set()
    for key, tensor in tensors.items():
        match = _TENSOR.fullmatch(key)
        if not match:
            kind = next((what for part, what in _TENSOR_REASONS if part in key), "no LoRA matrix of a linear module")
            raise AdapterError(
                f"{name} holds the tensor {key!r}: {kind}",
                valid="...lora_A.weight and ...lora_B.weight",
                remedy=RETRAIN,
            )
        adapters.add(match["adapter"])
        site = match["site"]
        while site.startswith(PREFIX):
            site = site.removeprefix(PREFIX)
        pair = pairs.setdefault(site, {})
        if match["which"] in pair:
            raise AdapterError(
                f"{name} holds lora_{match['which']} of {site} twice",
                valid="one adapter in one folder",
                remedy="save each adapter on its own: save_pretrained(FOLDER, selected_adapters=[NAME])",
            )
        pair[match["which"]] = tensor
    if not pairs:
        raise AdapterError(f"{name} holds no weights at all", remedy=AGAIN)
    if len(adapters) > 1:
        raise AdapterError(
            f"{name} holds several adapters: {', '.join(sorted(map(str, adapters)))}",
            valid="one adapter in one folder",
            remedy="save each adapter on its own: save_pretrained(FOLDER, selected_adapters=[NAME])",
        )
    weights = LoraWeights({site: _pair(site, pair, config, name) for site, pair in sorted(pairs.items())}, config, name)
    if max(weights.update_norms().values()) == 0.0:
        raise AdapterError(
            f"{name} does nothing: the update of each of its {len(weights.sites)} sites is zero",
            valid="an adapter that was trained",
            remedy=RETRAIN,
        )
    return weights


def _pair(site: str, pair: dict[str, "torch.Tensor"], config: dict[str, Any], name: str) -> LoraSite:
    if len(pair) != 2:
        raise AdapterError(
            f"{name} holds only lora_{next(iter(pair))} of {site}", valid="both lora_A and lora_B", remedy=AGAIN
        )
    if not all(tensor.is_floating_point() for tensor in pair.values()):
        kinds = sorted({str(tensor.dtype) for tensor in pair.values()})
        raise AdapterError(f"{name}: {site} is {', '.join(kinds)}", valid="fp32, fp16, bf16", remedy=RETRAIN)
    A, B = pair["A"].float(), pair["B"].float()
    if A.ndim > 2 or B.ndim > 2:
        raise AdapterError(
            f"{name} cannot be mixed exactly: {site} is a convolution, A {list(A.shape)}, B {list(B.shape)}",
            valid="plain LoRA on linear modules",
            remedy=RETRAIN,
        )
    if A.ndim != 2 or B.ndim != 2 or A.shape[0] != B.shape[1]:
        raise AdapterError(
            f"{name}: shapes of {site} do not fit: A {list(A.shape)}, B {list(B.shape)}",
            valid="A [r, in], B [out, r]",
            remedy=AGAIN,
        )
    if not (A.isfinite().all() and B.isfinite().all()):
        raise AdapterError(
            f"{name}: {site} holds NaN or infinite values",
            valid="finite values",
            remedy="boli train adapter  (its training diverged: with a lower learning rate)",
        )
    return LoraSite(A, B, _scale(config, site, A.shape[0], name))


def _scale(config: dict[str, Any], site: str, rank: int, name: str) -> float:
    """alpha / r, or alpha / sqrt(r) under rsLoRA, with PEFT's per-module patterns."""
    alpha = by_pattern(config.get("alpha_pattern"), site, config.get("lora_alpha", _DEFAULT), name)
    declared = by_pattern(config.get("rank_pattern"), site, config.get("r", _DEFAULT), name)
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        raise AdapterError(f"{name}: lora_alpha of {site} is {alpha!r}", valid="a number", remedy=AGAIN)
    if declared != rank:
        raise AdapterError(
            f"{name}: {site} has rank {rank}, its {CONFIG} says {declared!r}",
            valid="one and the same rank (r, rank_pattern)",
            remedy=AGAIN,
        )
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def by_pattern(patterns: Mapping[str, Any] | None, site: str, default: Any, name: str = "adapter") -> Any:
    """The value of the first pattern that matches, by the expression of PEFT 0.21's `get_pattern_key`: a pattern is a
    regular expression for the end of the path, from a dot on; `^` anchors it to the path's beginning."""
    if patterns is not None and not isinstance(patterns, Mapping):
        raise AdapterError(f"{name}: a pattern table of {CONFIG} is {patterns!r}", valid="an object", remedy=AGAIN)
    for pattern, value in (patterns or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", site):
                return value
        except re.error as error:
            raise AdapterError(
                f"{name}: {pattern!r} is no regular expression: {error}", valid="what PEFT accepts", remedy=AGAIN
            ) from None
    return (patterns or {}).get(site, default)


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
            f"{weights.name}: {len(strangers)} of {len(weights.sites)} sites do not exist in {base_name}, "
            f"e.g. {strangers[0]}",
            valid=", ".join(sorted({site.kind for site in sites})) + " of that base model's layers",
            remedy=_other_base(weights),
        )
    for name, pair in weights.sites.items():
        site = known[name]
        if (pair.A.shape[1], pair.B.shape[0]) != (site.in_features, site.out_features):
            raise AdapterError(
                f"{weights.name}: {name} is {pair.A.shape[1]} -> {pair.B.shape[0]}, "
                f"{base_name} has {site.in_features} -> {site.out_features}",
                valid="an adapter of the same model size",
                remedy=_other_base(weights),
            )


def _other_base(weights: LoraWeights) -> str:
    made_for = weights.config.get("base_model_name_or_path")
    return "boli adapters add FOLDER --model NAME  (the base model it was trained on" + (
        f"; its {CONFIG} names {made_for})" if made_for else ")"
    )
