"""One batch through the whole way: features, lower encoder, classifier, policy, mixture, upper encoder, decoder."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from adapters.bank import Bank, BankFull
from adapters.mixture import Mixture
from router.classifier import UNKNOWN, Classifier
from router.options import TranscribeOptions
from router.policies import Decision, adapter_weights, decide
from zoo.interface import Hypothesis
from zoo.speech import Utterance


@dataclass(frozen=True)
class Passed:
    """What one chunk gave."""

    hypothesis: Hypothesis
    decision: Decision
    probabilities: dict[str, float]
    """Language -> probability; empty where the language was forced."""
    weights: dict[str, float]
    """Adapter -> weight."""
    frames: torch.Tensor | None = None
    """Log-probabilities of the languages per encoder frame `[T, L]`, real frames only."""


@dataclass
class Clock:
    """Seconds per stage, added up over the batches of one call."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@torch.inference_mode()
def run(
    base,
    bank: Bank,
    classifier: Classifier | None,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    utterances: Sequence[Utterance],
    options: TranscribeOptions,
    clock: Clock,
) -> list[Passed]:
    """adapters: language -> adapter name; lowest_layers: adapter name -> first encoder layer it changes.

    The lower half runs once with the bank off. Where no adapter of the mixture touches it, the upper half continues
    from the tap; else the encoder runs again from the lowest adapted layer.
    """
    with clock.stage("features"):
        features = base.features(utterances)
    lowest = min(lowest_layers.values(), default=base.tap)
    if options.language is None and classifier is not None:
        with bank.off():
            with clock.stage("encode"):
                entry = base.encode(features, until=min(lowest, base.tap))
                tapped = entry if entry.layer == base.tap else base.encode(entry, until=base.tap)
            with clock.stage("classify"):
                found = classifier(tapped)
                probabilities = found.rows()
                decisions = [decide(row, options) for row in probabilities]
        frames = (
            None
            if found.frames is None
            else [row[:n] for row, n in zip(found.frames, features.lengths.tolist(), strict=True)]
        )
    else:
        entry = tapped = features
        probabilities = [{} for _ in utterances]
        decisions = [decide({}, options) for _ in utterances]
        frames = None
    rows = [adapter_weights(decision, adapters) for decision in decisions]
    mixture = Mixture.from_rows(rows)
    below = any(lowest_layers[name] < base.tap for name in mixture.names)
    languages = [written_language(base, decision, row) for decision, row in zip(decisions, probabilities, strict=True)]
    with clock.stage("swap"):
        mixing = bank.mixing(mixture) if mixture.names else nullcontext()
        mixing.__enter__()
    try:
        with clock.stage("encode"):
            hidden = base.encode(entry if below else tapped)
        with clock.stage("decode"):
            hypotheses = base.decode(hidden, languages, options.decoding())
    finally:
        mixing.__exit__(None, None, None)
    return [
        Passed(hypothesis, decision, row, weights, None if frames is None else frames[i])
        for i, (hypothesis, decision, row, weights) in enumerate(
            zip(hypotheses, decisions, probabilities, rows, strict=True)
        )
    ]


def run_fitting(base, bank, classifier, adapters, lowest_layers, utterances, options, clock) -> list[Passed]:
    """As `run`; a batch that needs more adapters at once than the bank may hold is halved until it fits."""
    try:
        return run(base, bank, classifier, adapters, lowest_layers, utterances, options, clock)
    except BankFull:
        if len(utterances) == 1:
            raise
        half = len(utterances) // 2
        return [
            passed
            for part in (utterances[:half], utterances[half:])
            for passed in run_fitting(base, bank, classifier, adapters, lowest_layers, part, options, clock)
        ]


def written_language(base, decision: Decision, probabilities: dict[str, float]) -> str:
    """The language whose token the decoder is given: the decision's, else the most probable one the base can write."""
    if decision.language != UNKNOWN:
        return decision.language
    known = [language for language in probabilities if language in base.languages]
    return known[0] if known else base.languages[0]
