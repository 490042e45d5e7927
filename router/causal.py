"""Which language is being spoken now: decided while the recording runs, from nothing but what was heard so far.

The encoder is bidirectional, so it hears a trailing window anew at every hop. From each window only the frames are read
that are new and have had `look_ahead_s` of sound behind them (router/windows.py). What is spoken in them says a head that
remembers what it has heard (router/following.py), and a change is declared where another language leads the present one
by a threshold (`Lead`). Where a classifier has no such head, its own judges each frame for itself, and whether the language
has changed is Page's test (Biometrika 1954), the quickest for its rate of false alarms: the lead in log-probability of each
other language over the present one is added up, never below zero, and a change is declared where a sum passes a threshold.

A decision that is made at time t rests on the samples before t. The delay of a change is the time of its decision less
the time at which the new language began; so look-ahead, hop and evidence all count.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapters.bank import Bank
from router.classifier import Classifier
from router.following import Following
from router.stretches import permitted_frames
from router.windows import BATCH, Causal, Quiet, Windows, encoded, taught
from zoo.errors import RoutingError
from zoo.speech import SAMPLE_RATE


@dataclass(frozen=True)
class Change:
    """From here on another language is spoken."""

    decided_s: float
    """When it was decided, in seconds of the recording: nothing after it was heard."""
    since_s: float
    """When the evidence for it began."""
    language: str
    before: str
    """The language until now; empty for the first decision, which is no switch."""


class ChangeTest(ABC):
    """When a change is declared: frames go in, in order; decisions come out.

    languages: `L` tags; options: threshold, third and floor are read.
    """

    def __init__(self, languages: Sequence[str], options: Causal):
        self.languages, self.options = tuple(languages), options
        self.present: int | None = None
        self.spoken: set[int] = set()
        self.lead = np.zeros(len(self.languages))
        self.began = np.zeros(len(self.languages))

    def add(self, log_probabilities: np.ndarray, start_s: float, length_s: float) -> tuple[int, float] | None:
        """One frame `[L]` and its time. Returns (language index, when its evidence began) where a change is declared."""
        fresh = self.lead <= 0
        self._gather(log_probabilities, length_s)
        if self.present is None:  # the first language must lead every other one
            order = np.argsort(self.lead)
            if len(order) > 1 and self.lead[order[-1]] - self.lead[order[-2]] < self.options.threshold:
                return None
            self._enter(int(order[-1]))
            return int(order[-1]), 0.0
        self.began[fresh] = start_s
        beyond = self.lead - self.options.threshold
        if len(self.spoken) > 1:
            beyond[[k for k in range(len(beyond)) if k not in self.spoken]] -= self.options.third
        best = int(beyond.argmax())
        if beyond[best] < 0:
            return None
        self._enter(best)
        return best, float(self.began[best])

    @abstractmethod
    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        """Bring each language's lead over the present one up to date; before the first decision, over nobody."""

    def _enter(self, language: int) -> None:
        self.present = language
        self.spoken.add(language)
        self.lead[:] = 0.0


class Page(ChangeTest):
    """Frames that are judged each for itself: leads are added up, never below zero."""

    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        evidence = np.maximum(log_probabilities, self.options.floor) * length_s
        if self.present is None:
            self.lead += evidence
        else:
            self.lead = np.maximum(0.0, self.lead + evidence - evidence[self.present])
            self.lead[self.present] = 0.0


class Lead(ChangeTest):
    """Frames of a head that remembers: each says what all that was heard says, so its own lead is the evidence."""

    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        evidence = np.maximum(log_probabilities, self.options.floor)
        self.lead = evidence.copy() if self.present is None else evidence - evidence[self.present]


class Follower:
    """Follows one recording as it comes in: blocks of samples go in, changes come out.

    base, bank, classifier: of a Router; languages: only these can be spoken (None: all the classifier knows).
    hear: instead of the model, gives the frames of the windows that end at some samples (a sweep over parameters hears
    every window once).
    """

    def __init__(
        self,
        base,
        bank: Bank,
        classifier: Classifier,
        options: Causal,
        languages: Sequence[str] | None = None,
        hear: Callable[[Sequence[int]], list[np.ndarray]] | None = None,
    ):
        self.base, self.bank, self.classifier, self.options = base, bank, classifier, options
        self.allowed = languages
        known = [tag for tag in classifier.languages if languages is None or tag in languages]
        if not known:
            raise RoutingError(
                f"The classifier knows none of {list(languages or ())}", valid=", ".join(classifier.languages)
            )
        self.following: Following | None = getattr(classifier, "following", None)
        self.test = Page(known, options) if self.following is None else Lead(known, options)
        if self.following is not None and taught(options) != taught(self.following.causal):
            raise RoutingError(
                f"Window, hop and look-ahead are {taught(options)} s",
                valid=f"those that the head which follows was taught with, {taught(self.following.causal)}",
                remedy="boli train following, with others",
            )
        self.windows = Windows.of(base, options)
        self._memory: torch.Tensor | None = None
        self._held = np.zeros(0, np.float32)
        self._at = 0  # position of the first held sample in the recording
        self._decided = 0  # samples up to which decisions were made
        self._is_quiet = Quiet(base.frame_rate, options.quiet_db)
        self._hear = hear or self.heard

    @property
    def language(self) -> str:
        """The one that is being spoken; empty before the first decision."""
        return "" if self.test.present is None else self.test.languages[self.test.present]

    def feed(self, samples: np.ndarray) -> list[Change]:
        """samples: float32 `[n]` at 16 kHz, the next of the recording. Returns the changes decided in it."""
        self._held = np.concatenate([self._held, np.asarray(samples, np.float32)])
        changes: list[Change] = []
        ends = self.windows.ends(self._decided, self._at + len(self._held))
        for first in range(0, len(ends), BATCH):
            windows = ends[first : first + BATCH]
            for end, frames in zip(windows, self._hear(windows), strict=True):
                changes += self._decide(end, frames)
        if ends:
            self._decided = ends[-1]
            drop = max(0, self.windows.start(self._decided + self.windows.hop) - self._at)
            self._held, self._at = self._held[drop:], self._at + drop
        return changes

    @torch.inference_mode()
    def heard(self, ends: Sequence[int]) -> list[np.ndarray]:
        """Log-probabilities `[frames, L]` of the window before each of `ends` (samples of the recording, one hop after the
        other). Those of frames that are not read may be missing (NaN)."""
        cut = [self._held[self.windows.start(end) - self._at : end - self._at] for end in ends]
        rows: list[np.ndarray] = [np.zeros((0, 0))] * len(ends)
        states: list[torch.Tensor | None] = [None] * len(ends)
        with self.bank.off():
            for members, tapped in encoded(self.base, cut):
                lengths = tapped.lengths.tolist()
                if self.following is not None:
                    for i, row, n in zip(members, self.following.states(self.base, tapped), lengths, strict=True):
                        states[i] = row[:n]
                    continue
                found = self.classifier(tapped, frames_only=True)
                if found.frames is None:
                    raise RoutingError(
                        "The classifier has no frames, so changes cannot be followed",
                        valid="a head on the tap",
                        remedy="boli train classifier",
                    )
                for i, row, n in zip(members, found.frames.float().cpu().numpy(), lengths, strict=True):
                    rows[i] = row[:n]
        if self.following is not None:
            rows = [self._remembered(end, own) for end, own in zip(ends, states, strict=True) if own is not None]
        return [permitted_frames(row, self.classifier.languages, self.allowed)[1] for row in rows]

    def _remembered(self, end: int, states: torch.Tensor) -> np.ndarray:
        """The window's frames that are read, after all that were read before; states `[frames, size]`."""
        assert self.following is not None
        low, high = (frame - self.windows.start(end) // self.windows.per_frame for frame in self.windows.read(end))
        rows = np.full((len(states), len(self.following.languages)), np.nan, np.float32)
        rows[low:high], self._memory = self.following(states[low:high], self._memory)
        return rows

    def _decide(self, end: int, frames: np.ndarray) -> Iterator[Change]:
        """frames: of the window that ends at sample `end`."""
        per_frame = self.windows.per_frame
        first = self.windows.start(end) // per_frame
        low, high = self.windows.read(end)
        length = per_frame / SAMPLE_RATE
        for frame in range(low, min(high, first + len(frames))):
            if self._quiet(frame):
                continue
            before = self.language
            found = self.test.add(frames[frame - first], frame * length, length)
            if found is not None:
                yield Change(end / SAMPLE_RATE, found[1], self.language, before)

    def _quiet(self, frame: int) -> bool:
        start = frame * self.windows.per_frame - self._at
        return self._is_quiet(self._held[max(0, start) : start + self.windows.per_frame])
