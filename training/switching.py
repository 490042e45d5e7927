"""`boli train switching`: how readily a change of language is believed, chosen on a validation set.

Every clip is heard once (whole, and window by window as the causal decision hears it); then a grid of parameters is
tried on what was heard. The classifier's weights are not touched; its config gets the parameters and says on what they
were chosen. Clips of a test set are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from router.classifier import TapClassifier
from router.following import Following
from router.smoothing import Smoothing, smooth
from router.windows import Causal
from training.clips import Clips
from training.evaluation.following import Followed
from training.evaluation.switches import (
    Found,
    Matching,
    Tally,
    decided_switches,
    match,
    match_decisions,
    spoken_switches,
    tally,
)
from training.listening import listened, pieces_of, sources_of
from training.versions import choose_between_versions
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from router.router import Router

TOLERANCE_S = 0.5  # of the offline F1 that is maximised
ALARMS = 2.0  # false alarms a minute that the causal decision may give
CONTEXTS_S = (0.0, 0.1, 0.2)
CONTEXT_CLIPS = 40  # whose segments are written with each context
COSTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0, 1.5, 2.2)
SHORTEST_S = (0.2, 0.3, 0.45, 0.6)
THIRDS = (1.0, 2.0)
FLOORS = (-3.0, -6.0)
WINDOWS_S = (1.0, 2.0)
LOOK_AHEAD_S = (0.1, 0.2, 0.35, 0.5)
THRESHOLDS = (0.15, 0.3, 0.55, 0.75, 1.0, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 2.0, 2.4, 2.8, 4.0)
# of a head that follows, in nats
FOLLOWED_THRESHOLDS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0)
FOLLOWED_FIRSTS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
FOLLOWED_FALLS = (0.0, 0.25, 0.5, 1.0)
FOLLOWED_THIRDS = (1.0, 2.0, 3.0, 4.5, 6.0)


@dataclass(frozen=True)
class Chosen:
    """Parameters, and what they gave on the clips they were chosen on."""

    offline: Smoothing | None
    """None: as it is."""
    causal: Causal | None
    measured: dict[str, Any]


def choose(
    router: "Router",
    clips: Clips,
    alarms: float = ALARMS,
    say: Callable[[str], None] = lambda line: None,
    only_causal: bool = False,
    only_offline: bool = False,
) -> Chosen:
    """clips: a validation set, some in several languages, some in one (else how readily switching is on by itself stays
    as it is). only_causal: of a head that follows alone; the rest stays. only_offline: all but the causal decision. Raises
    DataError where none switches, or one belongs to a test set."""
    refuse_test_clips(clips, "boli train switching --manifest SWITCH_DEV.jsonl")
    positions = range(len(clips))
    switched = [i for i in positions if spoken_switches(clips.records[i])]
    if not switched:
        raise DataError("No clip changes its language", remedy="boli data codeswitch MANIFEST --out DIR")
    say(f"{len(switched)} clips that switch, {len(clips) - len(switched)} that do not")
    if only_causal:
        if getattr(router.classifier, "following", None) is None:
            raise DataError("No head follows beside the classifier", remedy="boli train following, or all of it")
        causal, measured = _causal(router, clips, alarms, router.smoothing.floor, say)
        say(f"causal: {measured}")
        return Chosen(None, causal, {"causal": measured})
    offline, measured = _offline(router, clips, switched)
    say(f"offline: {measured['offline']}")
    context_s, measured["context"] = _context(router, clips, switched)
    offline = replace(offline, context_s=context_s)
    say(f"context: {measured['context']}")
    if len(switched) < len(clips):
        offline, measured["versions"] = choose_between_versions(router, clips, switched, offline, say)
    if only_offline:
        return Chosen(offline, None, measured)
    causal, measured["causal"] = _causal(router, clips, alarms, offline.floor, say)
    say(f"causal: {measured['causal']}")
    return Chosen(offline, causal, measured)


def refuse_test_clips(clips: Clips, remedy: str) -> None:
    """Raises DataError where a clip belongs to a test set: what is chosen on one cannot be tested on it."""
    if held_out := [r.id for r, name in zip(clips.records, sources_of(clips), strict=True) if _is_test(r.subset, name)]:
        raise DataError(
            f"{len(held_out)} clips belong to a test set, {held_out[0]} first",
            valid="a validation set: what is chosen on a test set cannot be tested on it",
            remedy=remedy,
        )


def _is_test(subset: str, source: str) -> bool:
    return subset == "test" or source == "test" or source.endswith("_test")


def _offline(router: "Router", clips: Clips, switched: Sequence[int]) -> tuple[Smoothing, dict[str, Any]]:
    """The largest F1 within half a second, each manifest counting the same: one of rapid changes has most of the switches,
    and whole sentences would be cut as readily; among equals the larger cost."""
    assert router.classifier is not None, "router.load gives one"
    languages = router.classifier.languages
    heard = _heard(router, clips)
    spoken = {i: spoken_switches(clips.records[i]) for i in range(len(clips))}
    rate = router.base.frame_rate
    sources = sources_of(clips)
    parts = [{i: heard[i] for i in heard if sources[i] == name} for name in dict.fromkeys(sources[i] for i in switched)]
    best: tuple[float, float, Smoothing] | None = None
    for cost, shortest_s, floor in product(COSTS, SHORTEST_S, FLOORS):
        options = replace(router.smoothing, cost=cost, shortest_s=shortest_s, floor=floor)
        tallies = [_offline_tally(clips, part, spoken, languages, rate, options) for part in parts]
        entry = (round(float(np.mean([each.f1 or 0.0 for each in tallies])), 6), cost, options)
        if best is None or entry[:2] > best[:2]:
            best = entry
    assert best is not None
    options = best[2]
    total = _offline_tally(clips, heard, spoken, languages, rate, options)
    measured: dict[str, Any] = {"f1_by_manifest": best[0]}
    measured |= {"f1": total.f1, "precision": total.precision, "recall": total.recall, "within_s": TOLERANCE_S}
    return options, {"offline": measured}


def _offline_tally(clips, heard, spoken, languages, rate: float, options: Smoothing) -> Tally:
    matchings = []
    for i, pieces in heard.items():
        spans = [(start_s, span) for start_s, rows in pieces for span in smooth(rows, rate, options).spans]
        found = [
            Found(start_s + two.start / rate, languages[two.language])
            for (_, one), (start_s, two) in pairwise(spans)
            if one.language != two.language
        ]
        matchings.append(match(found, spoken[i], TOLERANCE_S))
    return tally(matchings, float(clips.lengths[list(heard)].sum()) / SAMPLE_RATE)


def _heard(router: "Router", clips: Clips) -> dict[int, list[tuple[float, np.ndarray]]]:
    """Every clip as the router hears it: of each piece of it where it starts, in seconds, and log-probabilities `[T, L]`
    of its frames. A clip of nothing but silence has none."""
    from zoo.speech import Utterance

    pieces = [(i, chunk) for i in range(len(clips)) for chunk in pieces_of(router, clips, i)]
    heard: dict[int, list[tuple[float, np.ndarray]]] = {}
    for (i, chunk), (_, frames) in zip(
        pieces, listened(router, [Utterance(chunk.audio) for _, chunk in pieces]), strict=True
    ):
        if frames is None:
            raise DataError("The classifier has no frames", remedy="boli train classifier")
        heard.setdefault(i, []).append((chunk.start_s, frames.float().cpu().numpy()))
    return {i: sorted(heard.get(i, []), key=lambda piece: piece[0]) for i in range(len(clips))}


def _context(router: "Router", clips: Clips, switched: Sequence[int]) -> tuple[float, dict[str, float] | None]:
    """The audio beyond its own with which a segment has the fewest wrong characters, cut at the reference's switches in
    the reference's languages; unchanged where no clip's words are known."""
    from router.by_segment import write_segments
    from router.passes import Clock
    from router.policies import Decision
    from router.seams import frame_samples
    from router.stretches import Spoken
    from training.evaluation.codeswitching_runs import cuts_of, scorable_clip
    from training.evaluation.metrics import align, summarise
    from training.evaluation.normalisers import normaliser
    from zoo.speech import Utterance

    members = [i for i in switched if scorable_clip(router, clips.records[i])]
    if not members:
        return router.smoothing.context_s, None
    members = [members[k] for k in np.unique(np.linspace(0, len(members) - 1, CONTEXT_CLIPS).astype(int))]
    per_frame = frame_samples(router.base)
    utterances = [Utterance(clips.audio(i)) for i in members]
    wanted, texts = [], []
    for k, utterance in enumerate(utterances):
        frames = -(-len(utterance.audio) // per_frame)
        for segment, (start, end) in cuts_of(clips.records[members[k]], len(utterance.audio)):
            last = frames if end == len(utterance.audio) else round(end / per_frame)
            told = Decision(segment.lang, {segment.lang: 1.0}, "told")
            wanted.append((k, Spoken(round(start / per_frame), last, {segment.lang: 1.0}, told)))
            texts.append(segment.text)
    rates: dict[float, float] = {}
    for context_s in CONTEXTS_S:
        passed = write_segments(
            router.base, router.bank, router.adapters, router.lowest_layers, utterances, wanted, router.options,
            Clock(router.base.device), "", context_s,
        )  # fmt: skip
        alignment = align(texts, [p.hypothesis.text for p in passed], ["mul"] * len(texts), normaliser("indic"))
        rates[context_s] = summarise(alignment, bootstrap=0).cer.value or 0.0
    best = min(CONTEXTS_S, key=lambda context_s: rates[context_s])
    return best, {f"{context_s:g} s": round(rate, 4) for context_s, rate in rates.items()}


def _causal(
    router: "Router", clips: Clips, alarms: float, floor: float, say: Callable[[str], None]
) -> tuple[Causal, dict[str, Any]]:
    """The most switches noticed within a second, at no more than so many false alarms a minute, in clips that change language
    as in those that do not, one standard error included: few minutes of clips say little of others. Among equals the smaller
    median delay; where no parameters keep the limit, those with the fewest false alarms per switch noticed."""
    spoken = {i: spoken_switches(clips.records[i]) for i in range(len(clips))}
    seconds = float(clips.lengths.sum()) / SAMPLE_RATE
    kinds = [members for members in ([i for i in spoken if spoken[i]], [i for i in spoken if not spoken[i]]) if members]
    found: list[tuple[bool, tuple[float, float], Causal, Tally]] = []

    def tried(followed: Followed, options: Causal) -> tuple[bool, tuple[float, float], Causal, Tally]:
        matchings = [
            match_decisions(decided_switches(followed.changes(i, options)), spoken[i]) for i in range(len(clips))
        ]
        total = tally(matchings, seconds)
        rate, within = total.false_alarms_per_minute or 0.0, total.within(1.0) or 0.0
        if all(_rate([matchings[i] for i in members], clips, members) <= alarms for members in kinds):
            return True, (within, -(total.delay(50) or np.inf)), options, total
        return False, (-rate / max(total.right, 1), within), options, total

    if getattr(router.classifier, "following", None) is not None:
        followed = Followed(router, clips)
        found = [
            tried(followed, replace(router.causal, threshold=threshold, first=first, first_fall=fall, third=third))
            for threshold, first, fall, third in product(
                FOLLOWED_THRESHOLDS, FOLLOWED_FIRSTS, FOLLOWED_FALLS, FOLLOWED_THIRDS
            )
        ]
    else:
        for window_s in WINDOWS_S:
            followed = Followed(router, clips)  # a fresh one for each window: what it keeps is large
            for look_ahead_s in LOOK_AHEAD_S:
                options = replace(router.causal, window_s=window_s, floor=floor, look_ahead_s=look_ahead_s)
                plain = [tried(followed, replace(options, threshold=threshold, third=0.0)) for threshold in THRESHOLDS]
                best = max(range(len(plain)), key=lambda k: plain[k][:2])
                found += plain
                # a third language that must lead by more lets the threshold be lower
                found += [
                    tried(followed, replace(options, threshold=threshold, third=third))
                    for threshold, third in product(THRESHOLDS[max(0, best - 4) : best + 1], THIRDS)
                ]
            say(f"window {window_s:g} s tried")
    _, _, options, total = max(found, key=lambda entry: entry[:2])
    measured = {
        "recall": total.recall,
        "precision": total.precision,
        "within_1s": total.within(1.0),
        "delay_median_s": total.delay(50),
        "delay_p90_s": total.delay(90),
        "false_alarms_per_minute": total.false_alarms_per_minute,
        "false_alarms_allowed": alarms,  # in clips that change language, and in those that do not
    }
    return options, measured


def _rate(matchings: Sequence[Matching], clips: Clips, members: Sequence[int]) -> float:
    """False alarms a minute in some clips, and one standard error of their number (Poisson) above."""
    false = sum(len(each.false) for each in matchings)
    return (false + false**0.5) / (float(clips.lengths[members].sum()) / SAMPLE_RATE / 60)


def keep(folder: Path, chosen: Chosen, manifests: Mapping[str, str], clips: Clips) -> Path:
    """Write the parameters into the classifier's config, those of the causal decision into that of the head that follows where
    there is one; weights stay. Raises ModelError where there is no classifier.

    manifests: name -> sha256.
    """
    classifier = TapClassifier.load(folder)
    chosen_on = {"manifests": dict(manifests), "clips": len(clips), "measured": chosen.measured}
    if classifier.following is not None and chosen.causal is not None:
        config = replace(classifier.following.config, causal=asdict(chosen.causal), chosen_on=chosen_on)
        Following(config, classifier.following.head).save(folder)
    if chosen.offline is None:
        return folder
    switching: dict[str, Any] = {"offline": asdict(chosen.offline), "chosen_on": chosen_on}
    if classifier.following is None:
        before = classifier.config.switching.get("causal", {})
        switching["causal"] = asdict(chosen.causal) if chosen.causal is not None else before
    TapClassifier(replace(classifier.config, switching=switching), classifier.head).save(folder)
    return folder
