"""What is transcribed: one utterance of audio, optionally with video."""

from dataclasses import dataclass, field

import numpy as np

SAMPLE_RATE = 16_000  # Hz; every room above the decoder of files sees this rate only


@dataclass(frozen=True)
class Utterance:
    """One clip.

    audio: float32 `[n_samples]`, mono, 16 kHz.
    video: float32 `[n_frames, height, width, channels]` or None, for audio-visual families.
    video_rate: frames per second of `video`.
    id: a name for messages (a path, or "array 3").
    """

    audio: np.ndarray
    id: str = ""
    video: np.ndarray | None = None
    video_rate: float = 25.0
    extra: dict = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        return len(self.audio) / SAMPLE_RATE
