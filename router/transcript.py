"""The result of a transcription."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Word:
    word: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """A stretch of one language. Times in seconds from the start of the audio."""

    start: float
    end: float
    text: str
    language: str
    probability: float
    """Of the language, as the classifier gave it."""
    weights: dict[str, float]
    """Adapter -> weight in the mixture; empty: the base alone."""
    reason: str
    """Why the policy chose this mixture."""
    tokens: tuple[int, ...] = ()
    avg_logprob: float = 0.0
    """Mean log-probability per token."""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording."""

    text: str
    language: str
    language_probability: float
    probabilities: dict[str, float]
    """Language -> probability, most probable first; weighted by duration over the segments."""
    segments: tuple[Segment, ...]
    duration: float
    """Seconds of audio."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds spent: decode_audio, features, encode, classify, swap, decode, total."""
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with openai/whisper's field names where it has them, plus ours."""
        data = asdict(self)
        data["segments"] = [{"id": i, **segment} for i, segment in enumerate(data["segments"])]
        return data
