"""Which language is being spoken now: decided while the recording runs, from nothing but what was heard so far.

The encoder is bidirectional, so it hears a trailing window anew at every hop. From each window only the frames are read
that are new and have had `look_ahead_s` of sound behind them (router/windows.py). What is spoken in them says a head that
remembers what it has heard (router/following.py), and a change is declared where another language is so much more probable
than all others together (`Odds`). Where a classifier has no such head, its own judges each frame for itself, and whether the
language has changed is Page's test (Biometrika 1954), the quickest for its rate of false alarms: the lead in log-probability of
each other language over the present one is added up, never below zero, and a change is declared where a sum passes a threshold.

A decision that is made at time t rests on the samples before t. The delay of a change is the time of its decision less
the time at which the new language began; so look-ahead, hop and evidence all count.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
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

    languages: `L` tags; options: threshold, first, first_fall, third and floor are read.
    """

    def __init__(self, languages: Sequence[str], options: Causal):
        self.languages, self.options = tuple(languages), options
        self.present: int | None = None
        self.spoken: set[int] = set()
        """All that were declared until now."""
        self.lead = np.zeros(len(self.languages))
        self.began = np.zeros(len(self.languages))
        self.undeclared_s = 0.0
        """Sound that was heard before the first decision."""

    @property
    def language(self) -> str:
        """The one that is being spoken; empty before the first decision."""
        return "" if self.present is None else self.languages[self.present]

    def add(self, log_probabilities: np.ndarray, start_s: float, length_s: float) -> tuple[int, float] | None:
        """One frame `[L]` and its time. Returns (language index, when its evidence began) where a change is declared."""
        fresh = self.lead <= 0
        self._gather(log_probabilities, length_s)
        first = self.present is None
        if not first:
            self.began[fresh] = start_s
        else:
            self.undeclared_s += length_s
        best = self._declared(self._needed)
        if best is None:
            return None
        self.present = best
        self.spoken.add(best)
        self.lead[:] = 0.0
        return best, 0.0 if first else float(self.began[best])

    @property
    def _needed(self) -> float:
        """What a language must lead by to be declared now."""
        options = self.options
        if options.first is None or self.present is not None:
            return options.threshold
        return max(min(options.first, options.threshold), options.first - options.first_fall * self.undeclared_s)

    @abstractmethod
    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        """Bring each language's lead up to date."""

    @abstractmethod
    def _declared(self, threshold: float) -> int | None:
        """The language that leads by enough, if any."""

    @property
    def _unspoken(self) -> list[int]:
        """Languages that were not spoken before, where two were."""
        return [k for k in range(len(self.lead)) if k not in self.spoken] if len(self.spoken) > 1 else []


class Page(ChangeTest):
    """Frames that are judged each for itself: leads over the present language are added up, never below zero; before the
    first decision over nobody, and it must lead every other one."""

    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        evidence = np.maximum(log_probabilities, self.options.floor) * length_s
        if self.present is None:
            self.lead += evidence
        else:
            self.lead = np.maximum(0.0, self.lead + evidence - evidence[self.present])
            self.lead[self.present] = 0.0

    def _declared(self, threshold: float) -> int | None:
        beyond = self.lead - threshold
        if self.present is None:
            beyond -= np.sort(self.lead)[-2] if len(self.lead) > 1 else -np.inf
        beyond[self._unspoken] -= self.options.third
        best = int(beyond.argmax())
        return best if beyond[best] >= 0 else None


class Odds(ChangeTest):
    """Frames of a head that remembers: each says what all that was heard says. A language is declared where it is that much
    more probable than all others together, so that it is not enough to hear that the present one is spoken no more: most
    false alarms of a lead over the present one alone were changes into another language than the one that began."""

    def _gather(self, log_probabilities: np.ndarray, length_s: float) -> None:
        likely = np.exp(np.maximum(log_probabilities, self.options.floor), dtype=np.float64)
        if self.options.third and self._unspoken:
            likely[self._unspoken] *= np.exp(-self.options.third)
        self.lead = np.log(likely) - np.log(np.maximum(likely.sum() - likely, np.exp(self.options.floor)))

    def _declared(self, threshold: float) -> int | None:
        best = int(self.lead.argmax())
        return best if best != self.present and self.lead[best] >= threshold else None


@dataclass(frozen=True)
class Read:
    """A frame that says something of the language."""

    start_s: float
    end_s: float
    """Of the window in which it was read: nothing behind it was heard."""
    log_probabilities: np.ndarray
    """`[L]`"""


def declared(test: ChangeTest, frames: Iterable[Read], length_s: float) -> Iterator[Change]:
    """What `test` decides on frames of `length_s`, the next of a recording."""
    for frame in frames:
        before = test.language
        found = test.add(frame.log_probabilities, frame.start_s, length_s)
        if found is not None:
            yield Change(frame.end_s, found[1], test.language, before)


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
        self.test = (Page if self.following is None else Odds)(known, options)
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
        return self.test.language

    def feed(self, samples: np.ndarray) -> list[Change]:
        """samples: float32 `[n]` at 16 kHz, the next of the recording. Returns the changes decided in it."""
        return list(declared(self.test, self.read(samples), self.windows.per_frame / SAMPLE_RATE))

    def read(self, samples: np.ndarray) -> list[Read]:
        """What `feed` decides on."""
        self._held = np.concatenate([self._held, np.asarray(samples, np.float32)])
        found: list[Read] = []
        ends = self.windows.ends(self._decided, self._at + len(self._held))
        for first in range(0, len(ends), BATCH):
            windows = ends[first : first + BATCH]
            for end, frames in zip(windows, self._hear(windows), strict=True):
                found += self._read(end, frames)
        if ends:
            self._decided = ends[-1]
            drop = max(0, self.windows.start(self._decided + self.windows.hop) - self._at)
            self._held, self._at = self._held[drop:], self._at + drop
        return found

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

    def _read(self, end: int, frames: np.ndarray) -> Iterator[Read]:
        """frames: of the window that ends at sample `end`."""
        per_frame = self.windows.per_frame
        first = self.windows.start(end) // per_frame
        low, high = self.windows.read(end)
        for frame in range(low, min(high, first + len(frames))):
            if not self._quiet(frame):
                yield Read(frame * per_frame / SAMPLE_RATE, end / SAMPLE_RATE, frames[frame - first])

    def _quiet(self, frame: int) -> bool:
        start = frame * self.windows.per_frame - self._at
        return self._is_quiet(self._held[max(0, start) : start + self.windows.per_frame])
