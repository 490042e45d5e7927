"""The base model's own language detection beside the classifier's head: two listeners, one opinion.

The head was taught on few recordings of the languages, and knows `unknown` and single frames; the base heard its languages
in all of its training, and knows neither. Their log-probabilities are added by shares (a logarithmic opinion pool: Genest
and Zidek, Statistical Science 1986).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pooling:
    """Chosen on the validation set by `boli train classifier`."""

    share: float
    """Of the base's own detection, 0 to 1; the head has the rest."""
    floor: float
    """Least probability that the base's detection gives a class: it names one of its languages for any sound."""
    temperature: float = 1.0
    """The pooled logits are divided by it."""


def pooled(
    head: torch.Tensor,
    own: torch.Tensor,
    known: Sequence[str],
    classes: Sequence[str],
    pooling: Pooling,
    unknown: str = "unknown",
) -> torch.Tensor:
    """Log-probabilities `[B, classes]`.

    head: log-probabilities `[B, classes]`; own: probabilities `[B, known]` of the base's languages. Those that are no
    class are together the class `unknown`; a class the base does not know has the floor.
    """
    opinion = torch.zeros_like(head)
    for i, language in enumerate(known):
        place = language if language in classes else unknown
        if place in classes:
            opinion[:, list(classes).index(place)] += own[:, i].to(head.dtype)
    opinion = opinion.clamp(min=pooling.floor).log()
    mixed = (1 - pooling.share) * head + pooling.share * opinion
    return (mixed / pooling.temperature).log_softmax(dim=-1)
