"""How much the base's own language detection says beside a classifier's head, chosen on the validation set."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

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

SHARES = tuple(i / 20 for i in range(20))
FLOORS = (0.001, 0.003, 0.01, 0.03, 0.1)
BATCH_S = 200.0


def choose_pooling(base: Any, classifier: TapClassifier, clips: Clips, classes: Sequence[str]) -> Pooling:
    """The share and the floor under which the truth is most probable, each class counting the same. Clips in several
    languages are left out. Raises RecipeError for a base that detects no languages."""
    if not hasattr(base, "detect_language"):
        raise RecipeError(f"{base.card.name} detects no languages", valid="head.own_detection=false")
    one = np.array([not record.segments for record in clips.records])
    head, own = (rows[one] for rows in _heard(base, classifier, clips))
    truth = torch.tensor([class_of(r.lang, classes) for r, kept in zip(clips.records, one, strict=True) if kept])
    counts = torch.bincount(truth, minlength=len(classes))
    weight = (1.0 / counts.clamp(min=1)).float()
    best, chosen = np.inf, Pooling(0.0, FLOORS[0])
    for share, floor in product(SHARES, FLOORS):
        mixed = pooled(head, own, base.languages, classes, Pooling(share, floor))
        divisor = temperature(mixed, truth)
        loss = float(F.cross_entropy(mixed / divisor, truth, weight=weight))
        if loss < best:
            best, chosen = loss, Pooling(share, floor, divisor)
    return chosen


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
