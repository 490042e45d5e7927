"""`boli train rescoring`: how much it counts how surely a language writes, chosen on a validation set.

Every clip is heard by the classifier and written by each of its languages once; then a grid of parameters is tried on
what was heard. The classifier's weights are not touched; its config gets the parameters and says on what they were
chosen. Clips of a test set are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from router.classifier import UNKNOWN, TapClassifier
from router.rescoring import LEAST, Rescoring, writable, write_each
from training.classifier_data import class_of
from training.classifier_scores import temperature
from training.clips import Clips
from training.switching import refuse_test_clips
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE, Utterance

if TYPE_CHECKING:
    from router.router import Router

HEARD_TWICE = 0.25  # share of the clips that may be
SURE = (0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
UNKNOWNS = tuple(-i / 10 for i in range(1, 21))


@dataclass(frozen=True)
class Heard:
    """A validation set as the classifier and the languages heard it."""

    classes: tuple[str, ...]
    probabilities: np.ndarray
    """`[n, classes]`, the classifier's."""
    written: np.ndarray
    """`[n, classes]`: mean log-probability of what each language wrote; NaN where a class writes nothing."""
    truth: np.ndarray
    """`[n]`: class of each clip."""


def choose(
    router: "Router", clips: Clips, twice: float = HEARD_TWICE, say: Callable[[str], None] = lambda line: None
) -> tuple[Rescoring, dict[str, Any]]:
    """Parameters, and what they gave on the clips they were chosen on.

    clips: a validation set; those in several languages are left out. twice: the share of it that may be heard twice. Raises
    DataError where nothing is left, or a clip belongs to a test set."""
    refuse_test_clips(clips, "boli train rescoring --manifest LID_DEV.jsonl")
    heard = hear(router, clips)
    say(f"{len(heard.truth)} clips heard and written by {int(np.isfinite(heard.written[0]).sum())} languages each")
    return fit(heard, twice)


def fit(heard: Heard, twice: float) -> tuple[Rescoring, dict[str, Any]]:
    """The surest classifier that is still doubted is the one under which `twice` of the clips are heard again; the other
    parameters make the truth most probable in those, each class counting the same. Of weights that the set cannot tell
    apart (within one standard error of the paired difference) the largest: a validation set's speakers are mostly known to
    the classifier, and it looks better on them than on others; but none with which fewer clips of the whole set are right,
    each class counting the same, than without. Evidence is at most softened, never sharpened."""
    top = heard.probabilities.max(axis=1)
    sure = max((bound for bound in SURE if np.mean(top <= bound) <= twice), default=SURE[0])
    doubted = np.flatnonzero(top <= sure)
    if not len(doubted):
        raise DataError("The classifier is sure of every clip", valid="clips that are hard to tell")
    truth = torch.from_numpy(heard.truth[doubted])
    counts = torch.bincount(truth, minlength=len(heard.classes)).clamp(min=1)
    weight = (1.0 / counts.float())[truth]
    shares = weight / weight.sum()
    before = heard.probabilities.argmax(axis=1)
    balanced_before = _balanced(before, heard.truth)
    tried: list[tuple[Rescoring, torch.Tensor, bool]] = []
    for scale, unknown in product(WEIGHTS, UNKNOWNS if UNKNOWN in heard.classes else UNKNOWNS[:1]):
        options = Rescoring(scale, unknown, sure, max(2, len(heard.classes)))
        logits = _logits(heard, options)[torch.from_numpy(doubted)]
        divisor = max(1.0, temperature(logits, truth))
        losses = F.cross_entropy(logits / divisor, truth, reduction="none")
        harmless = _balanced(_after(before, doubted, logits), heard.truth) >= balanced_before
        tried.append((replace(options, temperature=divisor), losses, harmless))
    options = _largest(tried, shares)
    after = _after(before, doubted, _logits(heard, options)[torch.from_numpy(doubted)])
    measured = {
        "clips": len(top),
        "heard_twice": len(doubted),
        "doubted_right_before": float(np.mean((before == heard.truth)[doubted])),
        "doubted_right_after": float(np.mean((after == heard.truth)[doubted])),
        "balanced_before": balanced_before,
        "balanced_after": _balanced(after, heard.truth),
    }
    return options, measured


def _after(before: np.ndarray, doubted: np.ndarray, logits: torch.Tensor) -> np.ndarray:
    """Classes `[n]` of all clips after a second hearing of the doubted ones, which gave `logits`."""
    after = before.copy()
    after[doubted] = logits.argmax(1).numpy()
    return after


def _largest(tried: Sequence[tuple[Rescoring, torch.Tensor, bool]], shares: torch.Tensor) -> Rescoring:
    """The largest weight with which the loss is within one standard error of the least, among those that do no harm; of that
    weight the best. Where all near the least do harm, weight 0, which does none.

    tried: (options, loss of each clip, whether it does no harm); shares: of each clip in the mean."""
    losses = torch.stack([each for _, each, _ in tried])
    means = losses @ shares
    worse = losses - losses[means.argmin()]
    errors = (shares * (worse - (worse @ shares)[:, None])).square().sum(1).sqrt()
    near = [k for k in range(len(tried)) if float(worse[k] @ shares) <= float(errors[k]) and tried[k][2]]
    near = near or [k for k in range(len(tried)) if tried[k][0].weight == 0]
    return tried[max(near, key=lambda k: (tried[k][0].weight, -float(means[k])))][0]


def _logits(heard: Heard, options: Rescoring) -> torch.Tensor:
    """As `router.rescoring.rescored` adds them up, every language tried; not divided by the temperature."""
    least = np.nanmin(heard.written, axis=1, keepdims=True)
    said = np.where(np.isfinite(heard.written), heard.written, least)
    for place, name in enumerate(heard.classes):
        if name == UNKNOWN:
            said[:, place] = options.unknown
    return torch.from_numpy(np.log(np.maximum(heard.probabilities, LEAST)) + options.weight * said).float()


def _balanced(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.mean(found[truth == k] == k) for k in np.unique(truth)]))


def hear(router: "Router", clips: Clips) -> Heard:
    """Every clip in one language, up to the longest piece that goes through the base at once."""
    from router.passes import Clock, listen

    assert router.classifier is not None, "router.load gives one"
    classes = tuple(router.classifier.languages)
    members = [i for i, r in enumerate(clips.records) if not r.segments and class_of(r.lang, classes) >= 0]
    if not members:
        raise DataError("No clip is in one language that the classifier knows", valid=", ".join(classes))
    base, options = router.base, router.options
    most = int(router.longest_s * SAMPLE_RATE)
    utterances = {i: Utterance(clips.audio(i)[:most]) for i in members}
    languages = writable(base, classes)
    lowest = [router.lowest_layers[name] for name in router.adapters.values()]
    clock = Clock(base.device)
    probabilities = np.zeros((len(clips), len(classes)))
    written = np.full((len(clips), len(classes)), np.nan)
    by_grid: dict[float, list[int]] = {}
    for i in members:
        by_grid.setdefault(base.grid_s(utterances[i]), []).append(i)
    for same in by_grid.values():
        for start in range(0, len(same), options.batch_size):
            rows = same[start : start + options.batch_size]
            batch = [utterances[i] for i in rows]
            found = listen(base, router.bank, router.classifier, lowest, batch, clock)
            for i, row in zip(rows, found.probabilities, strict=True):
                probabilities[i] = [row[name] for name in classes]
            pairs = [(k, tag) for k in range(len(rows)) for tag in languages]
            sure = write_each(
                base, router.bank, router.adapters, router.lowest_layers, [found], pairs, batch, options, clock
            )
            for (k, tag), value in zip(pairs, sure, strict=True):
                written[rows[k], classes.index(tag)] = value
    truth = np.array([class_of(clips.records[i].lang, classes) for i in members])
    return Heard(classes, probabilities[members], written[members], truth)


def keep(
    folder: Path, options: Rescoring, measured: Mapping[str, Any], manifests: Mapping[str, str], adapters: Sequence[str]
) -> Path:
    """Write the parameters into the classifier's config; its weights stay. manifests: name -> sha256; adapters: the names of
    those that wrote. Raises ModelError where there is no classifier."""
    classifier = TapClassifier.load(folder)
    chosen_on = {"manifests": dict(manifests), "adapters": sorted(adapters), "measured": dict(measured)}
    config = replace(classifier.config, rescoring={"options": asdict(options), "chosen_on": chosen_on})
    TapClassifier(config, classifier.head).save(folder)
    return folder
