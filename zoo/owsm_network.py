"""Builds ESPnet's S2T network from its config and loads the weights strictly.

ESPnet's own `build_model_from_file` loads with `strict=False` and unpickles without restriction: a checkpoint of
another model loads silently, and a hostile one runs its code. Here every tensor must have its place and every place its
tensor, and the reader knows tensors only.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import owsm_files
from zoo.errors import ModelError
from zoo.espnet_import import part, quietly
from zoo.owsm_files import OwsmFiles

FRONTENDS = {"default": "espnet2.asr.frontend.default:DefaultFrontend"}
NORMALIZERS = {
    "global_mvn": "espnet2.layers.global_mvn:GlobalMVN",
    "utterance_mvn": "espnet2.layers.utterance_mvn:UtteranceMVN",
}
ENCODERS = {
    "e_branchformer": "espnet2.asr.encoder.e_branchformer_encoder:EBranchformerEncoder",
    "transformer": "espnet2.asr.encoder.transformer_encoder:TransformerEncoder",
    "conformer": "espnet2.asr.encoder.conformer_encoder:ConformerEncoder",
}
DECODERS = {"transformer": "espnet2.asr.decoder.transformer_decoder:TransformerDecoder"}
MODELS = {"espnet": "espnet2.s2t.espnet_model:ESPnetS2TModel"}
CTC = "espnet2.asr.ctc:CTC"
SAMPLE_RATES = (16_000, "16000", "16k")


def build(config: dict[str, Any], files: OwsmFiles, name: str) -> nn.Module:
    """The network with fresh weights, float32, as `espnet2.tasks.s2t.S2TTask.build_model` makes it.

    SpecAugment, error counting and flash attention are left out: they hold no weights.
    Raises ModelError where the config asks for a part this family does not know.
    """
    if "prompt_encoder" in config or "promptencoder" in config:
        raise ModelError(
            f"{name} is an OWSM-CTC model: its encoder reads language and task tokens before its first layer, "
            "so no language can be heard in it first",
            valid="OWSM with a decoder (v3.1, v3.2, v4)",
            remedy="boli zoo list --family owsm",
        )
    for option in ("input_size", "preencoder", "postencoder"):
        if config.get(option) is not None:
            raise ModelError(f"{name} has {option}={config[option]!r}", valid=f"{option}: null")
    rate = (config.get("frontend_conf") or {}).get("fs", 16_000)
    if rate not in SAMPLE_RATES:
        raise ModelError(f"{name} hears audio at {rate} Hz", valid="16000")
    owsm_files.frame_samples(config, name)
    tokens = config["token_list"]
    model_options = {**(config.get("model_conf") or {}), "report_cer": False, "report_wer": False}
    if float(model_options.get("ctc_weight", 0.5)) >= 1.0:
        raise ModelError(f"{name} has no decoder (ctc_weight 1)", valid="an encoder-decoder model")
    with quietly():
        try:
            frontend = _part(FRONTENDS, config, "frontend", name, "default")(**(config.get("frontend_conf") or {}))
            encoder = _part(ENCODERS, config, "encoder", name)(
                input_size=frontend.output_size(), **(config.get("encoder_conf") or {})
            )
            size = encoder.output_size()
            network = _part(MODELS, config, "model", name, "espnet")(
                vocab_size=len(tokens),
                token_list=tokens,
                frontend=frontend,
                specaug=None,
                normalize=_normalizer(config, files, name),
                preencoder=None,
                encoder=encoder,
                postencoder=None,
                decoder=_part(DECODERS, config, "decoder", name)(
                    vocab_size=len(tokens), encoder_output_size=size, **(config.get("decoder_conf") or {})
                ),
                ctc=part(CTC)(odim=len(tokens), encoder_output_size=size, **(config.get("ctc_conf") or {})),
                **model_options,
            )
        except ModelError:
            raise
        except Exception as error:  # whatever ESPnet's constructors raise for options they do not know
            raise ModelError(
                f"{name} cannot be built from {files.config}: {type(error).__name__}: {error}",
                valid="a config that espnet 202511 can build",
            ) from error
    for module in network.modules():
        if hasattr(module, "use_flash_attn"):
            module.use_flash_attn = False
        if type(module).__name__ == "MultiHeadedAttention":
            module.use_sdpa = True
    return network


def load_weights(network: nn.Module, path: Path, name: str) -> None:
    """Raises ModelError where the file is no checkpoint, or where one tensor is missing, left over, of another shape or
    not finite."""
    state = _read(path, name)
    own = network.state_dict()
    state = {key: value for key, value in state.items() if key in own or not key.endswith(".pe")}  # written until v0.5
    shapes = [f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}" for key in own
              if key in state and state[key].shape != own[key].shape]  # fmt: skip
    wrong = [
        *(f"{key} is missing" for key in sorted(set(own) - set(state))),
        *(f"{key} has no place" for key in sorted(set(state) - set(own))),
        *shapes,
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ModelError(f"The weights of {name} do not fit its config: {shown}", remedy=f"boli zoo verify {name}")
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ModelError(f"{key} of {name} is not finite", remedy=f"boli zoo verify {name}")
    network.load_state_dict(state, strict=True)


def _read(path: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"The weights of {name} in {path} cannot be read: {str(error).splitlines()[0]}",
            valid="a checkpoint that ESPnet wrote, tensors only",
            remedy=f"boli zoo verify {name}",
        ) from None
    except Exception as error:  # safetensors' own
        raise ModelError(f"The weights of {name} in {path} cannot be read: {error}") from None
    if isinstance(state, dict) and isinstance(state.get("module"), dict):  # DeepSpeed's checkpoints
        state = state["module"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} of {name} is no state dict", valid="names and tensors, as ESPnet's *.pth")
    return state


def _part(table: dict[str, str], config: dict[str, Any], option: str, name: str, default: str = "") -> Any:
    wanted = config.get(option) or default
    if wanted not in table:
        raise ModelError(f"The {option} {wanted!r} of {name} is not supported", valid=", ".join(table))
    return part(table[wanted])


def _normalizer(config: dict[str, Any], files: OwsmFiles, name: str) -> Any:
    if config.get("normalize", "utterance_mvn") is None:
        return None
    options = dict(config.get("normalize_conf") or {})
    if "stats_file" in options:
        options["stats_file"] = str(owsm_files.inside(files.folder, str(options["stats_file"]), name))
    return _part(NORMALIZERS, config, "normalize", name, "utterance_mvn")(**options)
