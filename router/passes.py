"""One batch through the whole way: features, lower encoder, classifier, policy, mixture, upper encoder, decoder.

The only place where the bank and the base meet.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from adapters.bank import Bank, BankFull
from adapters.mixture import Mixture
from router.classifier import UNKNOWN, Classifier
from router.options import TranscribeOptions
from router.policies import Decision, adapter_weights, explained
from router.seams import Stretch, own_frames
from zoo.errors import RoutingError
from zoo.interface import DecodeOptions, Features, Hidden, Hypothesis, TimedWord
from zoo.joining import join
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
    """Clips of one grid up to the tap, heard with the bank switched off."""

    features: Features
    entry: Features | Hidden
    """Where the encoder starts again if the mixture changes layers below the tap."""
    tapped: Features | Hidden
    """Where it goes on if not."""
    probabilities: list[dict[str, float]]
    """Language -> probability of each row; empty where the language is forced."""
    frames: list[torch.Tensor] | None = None
    """Log-probabilities of the languages per encoder frame `[T, L]`, real frames only; None where nothing gives them."""
    stretches: Sequence[Stretch] | None = None
    """The frames of each row that are its own; None: all are."""

    def __len__(self) -> int:
        return len(self.probabilities)

    def rows(self, chosen: Sequence[int]) -> "Listened":
        """Some rows of it."""
        if list(chosen) == list(range(len(self))):
            return self
        index = torch.tensor(chosen, device=self.features.values.device)
        return Listened(
            self.features.rows(index),
            self.entry.rows(index),
            self.tapped.rows(index),
            [self.probabilities[i] for i in chosen],
            None if self.frames is None else [self.frames[i] for i in chosen],
            None if self.stretches is None else [self.stretches[i] for i in chosen],
        )


def rows_of(batch: Sequence[Listened], rows: Sequence[int]) -> list[Listened]:
    """Some rows of a batch, grid by grid. rows: positions in the whole batch, rising."""
    chosen = []
    first = 0
    for one in batch:
        own = [i - first for i in rows if first <= i < first + len(one)]
        first += len(one)
        if own:
            chosen.append(one.rows(own))
    return chosen


def fitting(rows: Sequence, work: Callable[[Sequence], list]) -> list:
    """`work` of all rows; where the bank has no room for their adapters at once, of halves."""
    if not rows:
        return []
    try:
        return work(rows)
    except BankFull:
        if len(rows) == 1:
            raise
        half = len(rows) // 2
        return fitting(rows[:half], work) + fitting(rows[half:], work)


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
    listened: Sequence[Listened],
    decisions: Sequence[Decision],
    options: TranscribeOptions,
    clock: Clock,
    longest_s: Sequence[float],
    previous: str = "",
    *,
    mixture: Mixture | None = None,
) -> list[Passed]:
    """The upper half and the decoder: what is said in each row under its decision.

    adapters: language -> adapter name; listened: clips of one grid each, one after the other the rows: the encoder runs
    grid by grid, the decoder once for all; longest_s: seconds of sound that each row may be written for; previous: text
    said before, for all rows; mixture: instead of the decisions' own, for clips of one grid.
    Where no adapter of the mixture touches the lower half, the upper half continues from the tap; else the encoder runs
    again from the lowest adapted layer.
    """
    decoding = options.decoding([TOKENS_SPARE + int(TOKENS_PER_S * seconds) for seconds in longest_s], previous)
    decisions = [explained(decision, adapters) for decision in decisions]
    rows = [adapter_weights(decision, adapters) for decision in decisions]
    probabilities = [row for one in listened for row in one.probabilities]
    frames = [own for one in listened for own in one.frames or [None] * len(one)]
    if options.ensemble == "logits":
        hypotheses, words = _decode_apart(base, bank, adapters, lowest_layers, listened, decisions, decoding, clock)
    else:
        with _mixing(bank, Mixture.from_rows(rows) if mixture is None else mixture, clock) as mixture:
            with clock.stage("encode"):
                hidden = _encoded(base, bank, mixture, lowest_layers, listened)
            with clock.stage("decode"):
                languages = written_languages(base, bank, decisions, probabilities, hidden)
                hypotheses = base.decode(hidden, languages, decoding)
                words = _words(base, hidden, hypotheses, options)
    return [Passed(*each) for each in zip(hypotheses, decisions, probabilities, rows, frames, words, strict=True)]


def _encoded(base, bank: Bank, mixture: Mixture, lowest_layers: dict[str, int], listened: Sequence[Listened]) -> Hidden:
    """The rest of the encoder, grid by grid, each under its own rows of `mixture`, which is in force; then joined."""
    states = []
    first = 0
    for one in listened:
        own = mixture.rows(slice(first, first + len(one)))
        first += len(one)
        below = any(lowest_layers[name] < base.tap for name in own.names)
        with nullcontext() if len(listened) == 1 else bank.mixing(own):
            hidden = base.encode(one.entry if below else one.tapped)
        states.append(hidden if one.stretches is None else own_frames(hidden, one.stretches))
    return join(states)


def _decode_apart(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    listened: Sequence[Listened],
    decisions: list[Decision],
    decoding: DecodeOptions,
    clock: Clock,
) -> tuple[list[Hypothesis], list[tuple[TimedWord, ...]]]:
    """`ensemble="logits"`: each language of a decision runs through its own adapter, under its own language token, and
    the decoders' distributions are averaged step by step by the decision's shares.

    The members of a clip lie side by side as rows, one-hot in the mixture. A language the base has no token for is left
    out. Returns hypotheses, and no words.
    """
    if not hasattr(base, "decode_ensemble"):
        raise RoutingError(f"{base.card.name} cannot mix distributions", valid='ensemble="weights"')
    probabilities = [row for one in listened for row in one.probabilities]
    alone = written_languages(base, bank, decisions, probabilities, None)
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
    spread = [one.rows([i for i in range(len(one)) for _ in range(count)]) for one in listened]
    with _mixing(bank, Mixture.from_rows(rows), clock) as mixture:
        with clock.stage("encode"):
            hidden = _encoded(base, bank, mixture, lowest_layers, spread)
        with clock.stage("decode"):
            hypotheses = base.decode_ensemble(hidden, languages, weights, decoding)
    return hypotheses, [()] * len(hypotheses)


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
            best = base.detect_language(hidden.rows(index)).argmax(dim=1)
        for i, k in zip(unknown, best.tolist(), strict=True):
            languages[i] = base.languages[k]
    return languages
