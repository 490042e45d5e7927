"""A trained head on disk: weights as safetensors, its config as JSON, which names their checksum."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def write_head(
    folder: Path, config_name: str, weights_name: str, config: Mapping[str, Any], head: torch.nn.Module
) -> None:
    """Write both files; each appears whole or not at all, the JSON last. `weights_sha256` of the config is filled in."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()})
    content = {**config, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    for name, data in (
        (weights_name, weights),
        (config_name, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()),
    ):
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(data)
        os.replace(temporary, folder / name)
