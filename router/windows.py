"""How a recording is followed while it runs: a trailing window is heard anew at every hop, and of each window the frames are
read that are new and have had a little sound behind them."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from router.seams import frame_samples
from zoo.errors import ModelError
from zoo.interface import Hidden
from zoo.speech import SAMPLE_RATE, Utterance

BATCH = 32  # windows encoded at once where the whole recording is there already


@dataclass(frozen=True)
class Causal:
    """How quickly a change is believed. `boli train switching` chooses it on a validation set; what a head that follows
    was taught with (window, hop, look-ahead) stays."""

    window_s: float = 2.0
    """Seconds of the past that are encoded at each hop."""
    hop_s: float = 0.1
    """Seconds between two decisions."""
    look_ahead_s: float = 0.1
    """Frames younger than this are not read yet: the encoder has heard too little behind them."""
    threshold: float = 0.3
    """What declares a change. Where every frame is judged for itself: the lead of another language over the present one,
    gathered over time, in nat-seconds; of a head that follows: the logarithm of its odds against all others together, at one
    frame, in nats."""
    first: float | None = None
    """The same for the first language of a recording, where there is no present one: its lead over every other, or its odds.
    None: as `threshold`."""
    first_fall: float = 0.0
    """By how much `first` falls with each second of sound in which no language was declared, down to `threshold`: what was heard
    long and alike need not be heard so clearly."""
    third: float = 0.0
    """A language that was not spoken before, where two were, must lead by so much more, or counts as so many nats less probable:
    who mixes languages mostly mixes two."""
    floor: float = -4.0
    """Log-probabilities below count as this: no single frame is that sure."""
    quiet_db: float = 35.0
    """Frames this far below the loudest of the last seconds say nothing of the language."""

    def __post_init__(self):
        for name in ("window_s", "hop_s", "threshold", "quiet_db"):
            if not getattr(self, name) > 0:
                raise ModelError(f"switching {name} is {getattr(self, name)}", valid="above 0")
        if self.first is not None and not self.first > 0:
            raise ModelError(f"switching first is {self.first}", valid="above 0, or null: as threshold")
        for name in ("third", "first_fall"):
            if not getattr(self, name) >= 0:
                raise ModelError(f"switching {name} is {getattr(self, name)}", valid="0 or more")
        if self.window_s < self.hop_s + self.look_ahead_s or self.look_ahead_s < 0:
            raise ModelError(
                f"switching window_s is {self.window_s}, look_ahead_s {self.look_ahead_s}",
                valid=f"a window of at least hop and look-ahead, {self.hop_s + self.look_ahead_s:g} s",
            )
        if not self.floor < 0:
            raise ModelError(f"switching floor is {self.floor}", valid="below 0")


def taught(options: Causal) -> tuple[float, float, float]:
    """Window, hop and look-ahead: what a head that follows is taught with, so that it must be used with them."""
    return options.window_s, options.hop_s, options.look_ahead_s


@dataclass(frozen=True)
class Windows:
    """The windows of a recording, in whole encoder frames."""

    per_frame: int
    """Samples of a frame."""
    hop: int
    window: int
    """Samples."""
    behind: int
    """Frames of sound that a frame has behind it when it is read."""

    @classmethod
    def of(cls, base, options: Causal) -> "Windows":
        per_frame = frame_samples(base)
        hop = max(1, round(options.hop_s * SAMPLE_RATE / per_frame)) * per_frame
        window = max(1, round(options.window_s * SAMPLE_RATE / per_frame)) * per_frame
        return cls(per_frame, hop, window, round(options.look_ahead_s * SAMPLE_RATE / per_frame))

    def ends(self, after: int, until: int) -> range:
        """Samples at which windows end: behind `after`, which is one, up to `until`."""
        return range(after + self.hop, until + 1, self.hop)

    def start(self, end: int) -> int:
        return max(0, end - self.window)

    def read(self, end: int) -> tuple[int, int]:
        """Frames of the recording, the second one behind the last, that are read when the window at `end` was heard."""
        high = max(0, end // self.per_frame - self.behind)
        low = max(0, (end - self.hop) // self.per_frame - self.behind)
        return min(max(low, self.start(end) // self.per_frame), high), high


class Quiet:
    """Whether a frame is far below the loudest of the last 3 s, itself included; frames are asked in order."""

    def __init__(self, frame_rate: float, quiet_db: float):
        self.levels: deque[float] = deque(maxlen=round(3 * frame_rate) + 1)
        self.quiet_db = quiet_db

    def __call__(self, samples: np.ndarray) -> bool:
        """samples: float32 `[n]` of one frame."""
        level = 10 * np.log10(float(np.mean(np.square(samples, dtype=np.float64))) + 1e-10)
        self.levels.append(level)
        return level < max(self.levels) - self.quiet_db


def encoded(base, audios: Sequence[np.ndarray]) -> Iterator[tuple[list[int], Hidden]]:
    """The windows `audios` (float32 `[n]` each) up to the base's tap, those of one grid together: positions, and what was heard
    of them. Adapters must be off."""
    utterances = [Utterance(audio) for audio in audios]
    by_grid: dict[float, list[int]] = {}
    for i, utterance in enumerate(utterances):
        by_grid.setdefault(base.grid_s(utterance), []).append(i)
    for members in by_grid.values():
        for first in range(0, len(members), BATCH):
            some = members[first : first + BATCH]
            yield some, base.encode(base.features([utterances[i] for i in some]), until=base.tap)
