"""A second hearing for clips whose language the classifier is not sure of: each candidate language writes them, and how sure
it is of what it wrote speaks beside the classifier.

The classifier judges sounds; taught by few people, it takes a new voice for the language of a voice it knows. An adapter
knows the words of its language: under the right one a text comes out surely, under a wrong one hesitantly. All candidates of
all clips are rows of one batch, each under its own adapter (recognisers' confidence for language identification: Metze et
al., ICASSP 2000).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.bank import Bank
from router.classifier import UNKNOWN
from router.options import TranscribeOptions
from router.passes import Clock, Listened, fitting, rows_of, write
from router.policies import Decision
from zoo.errors import ModelError
from zoo.speech import Utterance

LEAST = 1e-9  # probability that no language falls below, so that its words can still speak for it


@dataclass(frozen=True)
class Rescoring:
    """Chosen on a validation set by `boli train rescoring`; the defaults do nothing."""

    weight: float = 0.0
    """Of the mean log-probability of what was written, in nats a token; 0: nobody is heard twice."""
    unknown: float = 0.0
    """The class `unknown` counts as if it wrote with this mean log-probability."""
    sure: float = 0.95
    """A clip of whose language the classifier is surer than this is not heard again."""
    most: int = 5
    """Languages that are tried, the most probable ones."""
    temperature: float = 1.0
    """The logits are divided by it."""

    def __post_init__(self):
        if not self.weight >= 0:
            raise ModelError(f"rescoring weight is {self.weight}", valid="0 or more")
        if not 0 <= self.sure <= 1:
            raise ModelError(f"rescoring sure is {self.sure}", valid="0 to 1")
        if self.most < 2:
            raise ModelError(f"rescoring most is {self.most}", valid="2 or more languages")
        if not self.temperature > 0:
            raise ModelError(f"rescoring temperature is {self.temperature}", valid="above 0")


def candidates(probabilities: Mapping[str, float], writable: Sequence[str], options: Rescoring) -> list[str]:
    """The languages to try of a clip, most probable first; none where the classifier is sure or there is no choice.

    probabilities: language -> probability, all that may be spoken; writable: those of them that can be written."""
    if options.weight == 0 or not probabilities:
        return []
    total = sum(probabilities.values())
    if total > 0 and max(probabilities.values()) > options.sure * total:
        return []
    tried = sorted((tag for tag in probabilities if tag in writable), key=lambda tag: -probabilities[tag])
    return tried[: options.most] if len(tried) > 1 else []


def rescored(probabilities: Mapping[str, float], written: Mapping[str, float], options: Rescoring) -> dict[str, float]:
    """Language -> probability once the candidates have written, most probable first.

    written: of each candidate the mean log-probability of its tokens. A language that was not tried counts as the least
    sure of those that were."""
    least = min(written.values())
    logits = {
        tag: math.log(max(p, LEAST)) + options.weight * (options.unknown if tag == UNKNOWN else written.get(tag, least))
        for tag, p in probabilities.items()
    }
    top = max(logits.values())
    shares = {tag: math.exp((logit - top) / options.temperature) for tag, logit in logits.items()}
    total = sum(shares.values())
    return dict(sorted(((tag, share / total) for tag, share in shares.items()), key=lambda item: -item[1]))


def heard_again(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    batch: Sequence[Listened],
    rows: Sequence[int],
    utterances: Sequence[Utterance],
    options: TranscribeOptions,
    clock: Clock,
    rescoring: Rescoring,
    previous: str = "",
) -> list[Listened]:
    """`batch` with new probabilities where the candidates have written.

    rows: positions in the whole batch that may be heard again, rising; the rest as for `switching.run`."""
    said = [row for one in batch for row in one.probabilities]
    permitted = {i: permitted_row(said[i], options) for i in rows}
    written: dict[int, dict[str, float]] = {}
    pairs = [(i, tag) for i in rows for tag in candidates(permitted[i], writable(base, permitted[i]), rescoring)]
    found_sure = write_each(base, bank, adapters, lowest_layers, batch, pairs, utterances, options, clock, previous)
    for (i, tag), sure in zip(pairs, found_sure, strict=True):
        written.setdefault(i, {})[tag] = sure
    for i, found in written.items():
        total = sum(permitted[i].values())
        new = {tag: total * p for tag, p in rescored(permitted[i], found, rescoring).items()}
        said[i] = dict(sorted({**said[i], **new}.items(), key=lambda item: -item[1]))
    return said_anew(batch, said)


def said_anew(batch: Sequence[Listened], said: Sequence[dict[str, float]]) -> list[Listened]:
    """`batch` with these probabilities, one row's after the other."""
    again, first = [], 0
    for one in batch:
        again.append(replace(one, probabilities=list(said[first : first + len(one)])))
        first += len(one)
    return again


def write_each(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    batch: Sequence[Listened],
    pairs: Sequence[tuple[int, str]],
    utterances: Sequence[Utterance],
    options: TranscribeOptions,
    clock: Clock,
    previous: str = "",
) -> list[float]:
    """Of each (position in the whole batch, language) of `pairs`, positions rising, how surely the language writes it, in
    nats a token. Writing is greedy, whatever the options say: what is compared is not what is written."""
    options = greedily(options)

    def work(tried: Sequence[tuple[int, str]]) -> list[float]:
        chosen = rows_of(batch, [i for i, _ in tried])
        decisions = [Decision(tag, {tag: 1.0}, "tried") for _, tag in tried]
        seconds = [base.grid_s(utterances[i]) for i, _ in tried]
        passed = write(base, bank, adapters, lowest_layers, chosen, decisions, options, clock, seconds, previous)
        return [surety(p.hypothesis.token_log_probabilities) for p in passed]

    groups = (pairs[start : start + options.batch_size] for start in range(0, len(pairs), options.batch_size))
    return [sure for group in groups for sure in fitting(group, work)]


def greedily(options: TranscribeOptions) -> TranscribeOptions:
    """Under which options texts are written that are to be compared."""
    return replace(options, beam_size=1, ctc_weight=0.0, timestamps="none", ensemble="weights", switching=False)


def surety(token_log_probabilities: Sequence[float]) -> float:
    """The mean of them, in nats a token."""
    return sum(token_log_probabilities) / max(1, len(token_log_probabilities))


def permitted_row(row: Mapping[str, float], options: TranscribeOptions) -> dict[str, float]:
    """What of it may be spoken."""
    return {tag: p for tag, p in row.items() if options.languages is None or tag in options.languages}


def writable(base, row: Iterable[str]) -> list[str]:
    """Those of the languages that the base has a token for."""
    return [tag for tag in row if tag != UNKNOWN and (tag in base.languages or tag.split("-")[0] in base.languages)]
