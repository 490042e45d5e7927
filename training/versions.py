"""Which version of a clip that may switch is taken (router/versions.py), and when switching is on by itself: chosen on a
validation set.

Every clip that seems to switch is written in all its versions once; then weights are tried on what was written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from router.smoothing import Smoothing, smooth
from router.versions import Version, best
from training.clips import Clips
from training.listening import pieces_of, sources_of
from zoo.errors import DataError

if TYPE_CHECKING:
    from router.passes import Passed
    from router.router import Router

WRITTEN = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
HEARD = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
SHOWN_WRONGLY = 0.05  # share of clips in one language, but always one clip, in which switching may be on by itself
AS_MANY = 0.97  # of the largest share of clips that are cut: what has so many counts as equal


@dataclass(frozen=True)
class Piece:
    """What goes through the base at once."""

    gain: float
    """How much more probable several languages are than one, in nat-seconds; 0 where there are none."""
    versions: tuple[Version, ...]
    """None where it does not seem to switch."""
    plain: str
    """Its text then."""

    def gap(self, smoothing: Smoothing) -> float:
        """How much larger the score of the best whole is than that of the best cut."""
        cut, whole = (best(each, smoothing, 0.0).score(smoothing) for each in self.parts)
        return whole - cut

    @property
    def parts(self) -> tuple[list[Version], list[Version]]:
        """Cuts and wholes."""
        return [v for v in self.versions if len(v.spans) > 1], [v for v in self.versions if len(v.spans) == 1]

    def text(self, smoothing: Smoothing) -> str:
        """What the router writes where switching is on by itself."""
        if not self.versions:
            return self.plain
        cuts, wholes = self.parts
        shown = cuts and self.gain >= smoothing.shown
        return best(self.versions if shown else wholes, smoothing, smoothing.margin or 0.0).text


def choose_between_versions(
    router: "Router", clips: Clips, switched: Sequence[int], smoothing: Smoothing, say: Callable[[str], None]
) -> tuple[Smoothing, dict[str, Any]]:
    """`written`, `heard`, `shown` and `margin`: of those that the set cannot tell from the ones with the fewest words wrong
    in clips that switch (within one standard error of the paired difference; each manifest counts the same) those under
    which most of these clips are cut; among nearly equals (AS_MANY) those with the fewest words wrong.

    switched: the clips that switch; the others say when switching must not be on by itself."""
    from training.evaluation.codeswitching_runs import scorable_clip

    pieces = {i: write_versions(router, clips, i, smoothing) for i in range(len(clips))}
    say(f"versions of {sum(any(p.versions for p in found) for found in pieces.values())} clips written")
    sources = sources_of(clips)
    scored = [i for i in switched if scorable_clip(router, clips.records[i])]
    errors = _Errors(clips, scored, sources)
    tried: list[tuple[np.ndarray, Smoothing, Cutting]] = []
    for written, heard in product(WRITTEN, HEARD):
        options = replace(smoothing, written=written, heard=heard)
        gaps = {i: [(p.gain, p.gap(options)) for p in found if p.versions] for i, found in pieces.items()}
        for cutting in cuttings(gaps, switched, sources):
            options = replace(options, shown=cutting.shown, margin=cutting.margin)
            tried.append((errors({i: " ".join(p.text(options) for p in pieces[i]) for i in scored}), options, cutting))
    fewest = min((wrong for wrong, _, _ in tried), key=np.sum)
    near = [entry for entry in tried if _no_worse(entry[0] - fewest)]
    most = max(cutting.share for _, _, cutting in near)
    wrong, options, cutting = min(
        (entry for entry in near if entry[2].share >= AS_MANY * most),
        key=lambda entry: (entry[0].sum(), -entry[1].shown),
    )
    measured = {
        "words_wrong": round(float(wrong.sum()), 4),
        "fewest": round(float(fewest.sum()), 4),
        "shown_where_switched": cutting.where_switched,
        "shown_where_not": cutting.where_not,
    }
    say(f"versions: written {options.written:g}, heard {options.heard:g}, {measured}")
    return options, measured


@dataclass(frozen=True)
class Cutting:
    """When switching is on by itself, and how often it is then."""

    shown: float
    margin: float
    share: float
    """Of the clips that switch, each manifest counting the same."""
    where_switched: float
    """Each clip counting the same."""
    where_not: float


def cuttings(
    found: Mapping[int, Sequence[tuple[float, float]]], switched: Sequence[int], sources: Sequence[str]
) -> list[Cutting]:
    """All that differ and under which switching is on by itself in few enough of the clips in one language (SHOWN_WRONGLY).

    found: of each clip, for each piece that seems to switch, how much that is shown (nat-seconds), and how much larger the
    score of the best whole is; switched: the clips that switch; sources: the manifest of each clip.
    """
    groups = [[i for i in switched if sources[i] == name] for name in dict.fromkeys(sources[i] for i in switched)]
    alone = sorted(set(found) - set(switched))
    if not alone:
        raise DataError("No clip is in one language: nothing says when switching must not be on by itself")
    allowed = max(1, int(SHOWN_WRONGLY * len(alone)))
    margins = {0.0, *(round(gap - 1e-3, 3) for i in alone for _, gap in found[i])}
    margins.add(max([0.0, *(round(gap + 1e-3, 3) for i in switched for _, gap in found[i])]))
    each: list[Cutting] = []
    for shown, margin in product(
        sorted({0.0, *(round(gain + 1e-3, 3) for i in alone for gain, _ in found[i])}), sorted(margins)
    ):
        on = {i: any(gain >= shown and gap <= margin for gain, gap in pieces) for i, pieces in found.items()}
        if sum(on[i] for i in alone) <= allowed:
            share = float(np.mean([np.mean([on[i] for i in group]) for group in groups]))
            where = float(np.mean([on[i] for i in switched])), float(np.mean([on[i] for i in alone]))
            each.append(Cutting(shown, margin, share, *where))
    return each


class _Errors:
    """What each clip adds to the share of words wrong, each manifest counting the same: `[clips]` of a text for each."""

    def __init__(self, clips: Clips, scored: Sequence[int], sources: Sequence[str]):
        self.clips, self.scored = clips, scored
        self.known: dict[tuple[int, str], tuple[int, int]] = {}
        words = {i: max(1, self._counted(i, "")[1]) for i in scored}
        names = [sources[i] for i in scored]
        totals = {name: sum(words[i] for i in scored if sources[i] == name) for name in names}
        self.weights = np.array([1 / totals[name] / len(totals) for name in names])

    def _counted(self, i: int, text: str) -> tuple[int, int]:
        """Errors and words of the reference."""
        from training.evaluation.metrics import align
        from training.evaluation.normalisers import normaliser

        if (i, text) not in self.known:
            counts = align([self.clips.records[i].text], [text], ["mul"], normaliser("indic")).words[0]
            self.known[i, text] = int(counts[1:].sum()), int(counts[:3].sum())
        return self.known[i, text]

    def __call__(self, texts: Mapping[int, str]) -> np.ndarray:
        return np.array([self._counted(i, texts[i])[0] for i in self.scored], dtype=float) * self.weights


def _no_worse(worse: np.ndarray) -> bool:
    """Whether a sum over clips is within one standard error of zero."""
    return float(worse.sum()) <= float(np.sqrt(np.square(worse - worse.mean()).sum())) if len(worse) else True


def write_versions(router: "Router", clips: Clips, i: int, smoothing: Smoothing) -> list[Piece]:
    """Clip i in the pieces that go through the base at once, each in all its versions."""
    from router.by_segment import write_segments
    from router.passes import Clock, listen
    from router.rescoring import permitted_row, writable
    from router.stretches import cuts_of
    from router.versions import versions_of
    from zoo.speech import Utterance

    base, bank, clock = router.base, router.bank, Clock(router.base.device)
    options = replace(router.options, switching=True)
    lowest = [router.lowest_layers[name] for name in router.adapters.values()]
    assert router.classifier is not None, "router.load gives one"
    found = []
    for chunk in pieces_of(router, clips, i):
        utterance = Utterance(chunk.audio)
        one = listen(base, bank, router.classifier, lowest, [utterance], clock)
        if one.frames is None:
            raise DataError("The classifier has no frames", remedy="boli train classifier")
        cuts = cuts_of(one.frames[0], router.classifier, utterance, base, options, smoothing)
        if not cuts:
            found.append(Piece(0.0, (), router.transcribe(chunk.audio, switching=False).text))
            continue

        def write(wanted, chosen, utterance=utterance) -> "list[Passed]":
            return write_segments(
                base, bank, router.adapters, router.lowest_layers, [utterance], wanted, chosen, clock, "",
                smoothing.context_s,
            )  # fmt: skip

        wholes = writable(base, permitted_row(one.probabilities[0], options))
        versions = versions_of(
            base,
            bank,
            router.classifier,
            [one],
            [utterance],
            [cuts],
            [wholes],
            options,
            smoothing,
            router.rescoring,
            write,
        )
        gain = smooth(one.frames[0].float().cpu().numpy(), base.frame_rate, smoothing).gain
        found.append(Piece(gain, tuple(versions[0]), ""))
    return found
