"""Which language is spoken: a head on the tap's output, calibrated, saved as safetensors + JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from router.following import Following
from router.head_files import write_head
from router.heads import HEADS, centred
from router.pooling import Pooling, pooled
from zoo.errors import ModelError
from zoo.interface import Hidden

CONFIG, WEIGHTS = "classifier.json", "classifier.safetensors"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class LanguageProbabilities:
    """languages: `L` tags; log_probabilities `[B, L]`; frames: log-probabilities `[B, T, L]` or None."""

    languages: tuple[str, ...]
    log_probabilities: torch.Tensor
    frames: torch.Tensor | None = None

    def rows(self) -> list[dict[str, float]]:
        """One {language: probability} per utterance, most probable first."""
        return [
            dict(sorted(zip(self.languages, row, strict=True), key=lambda item: -item[1]))
            for row in self.log_probabilities.exp().tolist()
        ]


class Classifier(Protocol):
    """Anything that names the language of a batch."""

    languages: tuple[str, ...]

    def __call__(self, hidden: Hidden, frames_only: bool = False) -> LanguageProbabilities: ...


@dataclass(frozen=True)
class ClassifierConfig:
    head: str
    languages: tuple[str, ...]
    base: str
    """Card name of the base model whose tap it reads."""
    tap: int
    size: int
    """Width of the tap's output."""
    width: int = 128
    temperature: float = 1.0
    """Logits are divided by it; fitted on held-out clips (Guo et al., ICML 2017)."""
    frame_temperature: float = 1.0
    base_sha256: str = ""
    weights_sha256: str = ""
    pooling: dict[str, float] = field(default_factory=dict)
    """Fields of `pooling.Pooling`: how the base's own detection is weighed beside the head; empty: it is not asked."""
    provenance: dict[str, Any] = field(default_factory=dict)
    centred: bool = False
    """The head reads each clip's frames less their mean (`heads.centred`)."""
    rescoring: dict[str, Any] = field(default_factory=dict)
    """What `boli train rescoring` chose: fields of `rescoring.Rescoring` under `options`, and `chosen_on`; empty: no clip
    is heard twice."""
    switching: dict[str, Any] = field(default_factory=dict)
    """What `boli train switching` chose: `offline` (smoothing.Smoothing), `causal` (windows.Causal; where a head follows,
    its own config has it), `chosen_on`; empty: the defaults written there."""


class TapClassifier:
    """A trained head; with it, where the config says so and the base can, the base's own detection.

    Raises ModelError when it is asked about another tap.
    """

    def __init__(self, config: ClassifierConfig, head: torch.nn.Module, base=None):
        """base: the model whose own detection is pooled with the head; None: the head alone."""
        self.config, self.head = config, head.eval()
        self.languages = config.languages
        self.pooling = Pooling(**config.pooling) if config.pooling else None
        self.base = base if hasattr(base, "detect_language") else None
        self.following: Following | None = None
        """The head that follows changes of language, where one lies beside this one (`load`)."""

    @classmethod
    def new(cls, config: ClassifierConfig) -> "TapClassifier":
        if config.head not in HEADS:
            raise ModelError(f"Classifier head {config.head!r} is unknown", valid=", ".join(HEADS))
        return cls(config, HEADS[config.head](config.size, len(config.languages), config.width))

    def to(self, device: torch.device | str) -> "TapClassifier":
        self.head.to(device)
        return self

    @torch.inference_mode()
    def __call__(self, hidden: Hidden, frames_only: bool = False) -> LanguageProbabilities:
        """frames_only: nobody asks for the clip as a whole, so the base's own detection is left out of it."""
        if hidden.layer != self.config.tap or hidden.done:
            raise ModelError(
                f"The classifier reads the output of layer {self.config.tap}, it was given layer {hidden.layer}",
                remedy=f"zoo.load(..., tap={self.config.tap}), or train one for this tap: boli train classifier",
            )
        values = hidden.values.float()
        if self.config.centred:
            values = centred(values, hidden.lengths)
        frames, utterance = self.head(values, hidden.lengths)
        heard = (utterance / self.config.temperature).log_softmax(dim=-1)
        if self.pooling and self.base is not None and not frames_only:
            own = self.base.detect_language(self.base.encode(hidden))
            heard = pooled(heard, own, self.base.languages, self.languages, self.pooling, UNKNOWN)
        return LanguageProbabilities(
            self.languages, heard, (frames / self.config.frame_temperature).log_softmax(dim=-1)
        )

    def save(self, folder: Path) -> None:
        """Both files, each whole or not at all."""
        write_head(folder, CONFIG, WEIGHTS, asdict(self.config), self.head)

    @classmethod
    def load(cls, folder: Path, base=None, follows: bool = True) -> "TapClassifier":
        """base: the loaded base model it will read; one that does not fit is refused. follows: with the head that follows, where
        one lies beside it. Raises ModelError."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        folder = Path(folder)
        try:
            data = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            config = ClassifierConfig(**{**data, "languages": tuple(data["languages"])})
            content = (folder / WEIGHTS).read_bytes()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"No classifier can be read from {folder}: {error}",
                valid=f"a folder with {CONFIG} and {WEIGHTS}",
                remedy="boli train classifier",
            ) from None
        if hashlib.sha256(content).hexdigest() != config.weights_sha256:
            raise ModelError(
                f"The classifier in {folder} is damaged: its checksum is not the recorded one",
                remedy="boli train classifier",
            )
        classifier = cls.new(config)
        try:
            classifier.head.load_state_dict(load(content))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(
                f"The classifier in {folder} does not fit its config: {error}", remedy="boli train classifier"
            ) from None
        if base is not None:
            if config.size != base.hidden_size or config.tap > base.n_layers:
                raise ModelError(
                    f"The classifier in {folder} reads {config.size} values after layer {config.tap} of {config.base}, not {base.card.name}",
                    remedy=f"boli train classifier for {base.card.name}",
                )
            if config.base_sha256 and config.base_sha256 != base.weights_sha256:
                raise ModelError(
                    f"The classifier in {folder} was trained on other weights of {config.base}",
                    valid=f"base {config.base_sha256[:12]}, this one is {base.weights_sha256[:12]}",
                    remedy=f"boli train classifier for {base.card.name}",
                )
            classifier.to(base.device)
            classifier = cls(config, classifier.head, base)
        if follows:
            classifier.following = Following.load(folder, base, config.languages)
        return classifier


class WhisperDetection:
    """Whisper's own language detection behind the same interface, for comparison; it reads the finished encoder."""

    def __init__(self, base):
        self.base = base
        self.languages = base.languages

    @torch.inference_mode()
    def __call__(self, hidden: Hidden, frames_only: bool = False) -> LanguageProbabilities:
        done = hidden if hidden.done else self.base.encode(hidden)
        return LanguageProbabilities(self.languages, self.base.detect_language(done).log())
