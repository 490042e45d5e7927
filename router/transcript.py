"""The result of a transcription."""

import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


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
    seek: int = 0
    """Where the pass that wrote it began, in hundredths of a second, as openai/whisper counts."""

    @property
    def compression_ratio(self) -> float:
        """Bytes of the text against its deflated bytes; above 2.4 it likely repeats itself on end."""
        content = self.text.encode()
        return len(content) / len(zlib.compress(content)) if content else 0.0


@dataclass(frozen=True)
class Posteriors:
    """How probable each language is, frame by frame, over a stretch of the recording."""

    start: float
    """Seconds from the start of the audio."""
    frame_rate: float
    """Frames per second."""
    languages: tuple[str, ...]
    probabilities: "np.ndarray"
    """float32 `[T, L]`"""


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
    """Seconds spent: decode_audio, features, encode, classify, switch, swap, decode, total."""
    source: str = ""
    posteriors: tuple[Posteriors, ...] = field(default=(), repr=False, compare=False)
    """What the classifier heard in each frame, in order; not written to files. Empty where a language was forced or the
    classifier has no frames."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of the segments, in order of appearance."""
        return tuple(dict.fromkeys(segment.language for segment in self.segments))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: openai/whisper's fields (`text`, `segments`, `language`; in a segment `id, seek, start, end,
        text, tokens, temperature, avg_logprob, compression_ratio, no_speech_prob` and, where asked for, `words`), then
        ours. `temperature` is always 0, and so is `no_speech_prob`: silence never reaches the decoder."""
        return {
            "text": self.text,
            "segments": [_segment(i, segment) for i, segment in enumerate(self.segments)],
            "language": self.language,
            "language_probability": self.language_probability,
            "probabilities": self.probabilities,
            "duration": self.duration,
            "timings": self.timings,
            "source": self.source,
        }


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    data = {
        "id": number,
        "seek": segment.seek,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": 0.0,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": 0.0,
        "language": segment.language,
        "probability": segment.probability,
        "weights": segment.weights,
        "reason": segment.reason,
    }
    if segment.words:
        data["words"] = [asdict(word) for word in segment.words]
    return data
