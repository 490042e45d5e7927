"""A chunk in several languages in one pass: the mixture changes from frame to frame at the sites that see frames, and the
words are given to the stretches by their times."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from adapters.mixture import Mixture
from router.assembling import Part
from router.passes import write
from router.policies import Decision, adapter_weights, explained
from router.seams import frame_samples
from zoo.errors import RoutingError
from zoo.interface import Hypothesis, TimedWord
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from router.stretches import Spoken


def write_by_frame(
    base, bank, adapters, lowest_layers, listened, heard: "Sequence[Spoken]", utterance, options, clock, previous
) -> list[Part]:
    """The parts of one chunk: one pass under a mixture that changes with its stretches.

    Raises RoutingError for a base that cannot align words."""
    if not hasattr(base, "align_words"):
        raise RoutingError(
            f"{base.card.name} cannot align words, so words cannot be given to segments", valid='strategy="segments"'
        )
    frames = listened.tapped.values.shape[1]
    whole = overall(heard)
    names = tuple(sorted({name for s in heard for name in adapter_weights(s.decision, adapters)}))
    by_frame = torch.zeros(1, frames, len(names))
    for spoken in heard:
        end = frames if spoken is heard[-1] else spoken.end  # the silence behind goes with the last
        for name, weight in adapter_weights(spoken.decision, adapters).items():
            by_frame[0, spoken.start : end, names.index(name)] = weight
    mixture = Mixture(names, Mixture.from_rows([adapter_weights(whole, adapters)], names).weights, by_frame)
    timed = replace(options, timestamps="word")
    passed = write(
        base, bank, adapters, lowest_layers, [replace(listened, probabilities=[_mean(heard)])], [whole], timed, clock,
        [base.grid_s(utterance)], previous, mixture=mixture if names else None,
    )[0]  # fmt: skip
    per_frame = frame_samples(base) / SAMPLE_RATE
    parts = []
    written = 0
    for spoken, words in zip(heard, shared_out(passed.words, heard, per_frame), strict=True):
        start = spoken.start * per_frame
        end = min(spoken.end * per_frame, utterance.duration_s)
        own = replace(
            passed,
            hypothesis=hypothesis_of(words, passed.hypothesis, written, spoken.decision.language),
            decision=explained(spoken.decision, adapters),
            probabilities=spoken.probabilities,
            weights=adapter_weights(spoken.decision, adapters),
            frames=passed.frames[spoken.start : spoken.end],
            words=shifted(words, start) if options.timestamps == "word" else (),
        )
        parts.append(Part(start, end, own))
        written += len(own.hypothesis.tokens)
    return parts


def overall(heard: "Sequence[Spoken]") -> Decision:
    """What rules where the mixture cannot change with time (the decoder's own sites, its language token): the languages'
    shares by their time, and the language that is spoken longest."""
    total = sum(spoken.end - spoken.start for spoken in heard)
    spoken_for: dict[str, int] = {}
    shares: dict[str, float] = {}
    for spoken in heard:
        length = spoken.end - spoken.start
        language = spoken.decision.language
        spoken_for[language] = spoken_for.get(language, 0) + length
        for tag, share in spoken.decision.shares.items():
            shares[tag] = shares.get(tag, 0.0) + share * length / total
    return Decision(max(spoken_for, key=lambda tag: spoken_for[tag]), shares, "by time")


def _mean(heard: "Sequence[Spoken]") -> dict[str, float]:
    total = sum(spoken.end - spoken.start for spoken in heard)
    row: dict[str, float] = {}
    for spoken in heard:
        for tag, p in spoken.probabilities.items():
            row[tag] = row.get(tag, 0.0) + p * (spoken.end - spoken.start) / total
    return dict(sorted(row.items(), key=lambda item: -item[1]))


def shared_out(words: Sequence[TimedWord], heard: "Sequence[Spoken]", frame_s: float) -> list[tuple[TimedWord, ...]]:
    """Each word to the stretch in which its middle lies: every word exactly once, in order."""
    edges = [spoken.start * frame_s for spoken in heard[1:]]
    groups: list[list[TimedWord]] = [[] for _ in heard]
    at = 0
    for word in words:
        at = max(at, int(np.searchsorted(edges, (word.start_s + word.end_s) / 2, side="right")))
        groups[at].append(word)
    return [tuple(group) for group in groups]


def shifted(words: Sequence[TimedWord], by_s: float) -> tuple[TimedWord, ...]:
    """Times from the stretch's start instead of the chunk's."""
    return tuple(replace(w, start_s=max(0.0, w.start_s - by_s), end_s=max(0.0, w.end_s - by_s)) for w in words)


def hypothesis_of(words: Sequence[TimedWord], whole: Hypothesis, first: int, language: str) -> Hypothesis:
    """The part of a hypothesis that `words` are; first: its tokens before them."""
    tokens = tuple(token for word in words for token in word.tokens)
    scores = whole.token_log_probabilities[first : first + len(tokens)]
    return Hypothesis("".join(word.word for word in words).strip(), tokens, language, float(sum(scores)), scores)
