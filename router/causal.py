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

    def add(self, log_probabilities: np.ndarray, starts_s: np.ndarray, length_s: float) -> Iterator[tuple[int, float]]:
        """Frames `[T, L]`, the next of a recording, and their times `[T]`. Yields, where a change is declared, the frame at
        which it is and when its evidence began; `language` is the new one then."""
        at = 0
        while at < len(log_probabilities):
            leads = self._leads(log_probabilities[at:], length_s)
            found = self._declared(leads, self._needed(len(leads), length_s))
            heard = len(leads) if found is None else found[0] + 1
            if self.present is None:
                self.undeclared_s += heard * length_s
            else:
                before = np.vstack([self.lead, leads[: heard - 1]])
                for k in range(len(self.languages)):
                    fresh = np.flatnonzero(before[:, k] <= 0)
                    if len(fresh):
                        self.began[k] = starts_s[at + fresh[-1]]
            self.lead = leads[heard - 1]
            at += heard
            if found is not None:
                best = found[1]
                since_s = 0.0 if self.present is None else float(self.began[best])
                self.present = best
                self.spoken.add(best)
                self.lead = np.zeros(len(self.languages))
                yield at - 1, since_s

    def _needed(self, frames: int, length_s: float) -> np.ndarray:
        """What a language must lead by to be declared at each of the next frames, `[T]`."""
        options = self.options
        if options.first is None or self.present is not None:
            return np.full(frames, options.threshold)
        undeclared_s = self.undeclared_s + length_s * np.arange(1, frames + 1)
        return np.maximum(min(options.first, options.threshold), options.first - options.first_fall * undeclared_s)

    @abstractmethod
    def _leads(self, log_probabilities: np.ndarray, length_s: float) -> np.ndarray:
        """Each language's lead `[T, L]` after each frame, as long as nothing is declared."""

    @abstractmethod
    def _declared(self, leads: np.ndarray, needed: np.ndarray) -> tuple[int, int] | None:
        """The first frame at which a language leads by enough, and that language."""

    @property
    def _unspoken(self) -> list[int]:
        """Languages that were not spoken before, where two were."""
        return [k for k in range(len(self.lead)) if k not in self.spoken] if len(self.spoken) > 1 else []


class Page(ChangeTest):
    """Frames that are judged each for itself: leads over the present language are added up, never below zero; before the
    first decision over nobody, and it must lead every other one."""

    def _leads(self, log_probabilities: np.ndarray, length_s: float) -> np.ndarray:
        evidence = np.maximum(log_probabilities, self.options.floor) * length_s
        if self.present is None:
            return self.lead + np.cumsum(evidence, axis=0)
        evidence = evidence - evidence[:, [self.present]]
        leads, lead = np.empty_like(evidence), self.lead
        for i, each in enumerate(evidence):
            lead = leads[i] = np.maximum(0.0, lead + each)
        return leads

    def _declared(self, leads: np.ndarray, needed: np.ndarray) -> tuple[int, int] | None:
        beyond = leads - needed[:, None]
        if self.present is None:
            beyond = beyond - (np.sort(leads, axis=1)[:, [-2]] if leads.shape[1] > 1 else -np.inf)
        beyond[:, self._unspoken] -= self.options.third
        return _first_of(beyond, beyond.max(axis=1) >= 0)


class Odds(ChangeTest):
    """Frames of a head that remembers: each says what all that was heard says. A language is declared where it is that much
    more probable than all others together, so that it is not enough to hear that the present one is spoken no more: most
    false alarms of a lead over the present one alone were changes into another language than the one that began."""

    def _leads(self, log_probabilities: np.ndarray, length_s: float) -> np.ndarray:
        likely = np.exp(np.maximum(log_probabilities, self.options.floor), dtype=np.float64)
        if self.options.third and self._unspoken:
            likely[:, self._unspoken] *= np.exp(-self.options.third)
        others = likely.sum(axis=1, keepdims=True) - likely
        return np.log(likely) - np.log(np.maximum(others, np.exp(self.options.floor)))

    def _declared(self, leads: np.ndarray, needed: np.ndarray) -> tuple[int, int] | None:
        return _first_of(leads, (leads.argmax(axis=1) != self.present) & (leads.max(axis=1) >= needed))


def _first_of(leads: np.ndarray, enough: np.ndarray) -> tuple[int, int] | None:
    if not enough.any():
        return None
    frame = int(enough.argmax())
    return frame, int(leads[frame].argmax())


@dataclass(frozen=True)
class Read:
    """A frame that says something of the language."""

    start_s: float
    end_s: float
    """Of the window in which it was read: nothing behind it was heard."""
    log_probabilities: np.ndarray
    """`[L]`"""


def declared(test: ChangeTest, frames: Sequence[Read], length_s: float) -> Iterator[Change]:
    """What `test` decides on frames of `length_s`, the next of a recording."""
    if not frames:
        return
    rows = np.stack([frame.log_probabilities for frame in frames])
    before = test.language
    for i, since_s in test.add(rows, np.array([frame.start_s for frame in frames]), length_s):
        yield Change(frames[i].end_s, since_s, test.language, before)
        before = test.language


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
