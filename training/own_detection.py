"""How much the base's own language detection says beside a classifier's head, chosen on the validation set."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from router.classifier import TapClassifier
from router.pooling import Pooling, pooled
from training.classifier_data import class_of
from training.classifier_scores import Judged, temperature
from training.clips import Clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.feeder import grid_step
from zoo.errors import RecipeError
from zoo.interface import Hidden
from zoo.speech import SAMPLE_RATE, Utterance

Choice = TypeVar("Choice")

SHARES = tuple(i / 20 for i in range(20))
FLOORS = (0.001, 0.003, 0.01, 0.03, 0.1)
BATCH_S = 200.0


def choose_pooling(base: Any, classifier: TapClassifier, clips: Clips, classes: Sequence[str]) -> Pooling:
    """The largest share of the base's own detection under which the truth is as probable as under the best one, but for
    one standard error, each class counting the same; and the floor and temperature that are best with it.

    The validation set's speakers are mostly those that the head was taught on, so on them it looks better than it is;
    the base heard many times as much. Hence the most cautious of the choices that the set cannot tell apart (the one
    standard error rule: Breiman et al., Classification and Regression Trees, 1984, 3.4.3). Clips in several languages
    are left out. Raises RecipeError for a base that detects no languages."""
    if not hasattr(base, "detect_language"):
        raise RecipeError(f"{base.card.name} detects no languages", valid="head.own_detection=false")
    one = np.array([not record.segments for record in clips.records])
    head, own = (rows[one] for rows in _heard(base, classifier, clips))
    truth = torch.tensor([class_of(r.lang, classes) for r, kept in zip(clips.records, one, strict=True) if kept])
    counts = torch.bincount(truth, minlength=len(classes))
    weight = (1.0 / counts.clamp(min=1)).float()
    shares = weight[truth] / weight[truth].sum()  # of each clip in the mean
    tried: list[tuple[float, float, Pooling]] = []
    for share, floor in product(SHARES, FLOORS):
        mixed = pooled(head, own, base.languages, classes, Pooling(share, floor))
        divisor = temperature(mixed, truth)
        losses = F.cross_entropy(mixed / divisor, truth, reduction="none")
        mean = float((shares * losses).sum())
        error = float((shares * (losses - mean)).square().sum().sqrt())
        tried.append((mean, error, Pooling(share, floor, divisor)))
    return most_cautious(tried, lambda pooling: pooling.share)


def most_cautious(tried: Sequence[tuple[float, float, Choice]], doubt: Callable[[Choice], float]) -> Choice:
    """tried: (loss, its standard error, choice); doubt: how little a choice leaves to the head. Of those within one standard
    error of the least loss the one with most doubt; among equals the one with the least loss."""
    best, error, _ = min(tried, key=lambda entry: entry[0])
    near = (entry for entry in tried if entry[0] <= best + error)
    return max(near, key=lambda entry: (doubt(entry[2]), -entry[0]))[2]


def judge_served(base: Any, classifier: TapClassifier, clips: Clips, classes: Sequence[str]) -> Judged:
    """What the classifier answers when it serves, its pooling included; frames are not judged."""
    found = np.zeros((len(clips), len(classes)), dtype=np.float32)
    for members, hidden in _tapped(base, clips):
        found[members] = classifier(hidden).log_probabilities.exp().float().cpu().numpy()
    truth = np.array([class_of(record.lang, classes) for record in clips.records])
    return Judged(truth, found, float("nan"))


def _heard(base: Any, classifier: TapClassifier, clips: Clips) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's log-probabilities `[n, classes]` and the base's own probabilities `[n, its languages]`."""
    alone = TapClassifier(classifier.config, classifier.head)
    head = torch.zeros(len(clips), len(classifier.languages))
    own = torch.zeros(len(clips), len(base.languages))
    for members, hidden in _tapped(base, clips):
        head[members] = alone(hidden).log_probabilities.float().cpu()
        own[members] = base.detect_language(base.encode(hidden)).float().cpu()
    return head, own


def _tapped(base: Any, clips: Clips) -> Iterator[tuple[np.ndarray, Hidden]]:
    """Clips up to the tap, as they are heard when serving, batch by batch."""
    shape = BatchOptions(batch_size=64, max_batch_s=BATCH_S, grid_s=grid_step(base), shuffle=False)
    for members in LengthBuckets((clips.lengths / SAMPLE_RATE).tolist(), shape).batches():
        with torch.inference_mode():
            features = base.features([Utterance(clips.audio(i)) for i in members])
            yield np.asarray(members), base.encode(features, until=base.tap)
