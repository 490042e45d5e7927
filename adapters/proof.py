"""The proof that an adapter works on a base model: every tensor has its site, every site's update is measured, and the
base's logits change on a fixed clip. An adapter that does nothing is an error, not a silence.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.peft_files import LoraWeights, check_fits, lowest_adapted_layer
from zoo import cache
from zoo.errors import AdapterError
from zoo.speech import SAMPLE_RATE, Utterance

if TYPE_CHECKING:
    import torch

PROBE_S = 0.9
PROBE_TEXT = "a i e"


@dataclass(frozen=True)
class Proof:
    """What was measured."""

    logit_change: float
    """Largest change of any logit on the probe clip."""
    noise: float
    """Below this a change may be rounding: see `_noise`."""
    update_norms: dict[str, float]
    """Site -> Frobenius norm of alpha/r BA."""
    lowest_adapted_layer: int
    parameters: int


def probe() -> Utterance:
    """The fixed clip: a rising harmonic sweep with a syllable's rhythm over faint noise, 0.9 s."""
    import numpy as np

    t = np.arange(int(PROBE_S * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * (120 * t + 60 * t**2)
    voice = sum(np.sin(n * phase) / n for n in range(1, 20)) * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * t))
    noise = np.random.default_rng(0).standard_normal(len(t))
    return Utterance((0.1 * voice + 0.005 * noise).astype(np.float32), "probe clip")


def prove(base, weights: LoraWeights, key: str = "") -> Proof:
    """base: freshly loaded, without a bank; it gets one. key: the adapter's checksum, under which (with the base's) the
    proof is kept in BOLI_HOME/proofs; empty: measure anew.

    Raises AdapterError where a tensor has no site, or where nothing the base writes would change.
    """
    check_fits(weights, base.sites, base.card.name)
    kept = _kept(base, key) if key else None
    proof = (_read(kept) if kept else None) or _measure(base, weights)
    if not proof.logit_change > proof.noise:
        raise AdapterError(
            f"{weights.name} does nothing on {base.card.name}: it changes the logits of the probe clip by "
            f"{proof.logit_change:.2g}, rounding alone by {proof.noise:.2g}",
            valid="an adapter whose effect is above rounding",
            remedy="boli train adapter  (longer, or at a higher learning rate; see lora_alpha in its config)",
        )
    if kept:
        _write(kept, proof)
    return proof


def _measure(base, weights: LoraWeights) -> Proof:
    import torch

    from adapters.bank import Bank
    from adapters.mixture import Mixture

    bank = Bank(base)
    bank.load("proved", weights)
    with torch.inference_mode():
        alone = _outputs(base, 1)
        noise = _noise(alone, _outputs(base, 2)[:1])
        with bank.mixing(Mixture.one_hot(["proved"])):
            changed = _outputs(base, 1)
    change = float((changed - alone).abs().max())
    if change != change:
        raise AdapterError(
            f"{weights.name} makes {base.card.name} write NaN on the probe clip",
            valid="finite logits",
            remedy="boli train adapter  (its training diverged: with a lower learning rate)",
        )
    lowest = lowest_adapted_layer(weights, base.sites, base.n_layers)
    return Proof(change, noise, weights.update_norms(), lowest, weights.parameters)


def _outputs(base, copies: int) -> "torch.Tensor":
    """Teacher-forced logits `[copies, L, V]` of the probe clip; the loss `[copies]` for a family without."""
    features = base.features([probe()] * copies)
    labels = base.labels([PROBE_TEXT] * copies, [base.languages[0]] * copies).to(base.device)
    if hasattr(base, "logits"):
        return base.logits(features, labels).float()
    return base.loss(features, labels).float().reshape(1).expand(copies)


def _noise(alone: "torch.Tensor", in_batch: "torch.Tensor") -> float:
    """Four times what another order of summing changes, at least 16 units in the last place of the largest logit."""
    import torch

    return max(
        4 * float((in_batch - alone).abs().max()), 16 * torch.finfo(torch.float32).eps * float(alone.abs().max())
    )


def _kept(base, key: str) -> Path | None:
    if not base.weights_sha256:
        return None
    return cache.home() / "proofs" / f"{key}-{base.weights_sha256[:16]}-{base.context}-{str(base.dtype)[6:]}.json"


def _read(path: Path) -> Proof | None:
    try:
        return Proof(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(path: Path, proof: Proof) -> None:
    """Kept for speed only: where the cache cannot be written, the next import measures again."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(proof)), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        pass
