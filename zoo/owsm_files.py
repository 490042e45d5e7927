"""Where the files of an ESPnet model lie in its folder, and its config.

ESPnet's own packs and hub repositories have a `meta.yaml` that names config and weights; a plain experiment folder has
`config.yaml` and one checkpoint. The config names further files (bpe.model, feats_stats.npz) by the path they had where
the model was trained; they are looked for inside the folder by the end of that path, never outside.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zoo.errors import ModelError

META, CONFIG = "meta.yaml", "config.yaml"
WEIGHTS = (".pth", ".safetensors")
SUBSAMPLING = {"conv2d": 4, "conv2d1": 1, "conv2d2": 2, "conv2d6": 6, "conv2d8": 8}
"""ESPnet's `input_layer` -> feature frames per encoder frame."""


@dataclass(frozen=True)
class OwsmFiles:
    folder: Path
    config: Path
    weights: Path


def recognises(folder: Path) -> bool:
    """Is this an ESPnet speech-to-text model? Reads meta.yaml or the config's keys, never weights."""
    meta = folder / META
    if meta.is_file():
        try:
            return "s2t_model_file" in (_read(meta).get("files") or {})
        except ModelError:  # somebody else's meta.yaml
            return False
    config = folder / CONFIG
    if not config.is_file() or not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        return False
    return re.search(r"^preprocessor: *['\"]?s2t", config.read_text(encoding="utf-8"), re.MULTILINE) is not None


def find(folder: Path, name: str) -> OwsmFiles:
    """Raises ModelError where config or weights are missing, or where several could be meant."""
    meta = folder / META
    if meta.is_file():
        named = _read(meta)
        pairs = {**(named.get("yaml_files") or {}), **(named.get("files") or {})}
        for key in ("s2t_train_config", "s2t_model_file"):
            if not isinstance(pairs.get(key), str):
                raise ModelError(f"{META} of {name} names no {key}", valid="the meta.yaml that espnet2's pack writes")
        return OwsmFiles(
            folder,
            inside(folder, pairs["s2t_train_config"], name),
            inside(folder, pairs["s2t_model_file"], name),
        )
    config = folder / CONFIG
    if not config.is_file():
        raise ModelError(f"{name} has no {META} and no {CONFIG} in {folder}", valid="an unpacked ESPnet model")
    weights = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS)
    if len(weights) != 1:
        raise ModelError(
            f"{name} has {len(weights)} checkpoints in {folder}: {', '.join(path.name for path in weights[:5])}",
            valid=f"one of {', '.join('*' + suffix for suffix in WEIGHTS)} beside {CONFIG}, or a {META} that names it",
            remedy=f"move the others out of {folder}",
        )
    return OwsmFiles(folder, config, weights[0])


def inside(folder: Path, wanted: str, name: str) -> Path:
    """The file whose path ends as `wanted` does: as much of the end as there is. Raises ModelError for none."""
    parts = [part for part in PurePosixPath(wanted.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file():
            return path
    found = sorted(folder.rglob(parts[-1])) if parts else []
    if len(found) == 1 and found[0].is_file():
        return found[0]
    raise ModelError(
        f"{name} needs {wanted}, which is not in {folder}",
        valid="a folder with all files its config names (espnet2's pack takes them as `option`)",
        remedy=f"copy {parts[-1] if parts else wanted} into {folder}",
    )


def read_config(files: OwsmFiles, name: str) -> dict[str, Any]:
    """The training config, its token list read in. Raises ModelError where it is no S2T config."""
    config = _read(files.config)
    for key in ("token_list", "encoder", "model_conf"):
        if key not in config:
            raise ModelError(
                f"{files.config} of {name} has no {key}", valid="the config.yaml of an ESPnet S2T training"
            )
    tokens = config["token_list"]
    if isinstance(tokens, str):
        text = inside(files.folder, tokens, name).read_text(encoding="utf-8")
        config["token_list"] = [line.rstrip() for line in text.splitlines()]
    config["token_list"] = [str(token) for token in config["token_list"]]
    return config


def frame_samples(config: dict[str, Any], name: str) -> int:
    """Samples per encoder frame. Raises ModelError for an input layer this family does not know."""
    layer = (config.get("encoder_conf") or {}).get("input_layer", "conv2d")
    if layer not in SUBSAMPLING:
        raise ModelError(f"The input layer {layer!r} of {name} is not supported", valid=", ".join(SUBSAMPLING))
    hop = int((config.get("frontend_conf") or {}).get("hop_length", 128))
    return hop * SUBSAMPLING[layer]


def _read(path: Path) -> dict[str, Any]:
    """YAML by libyaml where it is there: a token list of 50,000 lines takes the Python reader seconds."""
    import yaml

    try:
        read = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path} cannot be read: {error}", valid="a YAML file as ESPnet writes it") from None
    if not isinstance(read, dict):
        raise ModelError(f"{path} holds a {type(read).__name__}", valid="a mapping, as ESPnet writes it")
    return read
