"""Which parameters are trained: LoRA on chosen sites, or the model itself."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.adapter_recipe import AdapterOptions
from zoo.errors import AdapterError, RecipeError
from zoo.interface import BaseModel, Site

if TYPE_CHECKING:
    from peft import PeftModel


def chosen_sites(base: BaseModel, options: AdapterOptions) -> list[Site]:
    """Sites of the wanted kinds and layers. Raises RecipeError where a kind does not exist or nothing is left."""
    kinds = sorted({site.kind for site in base.sites})
    wanted = list(options.targets) or list(base.card.targets) or kinds
    if wanted == ["all"]:
        wanted = kinds
    if unknown := sorted(set(wanted) - set(kinds)):
        raise RecipeError(
            f"Recipe option adapter.targets names {', '.join(unknown)}, which {base.card.name} does not have",
            valid=", ".join(["all", *kinds]),
        )
    sites = [site for site in base.sites if site.kind in wanted]
    if options.layers == "above_tap":
        sites = [site for site in sites if site.part == "decoder" or site.layer >= base.tap]
    if not sites:
        raise RecipeError(
            f"Nothing of {base.card.name} is left to adapt", valid="a tap below the last layer, more targets"
        )
    return sites


def make_trainable(base: BaseModel, options: AdapterOptions, quantize: str) -> "tuple[nn.Module, PeftModel | None]":
    """Inject LoRA into `base.module`, or open it up for fine-tuning. Returns what is trained, and PEFT's model."""
    module = base.module
    if options.method == "lora":
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        if quantize and getattr(module, "is_quantized", False):
            module = prepare_model_for_kbit_training(module, use_gradient_checkpointing=False)
        config = LoraConfig(
            r=options.rank,
            lora_alpha=options.scale_alpha,  # type: ignore[arg-type]  # PEFT takes any number
            lora_dropout=options.dropout,
            target_modules=[site.name for site in chosen_sites(base, options)],
            use_rslora=options.rslora,
        )
        with warnings.catch_warnings():  # PEFT asks transformers for a property by its old name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            lora = get_peft_model(module, config)
        lora.peft_config["default"].base_model_name_or_path = base.card.name
        return lora, lora
    if quantize:
        raise RecipeError(
            f"Method {options.method} cannot train a base held as {quantize}", valid="adapter.method=lora"
        )
    names = {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        inside = options.method == "full" or ".decoder." in f".{name}"
        # sinusoids are a constant, in Whisper as in the Transformer's own paper
        parameter.requires_grad_(inside and not name.endswith("encoder.embed_positions.weight"))
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise RecipeError(f"{base.card.name} has no decoder to train", valid=", ".join(sorted(names)[:3]) + ", ...")
    return module, None


def load_start(lora: "PeftModel | None", folder: Path) -> None:
    """Begin with the weights of another adapter, which must have the same sites and rank. Raises AdapterError."""
    from adapters.peft_files import read_weights

    if lora is None:
        raise RecipeError("adapter.start_from needs adapter.method=lora", valid="lora")
    weights = read_weights(folder)
    own = dict(lora.named_parameters())
    prefix = "base_model.model."
    targets = {name.removeprefix(prefix).split(".lora_A.")[0] for name in own if ".lora_A." in name}
    if set(weights.sites) != targets:
        missing = sorted(targets ^ set(weights.sites))
        raise AdapterError(
            f"{folder} adapts {len(weights.sites)} sites, this recipe {len(targets)}; {missing[0]} is in one only",
            remedy="use the same adapter.targets and adapter.layers as the adapter to start from",
        )
    with torch.no_grad():
        for site, pair in weights.sites.items():
            for which, tensor in (("A", pair.A), ("B", pair.B)):
                parameter = own[f"{prefix}{site}.lora_{which}.default.weight"]
                if parameter.shape != tensor.shape:
                    raise AdapterError(
                        f"{folder} has rank {pair.rank}, this recipe another", remedy=f"adapter.rank={pair.rank}"
                    )
                parameter.copy_(tensor)


def stages(base: BaseModel, network: nn.Module, options: AdapterOptions) -> list[list[nn.Parameter]]:
    """Trained parameters in the order in which they are set free, from the output down; one group where all are at
    once. A decoder lies above every encoder layer."""
    trained = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if options.progressive < 2:
        return [[parameter for _, parameter in trained]]
    depth = {site.name: (site.part == "decoder", site.layer) for site in base.sites}

    def place(name: str) -> tuple[bool, int]:
        found = [where for site, where in depth.items() if f".{site}." in f".{name}"]
        return max(found, default=(True, 10**6))

    order = sorted({place(name) for name, _ in trained}, reverse=True)
    group_of = {where: i * options.progressive // len(order) for i, where in enumerate(order)}
    groups: list[list[nn.Parameter]] = [[] for _ in range(options.progressive)]
    for name, parameter in trained:
        groups[group_of[place(name)]].append(parameter)
    return [group for group in groups if group]
