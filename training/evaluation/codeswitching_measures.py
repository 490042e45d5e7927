"""What is measured on clips that change language: switches found and missed, words, time, all by kind of clip."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluation.codeswitching_runs import (
    BY_ITSELF,
    CodeSwitchReport,
    Run,
    causal_tally,
    kind_of,
    seconds_of,
    speech_kind,
)
from training.evaluation.measurements import Measurement
from training.evaluation.metrics import relative_reduction
from training.evaluation.routing import decoding_of
from training.evaluation.switched_words import WordCounts, count
from training.evaluation.switches import TOLERANCES_S, decided_switches, found_switches, match, spoken_switches, tally
from training.evaluation.systems import Scored

if TYPE_CHECKING:
    from router.router import Router
    from router.transcript import Transcript

SEVERAL = "mul"  # ISO 639-2 for several languages: the normaliser of no single one


def measure(
    report: CodeSwitchReport, router: "Router", scorable: list[int], *, bootstrap: int, seed: int
) -> list[Measurement]:
    """Everything, for each kind of speech as a whole and (`kind_...`) for each kind of clip."""
    clips = report.clips
    measured: list[Measurement] = []
    speeches = sorted({speech_kind(clips.records[i]) for i in range(len(clips))})

    def of(speech: str, positions: Sequence[int], kind: str | None = None) -> list[int]:
        return [
            i for i in positions
            if speech_kind(clips.records[i]) == speech and kind in (None, kind_of(clips.records[i]))
        ]  # fmt: skip

    for speech in speeches:
        members = of(speech, range(len(clips)))
        kinds = sorted({kind_of(clips.records[i]) for i in members})
        measured += _found(report, members, "", {"speech": speech})
        for kind in kinds:
            chosen = of(speech, members, kind)
            measured += _found(report, chosen, "kind_", {"speech": speech}, {"kind": kind})
        measured += _shown(report, members, speech)
    return measured + _words(report, router, scorable, of, speeches, bootstrap, seed)


def _found(
    report: CodeSwitchReport,
    members: list[int],
    prefix: str,
    about: dict[str, Any],
    where: dict[str, Any] | None = None,
) -> list[Measurement]:
    """Switches found among `members`, causally and by every way of writing; `kind_...` where they are of one kind."""
    clips, where = report.clips, where or {}
    measured: list[Measurement] = []

    def add(name: str, value: float | None, n: int, conditions: dict[str, Any], system: str = "switched") -> None:
        measured.append(
            Measurement(f"{prefix}{name}", value, count=n, system=system, conditions={**conditions, **where}, **about)
        )

    if report.changes:
        total = causal_tally(clips, {i: decided_switches(report.changes[i]) for i in members}, members)
        causal = {"mode": "causal"}
        if total.spoken:
            add("switch_recall", total.recall, total.spoken, causal)
            add("switch_precision", total.precision, total.right + total.false, causal)
            add("switch_delay_median_s", total.delay(50), total.right, causal)
            add("switch_delay_p90_s", total.delay(90), total.right, causal)
            for seconds in (0.5, 1.0):
                add(f"switch_within_{seconds:g}s", total.within(seconds), total.spoken, causal)
        add("switch_false_alarms_per_minute", total.false_alarms_per_minute, total.false, causal)
    for run in report.runs:
        here = [i for i in members if i in run.transcripts]
        if not here or run.system.name != "switched":
            continue
        found = {i: found_switches(run.transcripts[i]) for i in here}
        spoken = {i: spoken_switches(clips.records[i]) for i in here}
        for tolerance in TOLERANCES_S:
            matched = [match(found[i], spoken[i], tolerance) for i in here]
            total = tally(matched, seconds_of(clips, here))
            offline = {"mode": "offline", "tolerance_s": tolerance, **run.system.conditions}
            if total.spoken:
                add("switch_recall", total.recall, total.spoken, offline)
                add("switch_precision", total.precision, total.right + total.false, offline)
                add("switch_f1", total.f1, total.spoken, offline)
            add("switch_false_alarms_per_minute", total.false_alarms_per_minute, total.false, offline)
            if not prefix and tolerance == TOLERANCES_S[-1] and run is report.runs[0]:
                report.offsets += [offset for m in matched for offset in m.offsets]
        mode = {"mode": "offline", **run.system.conditions}
        right, seconds = _right_time(report, run, here)
        if seconds:
            add("time_language_accuracy", right / seconds, round(seconds), mode)
        add("dropped_audio_s", sum(_left_out(run.transcripts[i]) for i in here), len(here), mode)
    return measured


def _right_time(report: CodeSwitchReport, run: Run, members: Sequence[int]) -> tuple[float, float]:
    """Seconds of speech written in a segment of its language, and seconds of speech."""
    right = total = 0.0
    for i in members:
        for spoken in report.clips.records[i].segments:
            total += spoken.end - spoken.start
            right += sum(
                max(0.0, min(s.end, spoken.end) - max(s.start, spoken.start))
                for s in run.transcripts[i].segments
                if s.language == spoken.lang
            )
    return right, total


def _left_out(transcript: "Transcript") -> float:
    """Seconds that lie in no segment."""
    at = left = 0.0
    for segment in transcript.segments:
        left += max(0.0, segment.start - at)
        at = max(at, segment.end)
    return round(left + max(0.0, transcript.duration - at), 3)


def _shown(report: CodeSwitchReport, members: list[int], speech: str) -> list[Measurement]:
    """How often switching was on by itself: in clips that switch, and in those that do not."""
    run = next(run for run in report.runs if run.system.name == BY_ITSELF)
    measured = []
    for name, positions in (("shown_where_switched", report.switched), ("shown_where_not", report.controls)):
        here = [i for i in positions if i in members]
        if here:
            share = float(np.mean([len({s.language for s in run.transcripts[i].segments}) > 1 for i in here]))
            measured.append(Measurement(name, share, count=len(here), system="switched", speech=speech))
    return measured


def _words(
    report: CodeSwitchReport,
    router: "Router",
    scorable: list[int],
    of,
    speeches: Sequence[str],
    bootstrap: int,
    seed: int,
) -> list[Measurement]:
    """Error rates whole and by kind, and what became of the words at the switches."""
    clips = report.clips
    measured: list[Measurement] = []
    records = [replace(r, lang=SEVERAL) if len(r.languages) > 1 else r for r in clips.records]
    scored = Scored(replace(clips, records=records), decoding_of(router))
    for speech in speeches:
        members = of(speech, scorable)
        for run in report.runs if members else ():
            measured += scored.measurements(run.system, members, "", speech, bootstrap)
            measured += word_measurements(scored, run, members, speech, "", {})
            for kind in sorted({kind_of(clips.records[i]) for i in members}):
                chosen = of(speech, members, kind)
                for m in scored.measurements(run.system, chosen, "", speech, 0):
                    measured.append(replace(m, measure=f"kind_{m.measure}", conditions={**m.conditions, "kind": kind}))
                measured += word_measurements(scored, run, chosen, speech, "kind_", {"kind": kind})
        measured += _againstone_by_one(report, scored, members, speech, bootstrap, seed)
    return measured


def word_measurements(
    scored: Scored, run: Run, members: Sequence[int], speech: str, prefix: str, where: dict[str, Any]
) -> list[Measurement]:
    chosen = next(n for n in scored.normalisers if n.name == "indic")
    alignment, rows = scored.alignment(run.system, chosen.name)
    total = WordCounts()
    for i in members:
        found = count(scored.clips.records[i], run.parts[i], alignment, rows[i], chosen)
        total = total + found if found is not None else total
    rates = (
        ("pier", total.wrong, total.of_interest),
        ("word_language_accuracy", total.right_language, total.written),
        ("seam_words_dropped", total.dropped, total.at_seams),
        ("seam_words_doubled", total.doubled, total.seams),
    )
    return [
        Measurement(
            f"{prefix}{name}",
            part / whole if whole else None,
            count=whole,
            system=run.system.name,
            normaliser=chosen.name,
            speech=speech,
            conditions={**run.system.conditions, **where},
        )
        for name, part, whole in rates
    ]


def _againstone_by_one(
    report: CodeSwitchReport, scored: Scored, members: list[int], speech: str, bootstrap: int, seed: int
) -> list[Measurement]:
    """How much more WER, relatively, than the same clips' pieces one by one under the same policy."""
    alone = {run.system.conditions["policy"]: run for run in report.runs if run.system.name == "one-by-one"}
    measured = []
    for run in report.runs:
        if not members or not bootstrap or run.system.name not in ("switched", BY_ITSELF, "unswitched"):
            continue
        for name in ("indic", "raw"):
            before = scored.counts(alone[run.system.conditions["policy"]].system, name, members)
            if before[:, 1:].sum() == 0:
                continue
            after = scored.counts(run.system, name, members)
            gap = relative_reduction(before, after, bootstrap=bootstrap, seed=seed)
            measured.append(
                Measurement(
                    "degradation_against_one_by_one",
                    -gap.relative or 0.0,
                    -gap.high,
                    -gap.low,
                    len(members),
                    system=run.system.name,
                    normaliser=name,
                    speech=speech,
                    conditions=run.system.conditions,
                )
            )
    return measured
