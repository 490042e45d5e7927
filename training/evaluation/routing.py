"""Routing measured: base alone, oracle adapter, the model's own detection, each policy, side by side.

All systems run on one loaded base and one bank; every clip is decoded once. Latency is measured on clips that come one
at a time, after the batches, so that nothing is shared out by guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from training.clips import Clips
from training.data.manifest import Record
from training.evaluation.measurements import Measurement
from training.evaluation.metrics import relative_reduction
from training.evaluation.systems import STAGES, Scored, System, groups, speech_of, time_alone, told, untold
from training.validation import spread
from zoo.errors import DataError

if TYPE_CHECKING:
    from router.router import Router

UNSURE = 0.8  # below this probability soft mixing ought to pay
BASIS = ("indic", "raw")  # normalisers that relative comparisons are made under


@dataclass
class RoutingReport:
    """Everything `boli evaluate routing` found."""

    clips: Clips
    scorable: list[int]
    """Positions of clips whose language the base can write; only these have error rates."""
    systems: list[System] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    confusion: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """System -> spoken -> heard -> clips."""
    about: dict[str, Any] = field(default_factory=dict)


def evaluate_routing(
    router: "Router",
    clips: Clips,
    policies: Sequence[str],
    *,
    full: "Sequence[tuple[str, Router]]" = (),
    latency_clips: int = 40,
    bootstrap: int = 1000,
    seed: int = 0,
) -> RoutingReport:
    """full: (language, Router of a fully fine-tuned model); an empty language stands for all it is asked.

    Raises DataError where the base can write none of the clips' languages, or the router has no classifier.
    """
    from router.classifier import WhisperDetection

    base = router.base
    if router.classifier is None:
        raise DataError(
            "The router has no classifier, so there is no routing to measure",
            remedy="router.load(classifier=FOLDER); boli train classifier makes one",
        )
    everything = list(range(len(clips)))
    scorable = [i for i in everything if writes(base, clips.records[i].lang)]
    if not scorable:
        raise DataError(
            f"{base.card.name} writes none of the languages of these clips", valid=", ".join(base.languages)
        )
    timed = spread(-(-latency_clips // max(1, _languages(clips, scorable))), [clips.records[i].lang for i in scorable])
    timed = [scorable[k] for k in timed] if latency_clips else []
    report = RoutingReport(clips, scorable)

    def add(system: System, way: "Router", *, tell: bool) -> None:
        system.seconds.extend(time_alone(way, clips, timed, tell=tell))
        report.systems.append(system)

    alone = router.sharing(fleet={})
    add(told(alone, "base", clips, scorable), alone, tell=True)
    for language, way in full:
        members = [i for i in scorable if not language or clips.records[i].lang == language]
        report.systems.append(told(way, "full", clips, members, model=way.base.folder.name))
    add(told(router, "oracle", clips, scorable), router, tell=True)
    if hasattr(base, "detect_language"):
        own = router.sharing(classifier=WhisperDetection(base), policy="hard", languages=router.options.languages)
        add(untold(own, "detected", clips, everything), own, tell=False)
    for policy in policies:
        way = router.sharing(policy=policy)
        add(untold(way, "routed", clips, everything, policy=policy), way, tell=False)
    _measure(report, router, router.classifier.languages, bootstrap, seed)
    return report


def writes(base, language: str) -> bool:
    """Whether the base has a token for the language or, for `hi-IN`, for `hi`."""
    return language in base.languages or language.split("-")[0] in base.languages


def _languages(clips: Clips, positions: Sequence[int]) -> int:
    return len({clips.records[i].lang for i in positions})


def _measure(report: RoutingReport, router: "Router", known: Sequence[str], bootstrap: int, seed: int) -> None:
    clips = report.clips
    scored = Scored(clips, decoding_of(router))
    by_name = {system.label: system for system in report.systems}
    oracle = by_name["oracle"]
    for system in report.systems:
        members_of = [i for i in report.scorable if i in system.heard]
        for language, speech, members in groups(clips, members_of, speech_of):
            report.measurements += scored.measurements(system, members, language, speech, bootstrap)
            if system.name in ("detected", "routed"):
                report.measurements += degradation(
                    scored, oracle, system, members, language, speech, bootstrap=bootstrap, seed=seed
                )
        if system.name in ("detected", "routed"):
            report.confusion[system.label] = confusion(system, clips, known)
            report.measurements += accuracy(system, clips, known, bootstrap, seed)
        report.measurements += latency(system)
    if "routed hard" in by_name and "routed soft" in by_name:
        report.measurements += soft_against_hard(
            scored, by_name["routed hard"], by_name["routed soft"], report.scorable, bootstrap, seed
        )


def decoding_of(router: "Router") -> dict[str, Any]:
    """What enters the key of a score."""
    beam, ctc = router.options.beam_size, router.options.ctc_weight
    return {"search": "greedy" if beam == 1 else f"beam{beam}", **({"ctc_weight": ctc} if ctc else {})}


def expected(language: str, known: Sequence[str]) -> str:
    """What the classifier ought to say: `unknown` for a language it does not know, where it has that answer."""
    from router.classifier import UNKNOWN

    return UNKNOWN if language not in known and UNKNOWN in known else language


def accuracy(system: System, clips: Clips, known: Sequence[str], bootstrap: int, seed: int) -> list[Measurement]:
    """Share of clips whose language was heard: over all (of each kind of speech), per language, per corpus (`source` of
    the manifest). Measures `routing_accuracy` for policies, `detection_accuracy` for the model's own detection,
    `corpus_routing_accuracy`, ... for single corpora."""
    name = "detection_accuracy" if system.name == "detected" else "routing_accuracy"
    positions = sorted(system.heard)

    def those(value: Callable[[Record], str], wanted: str) -> list[int]:
        return [i for i in positions if value(clips.records[i]) == wanted]

    kinds = sorted({speech_of(clips.records[i]) for i in positions})
    spoken = sorted({clips.records[i].lang for i in positions})
    corpora = sorted({source_of(clips.records[i]) for i in positions} - {""})
    cases: list[tuple[str, str, dict[str, Any], list[int]]] = [(name, "", {}, positions)]
    if len(kinds) > 1:
        cases += [(name, "", {"of": kind or "unnamed"}, those(speech_of, kind)) for kind in kinds]
    cases += [(name, tag, {}, those(lambda record: record.lang, tag)) for tag in spoken]
    cases += [(f"corpus_{name}", "", {"corpus": corpus}, those(source_of, corpus)) for corpus in corpora]
    random = np.random.default_rng(seed)
    found = []
    for measure, language, where, members in cases:
        right = np.array([system.heard[i].language == expected(clips.records[i].lang, known) for i in members])
        low = high = None
        if bootstrap:
            shares = random.binomial(len(right), right.mean(), bootstrap) / len(right)
            low, high = (float(x) for x in np.percentile(shares, [2.5, 97.5]))
        speech = {speech_of(clips.records[i]) for i in members}
        found.append(
            Measurement(
                measure,
                float(right.mean()),
                low,
                high,
                len(members),
                language,
                system.name,
                speech=speech.pop() if len(speech) == 1 else "",
                conditions={**system.conditions, **where},
            )
        )
    return found


def source_of(record: Record) -> str:
    return str(record.extra.get("source", ""))


def confusion(system: System, clips: Clips, known: Sequence[str]) -> dict[str, dict[str, int]]:
    """Spoken -> heard -> clips."""
    table: dict[str, dict[str, int]] = {}
    for i, heard in system.heard.items():
        row = table.setdefault(expected(clips.records[i].lang, known), {})
        row[heard.language] = row.get(heard.language, 0) + 1
    return {spoken: dict(sorted(row.items(), key=lambda item: -item[1])) for spoken, row in sorted(table.items())}


def degradation(
    scored: Scored,
    oracle: System,
    system: System,
    members: Sequence[int],
    language: str,
    speech: str,
    **resampling: int,
) -> list[Measurement]:
    """How much more WER, relatively, than the oracle's on the same clips; paired bootstrap."""
    found = []
    for name in BASIS:
        before, after = scored.counts(oracle, name, members), scored.counts(system, name, members)
        if before[:, 1:].sum() == 0 or resampling["bootstrap"] == 0:
            continue
        gap = relative_reduction(before, after, **resampling)
        found.append(
            Measurement(
                "degradation_against_oracle",
                -gap.relative or 0.0,  # never -0.0
                -gap.high,
                -gap.low,
                len(members),
                language,
                system.name,
                normaliser=name,
                speech=speech,
                conditions=system.conditions,
            )
        )
    return found


def soft_against_hard(
    scored: Scored, hard: System, soft: System, scorable: Sequence[int], bootstrap: int, seed: int
) -> list[Measurement]:
    """Relative WER reduction of soft against hard where the classifier is unsure (largest p < 0.8)."""
    unsure = [i for i in scorable if hard.heard[i].probability < UNSURE]
    found = [Measurement("unsure_clips", len(unsure), count=len(scorable), system="routed")]
    for name in BASIS:
        before, after = scored.counts(hard, name, unsure), scored.counts(soft, name, unsure)
        if not unsure or not bootstrap or before[:, 1:].sum() == 0:
            continue
        gain = relative_reduction(before, after, bootstrap=bootstrap, seed=seed)
        conditions = {"below": UNSURE, "probability_better": gain.probability_better}
        found.append(
            Measurement(
                "soft_gain_where_unsure",
                gain.relative,
                gain.low,
                gain.high,
                len(unsure),
                system="routed",
                normaliser=name,
                conditions=conditions,
            )
        )
    return found


def latency(system: System) -> list[Measurement]:
    """Seconds per clip and stage, median and 95th percentile, of clips that came alone."""
    found = []
    for stage in (*STAGES, "total") if system.seconds else ():
        values = [seconds.get(stage, 0.0) for seconds in system.seconds]
        for name, share in (("p50", 50), ("p95", 95)):
            found.append(
                Measurement(
                    f"latency_{stage}_{name}_s",
                    float(np.percentile(values, share)),
                    count=len(values),
                    system=system.name,
                    conditions=system.conditions,
                )
            )
    return found
