"""One batch through the whole way: features, lower encoder, classifier, policy, mixture, upper encoder, decoder.

The only place where the bank and the base meet.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch

from adapters.bank import Bank
from adapters.mixture import Mixture
from router.classifier import UNKNOWN, Classifier
from router.options import TranscribeOptions
from router.policies import Decision, adapter_weights, explained
from router.seams import Stretch, own_frames
from zoo.errors import RoutingError
from zoo.interface import DecodeOptions, Features, Hidden, Hypothesis, TimedWord
from zoo.speech import Utterance

TOKENS_PER_S = 60  # nobody says more, also not in bytes of an Indic script: what is longer is a loop
TOKENS_SPARE = 24


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
    words: tuple[TimedWord, ...] = ()
    """Where word times were asked for; seconds from the chunk's start."""


@dataclass
class Clock:
    """Seconds per stage, added up over the batches of one call."""

    device: torch.device | None = None
    """Where work is queued, so that a stage ends when its work has ended."""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device is not None and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Listened:
    """A batch up to the tap, heard with the bank switched off."""

    features: Features
    entry: Features | Hidden
    """Where the encoder starts again if the mixture changes layers below the tap."""
    tapped: Features | Hidden
    """Where it goes on if not."""
    probabilities: list[dict[str, float]]
    """Language -> probability of each row; empty where the language is forced."""
    frames: list[torch.Tensor] | None = None
    """Log-probabilities of the languages per encoder frame `[T, L]`, real frames only; None where nothing gives them."""

    def rows(self, chosen: Sequence[int]) -> "Listened":
        """Some rows of it."""
        if list(chosen) == list(range(len(self.probabilities))):
            return self
        index = torch.tensor(chosen, device=self.features.values.device)
        return Listened(
            _spread(self.features, index),
            _spread(self.entry, index),
            _spread(self.tapped, index),
            [self.probabilities[i] for i in chosen],
            None if self.frames is None else [self.frames[i] for i in chosen],
        )


@torch.inference_mode()
def listen(
    base,
    bank: Bank,
    classifier: Classifier | None,
    lowest_layers: Iterable[int],
    utterances: Sequence[Utterance],
    clock: Clock,
) -> Listened:
    """Utterances of equal grid up to the tap, and what the classifier says of them (None: it is not asked).

    lowest_layers: of each adapter that may be mixed, the first encoder layer that it changes.
    """
    with clock.stage("features"):
        features = base.features(utterances)
    if classifier is None:
        return Listened(features, features, features, [{} for _ in utterances])
    with bank.off():
        with clock.stage("encode"):
            entry = base.encode(features, until=min([base.tap, *lowest_layers]))
            tapped = entry if entry.layer == base.tap else base.encode(entry, until=base.tap)
        with clock.stage("classify"):
            found = classifier(tapped)
            probabilities = found.rows()
    frames = None
    if found.frames is not None:
        frames = [row[:n] for row, n in zip(found.frames, features.lengths.tolist(), strict=True)]
    return Listened(features, entry, tapped, probabilities, frames)


@torch.inference_mode()
def write(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    listened: Listened,
    decisions: Sequence[Decision],
    options: TranscribeOptions,
    clock: Clock,
    longest_s: float,
    previous: str = "",
    *,
    mixture: Mixture | None = None,
    stretches: Sequence[Stretch] | None = None,
) -> list[Passed]:
    """The upper half and the decoder: what is said in each row under its decision.

    adapters: language -> adapter name; longest_s: seconds the rows were padded to; previous: text said before, for all
    rows; mixture: instead of the decisions' own; stretches: the frames of each row that are its own.
    Where no adapter of the mixture touches the lower half, the upper half continues from the tap; else the encoder runs
    again from the lowest adapted layer.
    """
    decoding = options.decoding(TOKENS_SPARE + int(TOKENS_PER_S * longest_s), previous)
    decisions = [explained(decision, adapters) for decision in decisions]
    rows = [adapter_weights(decision, adapters) for decision in decisions]
    probabilities, frames = listened.probabilities, listened.frames
    if options.ensemble == "logits":
        hypotheses, words = _decode_apart(
            base, bank, adapters, lowest_layers, listened, decisions, decoding, clock, stretches
        )
    else:
        with _mixing(bank, Mixture.from_rows(rows) if mixture is None else mixture, clock) as mixture:
            below = any(lowest_layers[name] < base.tap for name in mixture.names)
            with clock.stage("encode"):
                hidden = base.encode(listened.entry if below else listened.tapped)
                if stretches is not None:
                    hidden = own_frames(hidden, stretches)
            with clock.stage("decode"):
                languages = written_languages(base, bank, decisions, probabilities, hidden)
                hypotheses = base.decode(hidden, languages, decoding)
                words = _words(base, hidden, hypotheses, options)
    return [
        Passed(hypothesis, decision, row, weights, None if frames is None else frames[i], words[i])
        for i, (hypothesis, decision, row, weights) in enumerate(
            zip(hypotheses, decisions, probabilities, rows, strict=True)
        )
    ]


def _decode_apart(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    listened: Listened,
    decisions: list[Decision],
    decoding: DecodeOptions,
    clock: Clock,
    stretches: Sequence[Stretch] | None,
) -> tuple[list[Hypothesis], list[tuple[TimedWord, ...]]]:
    """`ensemble="logits"`: each language of a decision runs through its own adapter, under its own language token, and
    the decoders' distributions are averaged step by step by the decision's shares.

    The members of a clip lie side by side as rows, one-hot in the mixture. A language the base has no token for is left
    out. Returns hypotheses, and no words.
    """
    if not hasattr(base, "decode_ensemble"):
        raise RoutingError(f"{base.card.name} cannot mix distributions", valid='ensemble="weights"')
    alone = written_languages(base, bank, decisions, listened.probabilities, None)
    members = [
        {language: share for language, share in decision.shares.items() if language in base.languages and share > 0}
        or {language: 1.0}
        for decision, language in zip(decisions, alone, strict=True)
    ]
    count = max(map(len, members))
    weights = torch.zeros(len(members), count)
    languages: list[str] = []
    rows: list[dict[str, float]] = []
    for i, shares in enumerate(members):
        chosen = [*shares.items(), *[(next(iter(shares)), 0.0)] * (count - len(shares))]
        for k, (language, share) in enumerate(chosen):
            weights[i, k] = share / sum(shares.values())
            languages.append(language)
            rows.append({adapters[language]: 1.0} if language in adapters and decisions[i].shares else {})
    index = torch.arange(len(members), device=base.device).repeat_interleave(count)
    with _mixing(bank, Mixture.from_rows(rows), clock) as mixture:
        below = any(lowest_layers[name] < base.tap for name in mixture.names)
        with clock.stage("encode"):
            hidden = base.encode(_spread(listened.entry if below else listened.tapped, index))
            if stretches is not None:
                hidden = own_frames(hidden, [stretches[i] for i in index.tolist()])
        with clock.stage("decode"):
            hypotheses = base.decode_ensemble(hidden, languages, weights, decoding)
    return hypotheses, [()] * len(hypotheses)


def _spread(states, index: torch.Tensor):
    """Features or Hidden whose row i is row `index[i]`."""
    return replace(states, values=states.values[index], lengths=states.lengths[index])


@contextmanager
def _mixing(bank: Bank, mixture: Mixture, clock: Clock) -> Iterator[Mixture]:
    """Inside the block the base runs under `mixture`; bringing its adapters in is timed as `swap`."""
    mixing = bank.mixing(mixture) if mixture.names else nullcontext()
    with clock.stage("swap"):
        mixing.__enter__()
    try:
        yield mixture
    finally:
        mixing.__exit__(None, None, None)


def _words(base, hidden: Hidden, hypotheses: list[Hypothesis], options: TranscribeOptions):
    if options.timestamps != "word":
        return [()] * len(hypotheses)
    if not hasattr(base, "align_words"):
        raise RoutingError(f"{base.card.name} cannot align words", valid='timestamps="none", "segment"')
    return base.align_words(hidden, hypotheses)


def written_languages(
    base, bank: Bank, decisions: list[Decision], probabilities: list[dict[str, float]], hidden: Hidden | None
) -> list[str]:
    """The language whose token the decoder is given: the decision's; where that is unknown, what the base itself
    detects in `hidden`, else the most probable language it can write."""
    languages = []
    for decision, row in zip(decisions, probabilities, strict=True):
        known = [language for language in row if language in base.languages]
        languages.append(decision.language if decision.language != UNKNOWN else (known or base.languages)[0])
    unknown = [i for i, decision in enumerate(decisions) if decision.language == UNKNOWN]
    if unknown and hidden is not None and hasattr(base, "detect_language"):
        index = torch.tensor(unknown, device=hidden.values.device)
        with bank.off():
            best = base.detect_language(_spread(hidden, index)).argmax(dim=1)
        for i, k in zip(unknown, best.tolist(), strict=True):
            languages[i] = base.languages[k]
    return languages
