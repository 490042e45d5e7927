"""How well languages are told apart: whole, by class, by duration, within and across corpora, and by spectrum alone."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from router.classifier import TapClassifier
from training.augment import AugmentOptions
from training.batches import Planned
from training.classifier_data import TapFeatures, class_of
from training.clips import Clips
from training.feeder import Feeder
from zoo.interface import BaseModel
from zoo.speech import SAMPLE_RATE

DURATIONS_S = ((0.0, 1.0), (1.0, 3.0), (3.0, 5.0), (5.0, float("inf")))
BATCH_FRAMES = 60_000


@dataclass(frozen=True)
class Judged:
    """A classifier's answers on one set."""

    truth: np.ndarray
    """int64 `[n]`"""
    probabilities: np.ndarray
    """float `[n, classes]`"""
    frame_accuracy: float
    """Share of frames labelled right; NaN for a judge without frames."""

    @property
    def guess(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.guess == self.truth).mean())

    @property
    def balanced(self) -> float:
        """Mean over the classes that occur of the share recognised."""
        return float(np.mean([(self.guess[self.truth == c] == c).mean() for c in np.unique(self.truth)]))

    @property
    def worth(self) -> float:
        """What heads are chosen by: routing asks for whole clips, switching for single frames."""
        return (self.balanced + self.frame_accuracy) / 2


@torch.no_grad()
def logits(classifier: TapClassifier, features: TapFeatures) -> tuple[torch.Tensor, ...]:
    """Frame logits `[all frames, classes]`, utterance logits `[n, classes]`, frame labels, shares; uncalibrated."""
    frame_rows, frame_labels, rows, shares = [], [], [], []
    size = max(1, int(BATCH_FRAMES / features.lengths.max()))
    classifier.head.eval()
    for start in range(0, len(features), size):
        states, lengths, labels, _, share = features.batch(np.arange(start, min(start + size, len(features))))
        frames, utterance = classifier.head(states, lengths)
        frame_rows.append(frames[labels >= 0])
        frame_labels.append(labels[labels >= 0])
        rows.append(utterance)
        shares.append(share)
    return torch.cat(frame_rows), torch.cat(rows), torch.cat(frame_labels), torch.cat(shares)


def judge(classifier: TapClassifier, features: TapFeatures) -> Judged:
    frames, utterance, labels, shares = logits(classifier, features)
    probabilities = (utterance / classifier.config.temperature).softmax(1).cpu().numpy()
    return Judged(shares.argmax(1).cpu().numpy(), probabilities, float((frames.argmax(1) == labels).float().mean()))


def temperature(scores: torch.Tensor, truth: torch.Tensor) -> float:
    """The divisor of the logits under which the truth is most probable; within 0.1 to 10."""
    scores = scores.detach().float()
    grid = torch.logspace(-1, 1, 201, device=scores.device)
    losses = torch.stack([torch.nn.functional.cross_entropy(scores / t, truth) for t in grid])
    return round(float(grid[losses.argmin()]), 4)


def corpora(clips: Clips) -> dict[str, set[str]]:
    """Language -> corpora it was learned from."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in clips.records:
        found[record.lang].add(record.corpus)
    return dict(found)


def drawn_as(record) -> str:
    """The corpus that a training clip is drawn as: clips that change language are one of their own beside the rest of
    theirs, or a few hundred of them would be lost among thousands, and with them all that teaches where it changes."""
    return f"{record.corpus}, switched" if record.segments else record.corpus


def slices(judged: Judged, clips: Clips, classes: tuple[str, ...], known: dict[str, set[str]]) -> list[dict[str, Any]]:
    """One row per slice of a test set: how many clips, accuracy, balanced accuracy, and recall per class."""
    durations = clips.lengths / SAMPLE_RATE
    seen = np.array([r.corpus in known.get(r.lang, set()) for r in clips.records])
    parts = {"all": np.ones(len(durations), dtype=bool), "within corpora": seen, "across corpora": ~seen}
    for low, high in DURATIONS_S:
        parts[f"{low:g} to {high:g} s" if np.isfinite(high) else f"over {low:g} s"] = (durations >= low) & (
            durations < high
        )
    rows = []
    for name, chosen in parts.items():
        row: dict[str, Any] = {"slice": name, "clips": int(chosen.sum())}
        if chosen.any():
            part = Judged(judged.truth[chosen], judged.probabilities[chosen], judged.frame_accuracy)
            row |= {"accuracy": part.accuracy, "balanced_accuracy": part.balanced}
            for c, label in enumerate(classes):
                of_class = part.truth == c
                row[f"recall_{label}"] = float((part.guess[of_class] == c).mean()) if of_class.any() else ""
                row[f"clips_{label}"] = int(of_class.sum())
        if name == "all":
            row["frame_accuracy"] = judged.frame_accuracy
        rows.append(row)
    return rows


def confusion(judged: Judged, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Counts: a row per language spoken, a column per language heard."""
    counts = _counts(judged, len(classes))
    return [
        {"spoken": label, **{f"heard {other}": int(counts[i, j]) for j, other in enumerate(classes)}}
        for i, label in enumerate(classes)
    ]


def predictions(judged: Judged, clips: Clips, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = []
    for record, length, truth, p in zip(clips.records, clips.lengths, judged.truth, judged.probabilities, strict=True):
        row = {"id": record.id, "language": record.lang, "class": classes[truth], "heard": classes[int(p.argmax())]}
        row |= {"probability": round(float(p.max()), 4), "duration_s": round(length / SAMPLE_RATE, 3)}
        rows.append({**row, "corpus": record.corpus})
    return rows


def draw_confusion(judged: Judged, classes: tuple[str, ...], path: Path, title: str) -> None:
    """The confusion matrix as a picture, each row in percent of the language spoken."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = _counts(judged, len(classes))
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 0.8 * len(classes), 1.4 + 0.7 * len(classes)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for i in range(len(classes)):
        for j in range(len(classes)):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{share[i, j]:.0%}\n{counts[i, j]}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("heard")
    axes.set_ylabel("spoken")
    axes.set_title(f"{title}: {judged.accuracy:.1%} of {len(judged.truth)}")
    figure.savefig(path, dpi=110)


class SpectrumBaseline:
    """Logistic regression on each clip's mean log-mel spectrum: what the channel alone gives away.

    It hears no order of sounds. Where it does as well as a classifier within the training corpora, the classifier may
    have learned the microphones; across corpora it shows what is left of that.
    """

    def __init__(self, base: BaseModel, clips: Clips, classes: tuple[str, ...], seed: int):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.feeder = Feeder(base, AugmentOptions())
        self.classes = classes
        labels = np.array([class_of(record.lang, classes) for record in clips.records])
        model = LogisticRegression(max_iter=2000, class_weight="balanced", random_state=seed)
        self.model = make_pipeline(StandardScaler(), model).fit(self._spectra(clips), labels)

    def judge(self, clips: Clips, features: TapFeatures) -> Judged:
        probabilities = np.zeros((len(clips), len(self.classes)))
        probabilities[:, self.model.classes_] = self.model.predict_proba(self._spectra(clips))
        return Judged(features.classes, probabilities, float("nan"))

    def _spectra(self, clips: Clips) -> np.ndarray:
        """`[n, bands]`: mean over the real frames."""
        rows = []
        for i, length in enumerate(clips.lengths):
            grid = max(1, -(-int(length) // round(self.feeder.grid_s * SAMPLE_RATE)))
            samples = round(min(grid * self.feeder.grid_s, self.feeder.base.max_duration_s) * SAMPLE_RATE)
            planned = Planned(np.array([i]), np.ones(1, dtype=np.float32), samples)
            values = self.feeder.features(clips, planned, 0).values[0]
            frames = max(1, round(values.shape[-1] * length / samples))
            rows.append(values[:, :frames].float().mean(-1))
        return torch.stack(rows).cpu().numpy()


def _counts(judged: Judged, classes: int) -> np.ndarray:
    """int64 `[spoken, heard]`."""
    return np.bincount(judged.truth * classes + judged.guess, minlength=classes * classes).reshape(classes, classes)
