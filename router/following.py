"""Which language is being spoken now, frame by frame while a recording comes in: a head with a memory.

A classifier's own head judges a frame by the sounds around it and is best where it has those behind it as well, which a
causal decision has not heard yet. This head reads just what that decision hears, the newest frames of each trailing window,
one after the other, and was taught on them (`boli train following`).
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from router.head_files import write_head
from router.heads import FollowingHead
from router.smoothing import parameters
from router.windows import Causal
from zoo.errors import ModelError
from zoo.interface import Hidden

CONFIG, WEIGHTS = "following.json", "following.safetensors"
REMEDY = f"boli train following, or remove {CONFIG} beside the classifier"


@dataclass(frozen=True)
class FollowingConfig:
    languages: tuple[str, ...]
    base: str
    """Card name of the base model whose states it reads."""
    tap: int
    size: int
    """Width of the tap's states."""
    finished: bool = True
    """It reads the encoder's output beside the tap's."""
    width: int = 128
    causal: dict[str, Any] = field(default_factory=dict)
    """Fields of `windows.Causal`: the windows it was taught with, and when a change is declared."""
    temperature: float = 1.0
    """Logits are divided by it; fitted on held-out clips (Guo et al., ICML 2017)."""
    base_sha256: str = ""
    weights_sha256: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    chosen_on: dict[str, Any] = field(default_factory=dict)
    """What `boli train switching` chose threshold and third on."""


def states(base, tapped: Hidden, finished: bool, done: Hidden | None = None) -> torch.Tensor:
    """The tap's states `[B, T, d]`; finished: and the encoder's output beside them, `[B, T, 2 d]`."""
    if not finished:
        return tapped.values
    done = base.encode(tapped) if done is None else done
    return torch.cat([tapped.values, done.values], dim=-1)


class Following:
    """A trained head. Raises ModelError where its config cannot be."""

    def __init__(self, config: FollowingConfig, head: torch.nn.Module):
        self.config, self.head = config, head.eval()
        self.languages = config.languages
        self.causal: Causal = parameters(Causal, config.causal, REMEDY)

    @classmethod
    def new(cls, config: FollowingConfig) -> "Following":
        return cls(config, FollowingHead(config.size, len(config.languages), config.width, 2 if config.finished else 1))

    def states(self, base, tapped: Hidden, done: Hidden | None = None) -> torch.Tensor:
        """What it reads of windows that were heard up to the tap, and to the end (`done`, where that is at hand): `[B, T, size]`.
        Adapters must be off."""
        return states(base, tapped, self.config.finished, done)

    @torch.inference_mode()
    def __call__(self, states: torch.Tensor, memory: torch.Tensor | None) -> tuple[np.ndarray, torch.Tensor | None]:
        """states `[frames, size]`, the next of a recording; memory: what the last call gave, None at its start.

        Log-probabilities `[frames, L]`, and the memory.
        """
        if not len(states):
            return np.zeros((0, len(self.languages)), np.float32), memory
        logits, memory = self.head(states[None].float(), memory)
        return (logits[0] / self.config.temperature).log_softmax(-1).cpu().numpy(), memory

    def save(self, folder: Path) -> None:
        """Both files, each whole or not at all."""
        write_head(folder, CONFIG, WEIGHTS, asdict(self.config), self.head)

    @classmethod
    def load(cls, folder: Path, base=None, languages: tuple[str, ...] | None = None) -> "Following | None":
        """The one in a classifier's folder; None where there is none.

        base: the loaded base model it will read; languages: of the classifier beside it. One that does not fit is refused.
        Raises ModelError.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            return None
        try:
            data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            config = FollowingConfig(**{**data, "languages": tuple(data["languages"])})
            content = (folder / WEIGHTS).read_bytes()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"The head that follows changes of language cannot be read from {folder}: {error}",
                valid=f"{CONFIG} and {WEIGHTS}, or neither",
                remedy=REMEDY,
            ) from None
        if hashlib.sha256(content).hexdigest() != config.weights_sha256:
            raise ModelError(f"{folder / WEIGHTS} is damaged: its checksum is not the recorded one", remedy=REMEDY)
        following = cls.new(config)
        try:
            following.head.load_state_dict(load(content))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{folder / WEIGHTS} does not fit its config: {error}", remedy=REMEDY) from None
        if languages is not None and config.languages != languages:
            raise ModelError(
                f"The head that follows changes of language in {folder} was taught {', '.join(config.languages)}",
                valid=f"the classifier's languages, {', '.join(languages)}",
                remedy=REMEDY,
            )
        if base is not None:
            other = config.base_sha256 and config.base_sha256 != base.weights_sha256
            if other or config.tap != base.tap or config.size != base.hidden_size:
                raise ModelError(
                    f"The head that follows changes of language in {folder} reads layer {config.tap} of {config.base}"
                    f" ({config.base_sha256[:12]})",
                    valid=f"layer {base.tap} of {base.card.name} ({base.weights_sha256[:12]})",
                    remedy=REMEDY,
                )
            following.head.to(base.device)
        return following
