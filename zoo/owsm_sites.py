"""The linear modules of an ESPnet S2T network that LoRA may attach to."""

import re
from typing import Literal

from torch import nn

from zoo.interface import Site

# `linear_pos` sees positions, one row for the whole batch, and is no site; `0` is a linear inside a Sequential.
KINDS = ("linear_q", "linear_k", "linear_v", "linear_out", "w_1", "w_2", "channel_proj2", "merge_proj")
_PATH = re.compile(r"(encoder\.encoders|decoder\.decoders)\.(\d+)\.(?:([\w.]+)\.)?(\w+)")


def sites(module: nn.Module) -> tuple[Site, ...]:
    """Encoder modules and cross-attention keys and values see frames; all else in the decoder sees tokens."""
    found = []
    for name, child in module.named_modules():
        match = _PATH.fullmatch(name)
        if not match or match[4] not in KINDS or not hasattr(child, "in_features"):
            continue
        part: Literal["encoder", "decoder"] = "encoder" if match[1].startswith("encoder") else "decoder"
        frames = part == "encoder" or (match[3] == "src_attn" and match[4] in ("linear_k", "linear_v"))
        layer = int(match[2])
        found.append(Site(name, "frames" if frames else "tokens", part, layer, child.in_features, child.out_features))
    return tuple(found)
