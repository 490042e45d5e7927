"""ESPnet S2T models trained for half a minute on toy speech: the debug model, and small ones of other make."""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from tests import toy
from zoo import debug_owsm
from zoo.owsm_family import family

ROOT = Path(__file__).parent.parent
SHORT_S = 1.0  # what the variants are trained on and padded to, so that a comparison with ESPnet is quick


def _encoder(**changes: Any) -> dict[str, Any]:
    return {**debug_owsm.config()["encoder_conf"], **changes}


TRANSFORMER = {
    "output_size": 64, "attention_heads": 2, "linear_units": 128, "num_blocks": 3, "dropout_rate": 0.0,
    "positional_dropout_rate": 0.0, "input_layer": "conv2d",
}  # fmt: skip
CONFORMER = {
    **TRANSFORMER, "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn", "rel_pos_type": "latest",
    "macaron_style": True, "use_cnn_module": True, "cnn_module_kernel": 7, "num_blocks": 2,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "v3.1": {},
    # a hop of 5 ms: at 80 ms a frame one second has too few frames for ESPnet's CTC scorer, which then fails
    "v4": {
        "encoder_conf": _encoder(input_layer="conv2d8", num_blocks=2),
        "frontend_conf": {**debug_owsm.config()["frontend_conf"], "hop_length": 80},
    },
    "transformer": {"encoder": "transformer", "encoder_conf": TRANSFORMER},
    "conformer": {
        "encoder": "conformer",
        "encoder_conf": CONFORMER,
        "normalize": "utterance_mvn",
        "normalize_conf": {},
    },
}
STEPS = {"debug": 800, "v3.1": 240, "v4": 240, "transformer": 420, "conformer": 240}


def folder(kind: str = "debug") -> Path:
    """kind: `debug` (30 s, trained in context dynamic) or one of VARIANTS (1 s). Trained once, then kept."""
    target = _cache() / kind.replace(".", "_")
    if not (target / debug_owsm.WEIGHTS).is_file():
        staging = target.with_name(f"{target.name}.{os.getpid()}")
        staging.mkdir(parents=True)
        made = debug_owsm.config() if kind == "debug" else debug_owsm.config(SHORT_S, **VARIANTS[kind])
        debug_owsm.build(staging, made)
        base = family.load(staging, family.card(staging, kind), context="dynamic")
        base.module.requires_grad_(True)
        base.module.train()
        toy.train(
            base,
            base.module,
            ("en", "en", "en", "en", "hi", "it", "pa", "te"),
            seed=1,
            steps=STEPS[kind],
            lr=2e-3,
            batch=12,
        )
        torch.save(base.module.eval().state_dict(), staging / debug_owsm.WEIGHTS)
        toy._settle(staging, target)
    return target


def _cache() -> Path:
    sources = [Path(__file__), Path(toy.__file__), ROOT / "zoo/debug_owsm.py"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    return ROOT / ".cache" / "tests" / f"owsm-{digest}"
