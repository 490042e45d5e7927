"""A chunk that seems to be in several languages is written in several versions, and the most probable one is taken.

A version is a cut into stretches, or the whole in one language, with what is then written. Three judges speak for it: the
base's own CTC, which heard the chunk as a whole and scores every text on the same frames (where the base has such a head);
the decoder that wrote it, stretch by stretch; and the classifier's frames. Their weights are kept with the classifier,
chosen by `boli train switching` (N-best rescoring by a log-linear combination: Ostendorf et al., HLT 1991).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from adapters.bank import Bank
from router.classifier import Classifier
from router.options import TranscribeOptions
from router.own_ctc import OwnCtc
from router.passes import Listened, Passed
from router.policies import Decision
from router.rescoring import Rescoring
from router.smoothing import Smoothing
from router.stretches import Spoken, cuts_by_evidence, permitted_frames, spoken_again
from zoo.speech import Utterance

Write = Callable[[Sequence[tuple[int, Spoken]], TranscribeOptions], list[Passed]]
"""What is said in each (position of the chunk, stretch), each for itself under the stretch's decision."""


@dataclass(frozen=True)
class Version:
    """One way to write a chunk. Scores are natural logarithms of probabilities."""

    spans: tuple[Spoken, ...]
    """One: the whole in one language."""
    passed: tuple[Passed, ...]
    """What was written in each."""
    ctc: float
    """Of the whole text under the base's own CTC; 0 where the base has none."""
    written: float
    """Of the text under the decoder (with CTC, where the search had it), summed over the stretches."""
    heard: float
    """Of the languages of all frames under the classifier, in nat-seconds."""

    @cached_property
    def text(self) -> str:
        return " ".join(p.hypothesis.text for p in self.passed if p.hypothesis.text)

    def score(self, smoothing: Smoothing) -> float:
        return self.ctc + smoothing.written * self.written + smoothing.heard * self.heard


def compared(options: TranscribeOptions) -> TranscribeOptions:
    """Under which options versions are written: by the search that is asked for, but comparable."""
    return replace(options, timestamps="none", ensemble="weights", strategy="segments", switching=False)


def versions_of(
    base,
    bank: Bank,
    classifier: Classifier,
    batch: Sequence[Listened],
    utterances: Sequence[Utterance],
    cuts: Sequence[list[list[Spoken]]],
    wholes: Sequence[Sequence[str]],
    options: TranscribeOptions,
    smoothing: Smoothing,
    rescoring: Rescoring,
    write: Write,
) -> list[list[Version]]:
    """The versions of each chunk of `batch`; none of a chunk without cuts, or with a single cut and nothing beside it.

    cuts: of each chunk, by the classifier's frames; others are tried beside them, by what the base heard with its
    whole encoder; each is also written as a second hearing has it. wholes: the languages in which each may be written as a whole.
    """
    listened = [(one, row) for one in batch for row in range(len(one))]
    judges = {i: OwnCtc(base, bank, one.rows([row])) for i, (one, row) in enumerate(listened) if cuts[i]}
    found = [list(each) for each in cuts]
    for i, judge in judges.items():
        one, row = listened[i]
        assert one.frames is not None, "or there would be no cut"
        evidence = judge.evidence(classifier, smoothing.floor)
        more = cuts_by_evidence(one.frames[row], evidence, classifier, utterances[i], base, options, smoothing)
        found[i] += [spans for spans in more if spans not in found[i]]
    flat = [(i, spans) for i, each in enumerate(cuts) for spans in each]
    for (i, _), again in zip(flat, spoken_again(base, flat, options, rescoring, write), strict=True):
        found[i] += [again] if again not in found[i] else []
    for i, tags in enumerate(wholes):
        frames = listened[i][0].frames
        if not found[i] or frames is None:
            continue
        length = found[i][0][-1].end
        known = {spans[0].decision.language for spans in found[i] if len(spans) == 1}
        found[i] += [[Spoken(0, length, {t: 1.0}, Decision(t, {t: 1.0}, "tried"))] for t in tags if t not in known]
    found = [each if len(each) > 1 else [] for each in found]
    wanted = {_key(i, spoken): (i, spoken) for i, each in enumerate(found) for spans in each for spoken in spans}
    written = dict(zip(wanted, write(list(wanted.values()), compared(options)) if wanted else [], strict=True))
    versions: list[list[Version]] = []
    for i, (each, (one, row)) in enumerate(zip(found, listened, strict=True)):
        if not each:
            versions.append([])
            continue
        assert one.frames is not None, "or there would be no cut"
        own = [
            _version(i, spans, written, one.frames[row], classifier.languages, options, smoothing, base.frame_rate)
            for spans in each
        ]
        scores = judges[i].of_texts([version.text for version in own])
        versions.append([replace(version, ctc=score) for version, score in zip(own, scores, strict=True)])
    return versions


def _key(i: int, spoken: Spoken) -> tuple:
    return i, spoken.start, spoken.end, spoken.decision.language, tuple(sorted(spoken.decision.shares.items()))


def _version(
    i: int,
    spans: Sequence[Spoken],
    written: dict[tuple, Passed],
    frames: torch.Tensor,
    languages: Sequence[str],
    options: TranscribeOptions,
    smoothing: Smoothing,
    frame_rate: float,
) -> Version:
    permitted, rows = permitted_frames(frames.float().cpu().numpy(), languages, options.languages)
    rows = np.maximum(rows.astype(np.float64), smoothing.floor)
    heard = sum(
        float(rows[spoken.start : spoken.end, permitted.index(spoken.decision.language)].sum())
        if spoken.decision.language in permitted
        else smoothing.floor * (spoken.end - spoken.start)
        for spoken in spans
    )
    passed = tuple(written[_key(i, spoken)] for spoken in spans)
    return Version(tuple(spans), passed, 0.0, sum(p.hypothesis.log_probability for p in passed), heard / frame_rate)


def best(versions: Sequence[Version], smoothing: Smoothing, margin: float) -> Version:
    """The most probable cut; the most probable whole where its score is larger by more than `margin`."""

    def most(found: list[Version]) -> Version | None:
        return max(found, key=lambda version: version.score(smoothing), default=None)

    cut = most([version for version in versions if len(version.spans) > 1])
    whole = most([version for version in versions if len(version.spans) == 1])
    if cut is None or whole is None:
        chosen = cut or whole
        assert chosen is not None, "no versions"
        return chosen
    return whole if whole.score(smoothing) - cut.score(smoothing) > margin else cut


def ordered(versions: Sequence[Version], smoothing: Smoothing) -> list[Sequence[Spoken]]:
    """The cuts among the versions, the most probable first."""
    cuts = [version for version in versions if len(version.spans) > 1]
    return [version.spans for version in sorted(cuts, key=lambda version: -version.score(smoothing))]


def weighed(
    probabilities: dict[str, float], versions: Sequence[Version], smoothing: Smoothing, seconds: float
) -> dict[str, float]:
    """Language -> probability of a chunk that is to be written as a whole, most probable first: what the classifier gives
    to the languages that wrote it, shared out anew by their versions' scores a second.

    seconds: the chunk's duration, so that a longer one is not surer of everything."""
    scores = {
        version.spans[0].decision.language: version.score(smoothing) / seconds
        for version in versions
        if len(version.spans) == 1
    }
    top = max(scores.values())
    shares = {tag: float(np.exp(score - top)) for tag, score in scores.items()}
    mass = sum(probabilities.get(tag, 0.0) for tag in shares)
    new = {**probabilities, **{tag: mass * share / sum(shares.values()) for tag, share in shares.items()}}
    return dict(sorted(new.items(), key=lambda item: -item[1]))
