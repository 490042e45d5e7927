"""A folder that faster-whisper reads (Whisper in CTranslate2's format) as the files of transformers.

OpenAI published Whisper in half precision, and fp16 in CTranslate2's format is exactly that: what comes out of it has the
sha256 of the hub's `model.safetensors`. The format: github.com/OpenNMT/CTranslate2, python/ctranslate2/specs/model_spec.py.
"""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch

WEIGHTS, CONFIG, TOKENIZER = "model.bin", "config.json", "tokenizer.json"
SPEC = "WhisperSpec"
TYPES = {0: "float32", 1: "int8", 2: "int16", 3: "int32", 4: "float16", 5: "bfloat16"}


def matches(folder: Path) -> bool:
    """It holds Whisper's weights in this format."""
    try:
        with open(folder / WEIGHTS, "rb") as file:
            _number(file, "I")
            return _text(file) == SPEC
    except (OSError, ValueError):
        return False


def convert(folder: Path, target: Path) -> None:
    """Write config, weights (fp32), tokenizer, generation config and feature extractor into `target`.

    Raises ModelError for a damaged file, one whose weights are quantised (they are not the published ones any more), or
    one without its tokenizer.
    """
    from safetensors.torch import save_file
    from transformers import WhisperConfig, WhisperTokenizer

    from zoo.whisper_files import build_generation_config, save_extractor

    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"{folder} has no {TOKENIZER}",
            valid="the whole folder that faster-whisper reads",
            remedy=f"ct2-transformers-converter --copy_files {TOKENIZER} ..., or put the model's own there",
        )
    variables = read(folder / WEIGHTS)
    try:
        tensors = renamed(variables)
    except KeyError as error:
        raise ModelError(f"{folder / WEIGHTS} lacks {error}", valid="a whole file of Whisper's weights") from None
    notes = json.loads((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
    target.mkdir(parents=True, exist_ok=True)
    (target / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes())
    tokenizer = WhisperTokenizer.from_pretrained(str(target), local_files_only=True)
    ids = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "startoftranscript", "translate")
    }
    position = tensors["model.encoder.embed_positions.weight"]
    words = tensors["model.decoder.embed_tokens.weight"]
    config = WhisperConfig(
        vocab_size=words.shape[0],
        d_model=words.shape[1],
        num_mel_bins=tensors["model.encoder.conv1.weight"].shape[1],
        max_source_positions=position.shape[0],
        max_target_positions=tensors["model.decoder.embed_positions.weight"].shape[0],
        bos_token_id=ids["endoftext"],
        eos_token_id=ids["endoftext"],
        pad_token_id=ids["endoftext"],
        decoder_start_token_id=ids["startoftranscript"],
        suppress_tokens=notes.get("suppress_ids"),
        begin_suppress_tokens=notes.get("suppress_ids_begin"),
        architectures=["WhisperForConditionalGeneration"],
        **{
            f"{side}_{what}": value
            for side in ("encoder", "decoder")
            for what, value in (
                ("layers", _layers(variables, side)),
                ("attention_heads", int(variables[f"{side}/num_heads"])),
                ("ffn_dim", variables[f"{side}/layer_0/ffn/linear_0/weight"].shape[0]),
            )
        },
    )
    config.save_pretrained(target)
    spoken = notes.get("lang_ids") or list(range(ids["startoftranscript"] + 1, ids["translate"]))
    languages = [token.strip("<|>") for token in tokenizer.convert_ids_to_tokens(spoken)]
    generation = build_generation_config(tokenizer, languages, config.max_target_positions)
    generation.suppress_tokens = notes.get("suppress_ids")
    generation.begin_suppress_tokens = notes.get("suppress_ids_begin")
    if notes.get("alignment_heads"):
        generation.alignment_heads = notes["alignment_heads"]
    generation.save_pretrained(target)
    save_extractor(target, config.num_mel_bins)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def read(path: Path) -> "dict[str, np.ndarray | torch.Tensor]":
    """Name -> value of each variable of a file in CTranslate2's format. Raises ModelError where it is damaged."""
    found: dict[str, Any] = {}
    try:
        with open(path, "rb") as file:
            _number(file, "I")
            if _text(file) != SPEC:
                raise ValueError("it is no Whisper model")
            _number(file, "I")
            for _ in range(_number(file, "I")):
                name = _text(file)
                shape = [_number(file, "I") for _ in range(_number(file, "B"))]
                found[name] = _value(_number(file, "B"), shape, file, name)
            for _ in range(_number(file, "I")):  # equal ones are written once
                name = _text(file)
                found[name] = found[_text(file)]
    except (ValueError, KeyError, OSError) as error:
        raise ModelError(
            f"{path} cannot be read: {error}",
            valid="Whisper's weights in CTranslate2's format, whole",
            remedy="copy or convert it again",
        ) from None
    if quantised := [name for name in found if name.endswith("weight_scale")]:
        raise ModelError(
            f"{path} holds rounded weights ({len(quantised)} matrices in int8 or int16)",
            valid="float32, float16 or bfloat16, the published weights",
            remedy="ct2-transformers-converter --quantization float16 ...",
        )
    return found


def _value(kind: int, shape: list[int], file: BinaryIO, name: str) -> Any:
    import numpy as np
    import torch

    n_bytes = _number(file, "I")
    if kind not in TYPES:
        raise ValueError(f"{name} has the type {kind}")
    content = bytearray(_exactly(file, n_bytes))
    if TYPES[kind] == "bfloat16":
        return torch.frombuffer(content, dtype=torch.bfloat16).reshape(shape)
    return np.frombuffer(content, dtype=TYPES[kind]).reshape(shape)


def renamed(variables: "dict[str, Any]") -> "dict[str, torch.Tensor]":
    """transformers' names and fp32, joined projections taken apart. Raises KeyError where one is missing."""
    found: dict[str, torch.Tensor] = {}

    def take(into: str, name: str, rows: slice = slice(None)) -> None:
        found[f"model.{into}"] = _float(variables[name])[rows].clone()

    def linear(into: str, name: str, rows: slice = slice(None), bias: bool = True) -> None:
        take(f"{into}.weight", f"{name}/weight", rows)
        if bias:
            take(f"{into}.bias", f"{name}/bias", rows)

    def norm(into: str, name: str) -> None:
        take(f"{into}.weight", f"{name}/layer_norm/gamma")
        take(f"{into}.bias", f"{name}/layer_norm/beta")

    linear("encoder.conv1", "encoder/conv1")
    linear("encoder.conv2", "encoder/conv2")
    take("decoder.embed_tokens.weight", "decoder/embeddings/weight")
    width = variables["decoder/embeddings/weight"].shape[1]
    first, second, third = slice(0, width), slice(width, 2 * width), slice(2 * width, 3 * width)
    for side in ("encoder", "decoder"):
        take(f"{side}.embed_positions.weight", f"{side}/position_encodings/encodings")
        norm(f"{side}.layer_norm", side)
        for i in range(_layers(variables, side)):
            into, name = f"{side}.layers.{i}", f"{side}/layer_{i}"
            joined = f"{name}/self_attention/linear_0"
            linear(f"{into}.self_attn.q_proj", joined, first)
            linear(f"{into}.self_attn.k_proj", joined, second, bias=False)
            linear(f"{into}.self_attn.v_proj", joined, third)
            linear(f"{into}.self_attn.out_proj", f"{name}/self_attention/linear_1")
            norm(f"{into}.self_attn_layer_norm", f"{name}/self_attention")
            if side == "decoder":
                linear(f"{into}.encoder_attn.q_proj", f"{name}/attention/linear_0")
                linear(f"{into}.encoder_attn.k_proj", f"{name}/attention/linear_1", first, bias=False)
                linear(f"{into}.encoder_attn.v_proj", f"{name}/attention/linear_1", second)
                linear(f"{into}.encoder_attn.out_proj", f"{name}/attention/linear_2")
                norm(f"{into}.encoder_attn_layer_norm", f"{name}/attention")
            linear(f"{into}.fc1", f"{name}/ffn/linear_0")
            linear(f"{into}.fc2", f"{name}/ffn/linear_1")
            norm(f"{into}.final_layer_norm", f"{name}/ffn")
    return found


def _float(value: Any) -> "torch.Tensor":
    import torch

    return (value if isinstance(value, torch.Tensor) else torch.from_numpy(value)).float()


def _layers(variables: dict, side: str) -> int:
    return len({name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_") and name.count("/") > 2})


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    content = file.read(n_bytes)
    if len(content) < n_bytes:
        raise ValueError("it ends too early")
    return content


def _number(file: BinaryIO, kind: str) -> int:
    return struct.unpack(f"<{kind}", _exactly(file, struct.calcsize(kind)))[0]


def _text(file: BinaryIO) -> str:
    return _exactly(file, _number(file, "H")).rstrip(b"\0").decode("ascii")
