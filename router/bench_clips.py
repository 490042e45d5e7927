"""The clips that `boli bench router` is measured on: the repository's own recordings, cut to length."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.speech import SAMPLE_RATE, Utterance

if TYPE_CHECKING:
    import numpy as np

LANGUAGES = ("hi", "it", "te")
SHORT_S = 5.0  # clips up to this long are "short" in the tables
FOLDER = Path(__file__).parent / "clips"


@dataclass(frozen=True)
class BenchClip:
    utterance: Utterance
    language: str
    tokens: int
    """How many every system has to write."""

    @property
    def duration_s(self) -> float:
        return self.utterance.duration_s

    @property
    def short(self) -> bool:
        return self.duration_s <= SHORT_S


def single_clips(durations: list[float], each: int) -> list[BenchClip]:
    """`each` clips of every duration, the languages in turn; about as many tokens as people speak: 3 a second."""
    made = []
    for i, duration in enumerate(duration for duration in durations for _ in range(each)):
        made.append(_clip(LANGUAGES[i % len(LANGUAGES)], duration, 4 + round(3 * duration), i))
    return made


def mixed_batch(size: int, tokens: int) -> list[BenchClip]:
    """`size` clips of 1.5 to 5 s, each in another language than the one before, all of one number of tokens."""
    return [_clip(LANGUAGES[i % len(LANGUAGES)], 1.5 + 3.5 * ((i * 5) % 8) / 7, tokens, i) for i in range(size)]


def _clip(language: str, duration_s: float, tokens: int, shift: int) -> BenchClip:
    import numpy as np

    speech = _speech(language)
    start = (shift * SAMPLE_RATE // 3) % len(speech)
    samples = np.resize(np.roll(speech, -start), round(duration_s * SAMPLE_RATE)).astype(np.float32)
    return BenchClip(Utterance(samples, f"{language}-{duration_s:g}s-{shift}"), language, tokens)


@cache
def _speech(language: str) -> "np.ndarray":
    """All the repository's clips of a language, one after the other."""
    import numpy as np

    from zoo import audio

    return np.concatenate(
        [np.concatenate(list(audio.stream(path, name=path.name))) for path in sorted(FOLDER.glob(f"{language}_*.ogg"))]
    )
