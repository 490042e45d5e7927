"""Which language is being spoken now: decided while the recording runs, from nothing but what was heard so far.

The encoder is bidirectional, so it hears a trailing window anew at every hop. From each window only the frames are read
that are new and have had `look_ahead_s` of sound behind them. Whether the language has changed is Page's test
(Biometrika 1954), the quickest for its rate of false alarms: the lead in log-probability of each other language over the
present one is added up, never below zero, and a change is declared where a sum passes a threshold.

A decision that is made at time t rests on the samples before t. The delay of a change is the time of its decision less
the time at which the new language began; so look-ahead, hop and evidence all count.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from adapters.bank import Bank
from router.classifier import Classifier
from router.seams import frame_samples
from router.stretches import permitted_frames
from zoo.errors import ModelError, RoutingError
from zoo.speech import SAMPLE_RATE, Utterance

BATCH = 32  # windows encoded at once where the whole recording is there already


@dataclass(frozen=True)
class Causal:
    """How quickly a change is believed. `boli train switching` chooses all of it on a validation set."""

    window_s: float = 2.0
    """Seconds of the past that are encoded at each hop."""
    hop_s: float = 0.1
    """Seconds between two decisions."""
    look_ahead_s: float = 0.1
    """Frames younger than this are not read yet: the encoder has heard too little behind them."""
    threshold: float = 0.3
    """The lead that another language must have gathered, in nat-seconds."""
    third: float = 0.0
    """How much larger it must be for a language that was not spoken before, where two were: who mixes languages mostly mixes
    two."""
    floor: float = -4.0
    """Log-probabilities below count as this: no single frame is that sure."""
    quiet_db: float = 35.0
    """Frames this far below the loudest of the last seconds say nothing of the language."""

    def __post_init__(self):
        for name in ("window_s", "hop_s", "threshold", "quiet_db"):
            if not getattr(self, name) > 0:
                raise ModelError(f"switching {name} is {getattr(self, name)}", valid="above 0")
        if not self.third >= 0:
            raise ModelError(f"switching third is {self.third}", valid="0 or more")
        if self.window_s < self.hop_s + self.look_ahead_s or self.look_ahead_s < 0:
            raise ModelError(
                f"switching window_s is {self.window_s}, look_ahead_s {self.look_ahead_s}",
                valid=f"a window of at least hop and look-ahead, {self.hop_s + self.look_ahead_s:g} s",
            )
        if not self.floor < 0:
            raise ModelError(f"switching floor is {self.floor}", valid="below 0")


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


class Page:
    """The test itself: frames go in, in order; decisions come out.

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
        evidence = np.maximum(log_probabilities, self.options.floor) * length_s
        if self.present is None:  # the first language must lead every other one
            self.lead += evidence
            order = np.argsort(self.lead)
            if len(order) > 1 and self.lead[order[-1]] - self.lead[order[-2]] < self.options.threshold:
                return None
            self._enter(int(order[-1]))
            return int(order[-1]), 0.0
        fresh = self.lead <= 0
        self.began[fresh] = start_s
        self.lead = np.maximum(0.0, self.lead + evidence - evidence[self.present])
        self.lead[self.present] = 0.0
        beyond = self.lead - self.options.threshold
        if len(self.spoken) > 1:
            beyond[[k for k in range(len(beyond)) if k not in self.spoken]] -= self.options.third
        best = int(beyond.argmax())
        if beyond[best] < 0:
            return None
        self._enter(best)
        return best, float(self.began[best])

    def _enter(self, language: int) -> None:
        self.present = language
        self.spoken.add(language)
        self.lead[:] = 0.0


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
        self.page = Page(known, options)
        self.per_frame = frame_samples(base)
        self.hop = max(1, round(options.hop_s * SAMPLE_RATE / self.per_frame)) * self.per_frame
        self.window = max(1, round(options.window_s * SAMPLE_RATE / self.per_frame)) * self.per_frame
        self.behind = round(options.look_ahead_s * SAMPLE_RATE / self.per_frame)
        self._held = np.zeros(0, np.float32)
        self._at = 0  # position of the first held sample in the recording
        self._decided = 0  # samples up to which decisions were made
        self._read = 0  # frames up to which evidence was read
        self._loudest: list[float] = []
        self._hear = hear or self.heard

    @property
    def language(self) -> str:
        """The one that is being spoken; empty before the first decision."""
        return "" if self.page.present is None else self.page.languages[self.page.present]

    def feed(self, samples: np.ndarray) -> list[Change]:
        """samples: float32 `[n]` at 16 kHz, the next of the recording. Returns the changes decided in it."""
        self._held = np.concatenate([self._held, np.asarray(samples, np.float32)])
        changes: list[Change] = []
        ends = list(range(self._decided + self.hop, self._at + len(self._held) + 1, self.hop))
        for first in range(0, len(ends), BATCH):
            windows = ends[first : first + BATCH]
            for end, frames in zip(windows, self._hear(windows), strict=True):
                changes += self._decide(end, frames)
        if ends:
            self._decided = ends[-1]
            drop = max(0, self._decided + self.hop - self.window - self._at)
            self._held, self._at = self._held[drop:], self._at + drop
        return changes

    @torch.inference_mode()
    def heard(self, ends: Sequence[int]) -> list[np.ndarray]:
        """Log-probabilities `[frames, L]` of the window before each of `ends` (samples of the recording)."""
        cut = [self._held[max(0, end - self.window - self._at) : end - self._at] for end in ends]
        utterances = [Utterance(audio) for audio in cut]
        by_grid: dict[float, list[int]] = {}
        for i, utterance in enumerate(utterances):
            by_grid.setdefault(self.base.grid_s(utterance), []).append(i)
        rows: dict[int, np.ndarray] = {}
        with self.bank.off():
            for members in by_grid.values():
                features = self.base.features([utterances[i] for i in members])
                found = self.classifier(self.base.encode(features, until=self.base.tap), frames_only=True)
                if found.frames is None:
                    raise RoutingError(
                        "The classifier has no frames, so changes cannot be followed",
                        valid="a head on the tap",
                        remedy="boli train classifier",
                    )
                lengths = features.lengths.tolist()
                for i, row, n in zip(members, found.frames.float().cpu().numpy(), lengths, strict=True):
                    rows[i] = permitted_frames(row[:n], self.classifier.languages, self.allowed)[1]
        return [rows[i] for i in range(len(ends))]

    def _decide(self, end: int, frames: np.ndarray) -> Iterator[Change]:
        """frames: of the window that ends at sample `end`."""
        last = end // self.per_frame  # frames of the recording up to here
        first = max(0, end - self.window) // self.per_frame
        length = self.per_frame / SAMPLE_RATE
        for frame in range(max(self._read, first), min(last - self.behind, first + len(frames))):
            if self._quiet(frame):
                continue
            before = self.language
            found = self.page.add(frames[frame - first], frame * length, length)
            if found is not None:
                yield Change(end / SAMPLE_RATE, found[1], self.language, before)
        self._read = max(self._read, last - self.behind)

    def _quiet(self, frame: int) -> bool:
        """Whether a frame is far below the loudest of the last 3 s, itself included."""
        start = frame * self.per_frame - self._at
        part = self._held[max(0, start) : start + self.per_frame]
        level = 10 * np.log10(float(np.mean(np.square(part, dtype=np.float64))) + 1e-10)
        self._loudest = [*self._loudest[-round(3 * self.base.frame_rate) :], level]
        return level < max(self._loudest) - self.options.quiet_db
