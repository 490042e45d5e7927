"""`boli evaluate codeswitch`: how well changes of language are found, how quickly, and what they cost in words.

Every clip is written whole with switching on, under each policy; in one pass with the mixture changing from frame to
frame; whole in one language; and its pieces one by one. The causal decision follows every clip as if it were spoken.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from training.clips import Clips
from training.evaluation.codeswitching_measures import measure
from training.evaluation.codeswitching_runs import (
    BY_ITSELF,
    CodeSwitchReport,
    follow_all,
    one_by_one,
    pieces_of,
    scorable_clip,
    told,
    whole,
)
from training.evaluation.switches import Matching, found_switches, match, spoken_switches
from training.evaluation.told_where import told_where
from zoo.errors import DataError

if TYPE_CHECKING:
    from router.router import Router


def evaluate_codeswitch(
    router: "Router",
    clips: Clips,
    policies: Sequence[str] = ("hard",),
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> CodeSwitchReport:
    """Raises DataError where no clip switches."""
    everything = list(range(len(clips)))
    switched = [i for i in everything if spoken_switches(clips.records[i])]
    if not switched:
        raise DataError(
            "No clip changes its language",
            valid="clips with `segments` of several languages",
            remedy="boli data codeswitch MANIFEST --out DIR",
        )
    report = CodeSwitchReport(clips, switched, [i for i in everything if i not in set(switched)])
    scorable = [i for i in switched if scorable_clip(router, clips.records[i])]
    pieces = [piece for i in scorable for piece in pieces_of(i, clips)]
    for policy in policies:
        say(f"policy {policy}")
        report.runs.append(whole(router, clips, everything, "switched", policy, switching=True))
        report.runs.append(one_by_one(router, pieces, policy))
    first = policies[0]
    if hasattr(router.base, "align_words"):
        say("frame by frame")
        report.runs.append(whole(router, clips, scorable, "switched", first, switching=True, strategy="frames"))
    say("in one language, and told")
    report.runs.append(whole(router, clips, scorable, "unswitched", first, switching=False))
    say("by itself")
    report.runs.append(whole(router, clips, everything, BY_ITSELF, first, switching=None))
    report.runs.append(told(router, pieces))
    say("causally")
    follow_all(router, clips, report)
    report.measurements += told_where(router, clips, switched)
    report.measurements += measure(report, router, scorable, bootstrap=bootstrap, seed=seed)
    return report


def worst(report: CodeSwitchReport, most: int) -> list[tuple[int, Matching]]:
    """Clips with the most switches missed or invented, offline within half a second; the longest clip first among
    equals. (position, its matching)"""
    run = report.runs[0]
    judged = [
        (i, match(found_switches(run.transcripts[i]), spoken_switches(report.clips.records[i]), 0.5))
        for i in range(len(report.clips))
    ]
    judged = [(i, m) for i, m in judged if m.missed or m.false]
    return sorted(judged, key=lambda item: (-len(item[1].missed) - len(item[1].false), -report.clips.lengths[item[0]]))[
        :most
    ]
