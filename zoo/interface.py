"""The contract every family of base models fulfils (a Protocol: no inheritance).

The encoder runs in two halves around the *tap*: `encode(features, until=tap)` gives what the language classifier
reads, `encode(hidden)` continues from there to the end. `Hidden.layer` counts the encoder layers already applied, so
0 is the output of the stem (convolutions and positions) and `n_layers` the last layer; a finished hidden (final norm
applied) has `done=True`.

**What a clip is encoded with depends on that clip alone.** `grid_s(utterance)` is the duration the clip is padded to;
only clips of equal grid may share a batch, and `features` raises otherwise. Encoded, they may be joined (zoo/joining.py)
and decoded together: the decoder of each looks at its own frames alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from zoo.card import Card
from zoo.speech import Utterance

if TYPE_CHECKING:
    import torch
    from torch import nn

Axis = Literal["frames", "tokens"]
Context = Literal["30s", "dynamic"]


@dataclass(frozen=True)
class Site:
    """One linear module that LoRA may attach to."""

    name: str
    """Module path inside `BaseModel.module`, e.g. `model.encoder.layers.0.self_attn.q_proj`."""
    axis: Axis
    """What the second axis of its input runs along: encoder `frames` or decoder `tokens`."""
    part: Literal["encoder", "decoder"]
    layer: int
    """Layer index inside its part, from 0."""
    in_features: int
    out_features: int

    @property
    def kind(self) -> str:
        """Last part of the name: `q_proj`, `fc1`, ..."""
        return self.name.rsplit(".", 1)[-1]


@dataclass
class Features:
    """Model input for a batch of clips of equal grid."""

    values: "torch.Tensor"
    """`[B, ...]`; log-mel `[B, n_mels, n_frames]` for Whisper, samples `[B, n]` for models that take waveforms."""
    lengths: "torch.Tensor"
    """`[B]` int64: how many *encoder* frames of each clip are real speech input, the rest is padding."""
    context: str = "30s"
    extra: dict[str, Any] = field(default_factory=dict)

    def rows(self, index: "torch.Tensor") -> "Features":
        """Row i is row `index[i]` of these."""
        return replace(self, values=self.values[index], lengths=self.lengths[index])


@dataclass
class Hidden:
    """Encoder states."""

    values: "torch.Tensor"
    """`[B, T, d]`"""
    lengths: "torch.Tensor"
    """`[B]` int64 real frames."""
    layer: int
    """Encoder layers applied so far."""
    done: bool = False
    """True when the whole encoder, its final norm included, has run."""
    seen: "torch.Tensor | None" = None
    """`[B]` int64: frames that a decoder may look at, where clips of several grids were joined; None: all."""
    extra: dict[str, Any] = field(default_factory=dict)

    def rows(self, index: "torch.Tensor") -> "Hidden":
        """Row i is row `index[i]` of these."""
        seen = None if self.seen is None else self.seen[index]
        return replace(self, values=self.values[index], lengths=self.lengths[index], seen=seen)


@dataclass(frozen=True)
class DecodeOptions:
    """How to search. Each field's text serves as the help of the option of the same name."""

    beam_size: int = 1
    """1 is greedy; more is beam search."""
    length_penalty: float | None = None
    """Scores of finished beams are divided by length ** length_penalty; None: the family's own (Whisper 1, OWSM 0)."""
    ctc_weight: float = 0.0
    """Share of CTC in the scores, for families with a CTC head: 0 the decoder alone, 1 CTC alone, between them jointly."""
    timestamps: bool = False
    """Let the model write timestamps (families that have them)."""
    max_tokens: int | tuple[int, ...] | None = None
    """Stop after this many new tokens (one number, or one a clip); None: the family's own limit for the clip's length."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """Write the language spoken, or English."""
    previous: str = ""
    """What was said before, given to the decoder as context (families that have a token for it)."""
    cut_loops: bool = False
    """Where only the limit ended a text that was repeating itself, keep what it repeats once (zoo/loops.py)."""


@dataclass(frozen=True)
class TimedWord:
    """A word, with the space before it, and when it was said, in seconds from the clip's start."""

    word: str
    start_s: float
    end_s: float
    probability: float
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Text between two timestamps of one hypothesis, in seconds from the clip's start."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hypothesis:
    """What the decoder wrote for one clip."""

    text: str
    tokens: tuple[int, ...]
    """New tokens, without prompt and end of text."""
    language: str
    log_probability: float
    """Sum of the log-probabilities of `tokens` and of the end token where one was written."""
    token_log_probabilities: tuple[float, ...] = ()
    pieces: tuple[Piece, ...] = ()
    """Filled where timestamps were asked for."""
    goes_on_s: float | None = None
    """Where the model says, with timestamps, that it stopped before all was written: seconds from the clip's start."""


@runtime_checkable
class BaseModel(Protocol):
    """A frozen, loaded model of a family."""

    card: Card
    module: "nn.Module"
    """The network, in eval mode, gradients off; site names are paths inside it."""
    sites: tuple[Site, ...]
    n_layers: int
    """Encoder layers."""
    tap: int
    """Encoder layers below the tap: the classifier reads the output after this many."""
    hidden_size: int
    frame_rate: float
    """Encoder frames per second."""
    max_duration_s: float
    """Longest clip one pass can take."""
    context: str
    spare_frames: int
    """Encoder frames that a joint decode may be filled up with before a decode apart costs less (zoo/joining.py); 0: clips of one grid only."""
    languages: tuple[str, ...]
    """BCP-47 tags the decoder has a language token for."""
    weights_sha256: str
    """Which weights these are; an adapter's record names the ones it was trained on."""
    tokenizer_sha256: str
    quantization: str
    """`8bit` or `nf4` where its weights are held so; else empty."""
    device: "torch.device"
    dtype: "torch.dtype"

    def grid_s(self, utterance: Utterance) -> float: ...

    def features(self, utterances: Sequence[Utterance]) -> Features: ...

    def encode(self, inputs: "Features | Hidden", until: int | None = None) -> Hidden: ...

    def decode(
        self, hidden: Hidden, languages: Sequence[str], options: DecodeOptions = DecodeOptions()
    ) -> list[Hypothesis]: ...

    def labels(self, texts: Sequence[str], languages: Sequence[str]) -> "torch.Tensor": ...

    def loss(self, features: Features, labels: "torch.Tensor") -> "torch.Tensor": ...
