"""What a caller can ask of one transcription."""

from dataclasses import dataclass
from typing import Literal

from router.policies import PolicyOptions
from zoo.errors import RoutingError
from zoo.interface import DecodeOptions


@dataclass(frozen=True)
class TranscribeOptions(PolicyOptions):
    """Each field's text is the help of the option of the same name."""

    beam_size: int = 1
    """1 is greedy; more is beam search."""
    timestamps: Literal["none", "segment", "word"] = "none"
    """Times inside a chunk: the model's own (segment), or per word by cross-attention alignment (word)."""
    batch_size: int = 8
    """Most chunks in one pass."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """Write the language spoken, or English."""
    max_tokens: int | None = None
    """Stop a chunk after this many tokens."""

    def __post_init__(self):
        super().__post_init__()
        if self.beam_size < 1:
            raise RoutingError(f"beam_size is {self.beam_size}", valid="1 or more")
        if self.batch_size < 1:
            raise RoutingError(f"batch_size is {self.batch_size}", valid="1 or more")
        if self.timestamps not in ("none", "segment", "word"):
            raise RoutingError(f"timestamps is {self.timestamps!r}", valid="none, segment, word")

    def decoding(self) -> DecodeOptions:
        return DecodeOptions(
            self.beam_size, timestamps=self.timestamps != "none", max_tokens=self.max_tokens, task=self.task
        )
