"""What was measured, with what, on what: stands beside the measurements in every score file."""

import hashlib
import platform
import resource
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clips import Clips
from training.evaluation.metrics import hash_of_test_set
from training.evaluation.normalisers import NORMALISERS, normaliser
from training.evaluation.routing import decoding_of
from zoo.checksum import sha256

if TYPE_CHECKING:
    from router.router import Router

PACKAGES = ("torch", "transformers", "jiwer", "numpy")


def provenance(router: "Router", clips: Clips, manifests: Sequence[Path]) -> dict[str, Any]:
    """Checksums of model, adapters, classifier and manifests; hash of the test set; normalisers; decoding; machine."""
    base, records = router.base, clips.records
    config = getattr(router.classifier, "config", None)
    return {
        "model": {
            "name": base.card.name,
            "weights_sha256": base.weights_sha256,
            "tokenizer_sha256": base.tokenizer_sha256,
            "context": base.context,
            "tap": base.tap,
            "device": str(base.device),
            "dtype": str(base.dtype).removeprefix("torch."),
        },
        "adapters": {
            language: {
                "name": stored.name,
                "weights_sha256": stored.record.weights_sha256,
                "base_sha256": stored.record.base_sha256,
                "lowest_adapted_layer": stored.record.lowest_adapted_layer,
            }
            for language, stored in sorted(router.fleet.items())
        },
        "classifier": {
            "head": config.head if config else type(router.classifier).__name__,
            "languages": list(router.classifier.languages) if router.classifier is not None else [],
            "weights_sha256": config.weights_sha256 if config else base.weights_sha256,
        },
        "test_set": {
            "manifests": {Path(path).name: sha256(Path(path)) for path in manifests},
            "hash": hash_of_test_set([r.text for r in records], [r.lang for r in records], [r.id for r in records]),
            "audio_sha256": hashlib.sha256(_bytes(clips)).hexdigest(),
            "clips": len(clips),
            "hours": round(clips.hours, 4),
            "speakers": len({r.speaker for r in records}),
            "skipped": clips.skipped,
        },
        "normalisers": {name: normaliser(name).version for name in NORMALISERS},
        "decoding": decoding_of(router),
        "options": {name: getattr(router.options, name) for name in ("top_k", "threshold", "languages", "batch_size")},
        "machine": {
            "python": platform.python_version(),
            "processor": platform.machine(),
            **{name: version(name) for name in PACKAGES},
        },
    }


def sizes(router: "Router") -> dict[str, Any]:
    """Parameters of each part and the memory that was needed."""
    import torch

    head = getattr(router.classifier, "head", None)
    lora = sum(stored.record.parameters for stored in router.fleet.values())
    parameters = list(router.base.module.parameters())
    on_gpu = router.base.device.type == "cuda"
    return {
        "parameters_base": sum(p.numel() for p in parameters),
        "parameters_classifier": sum(p.numel() for p in head.parameters()) if head is not None else 0,
        "parameters_adapters": lora,
        "bytes_base": sum(p.numel() * p.element_size() for p in parameters),
        "bytes_bank": router.bank.n_bytes,
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated(router.base.device) if on_gpu else 0,
    }


def _bytes(clips: Clips) -> bytes:
    samples = clips.samples
    return (samples if isinstance(samples, np.ndarray) else samples.cpu().numpy()).tobytes()
