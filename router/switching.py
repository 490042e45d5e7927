"""One batch of chunks to what is said in each: in one language as a whole, in several segment by segment.

A chunk that may be in several languages is written in several versions (router/versions.py). One that is in several is
written stretch by stretch (router/by_segment.py) or in one pass (router/by_frame.py); one that is written as a whole is cut
where its script changes (router/by_script.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch

from adapters.bank import Bank
from router.assembling import Part
from router.by_frame import write_by_frame
from router.by_script import by_script, can_be_timed, scripts_in
from router.by_segment import write_segments
from router.classifier import Classifier
from router.options import TranscribeOptions
from router.passes import Clock, Listened, Passed, fitting, listen, rows_of, write
from router.policies import decide
from router.rescoring import Rescoring, heard_again, permitted_row, said_anew, writable
from router.seams import frame_samples
from router.smoothing import Smoothing
from router.stretches import Spoken, cuts_of
from router.versions import Version, best, compared, ordered, versions_of, weighed
from zoo.errors import RoutingError
from zoo.speech import SAMPLE_RATE, Utterance


def run(
    base,
    bank: Bank,
    classifier: Classifier | None,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    utterances: Sequence[Utterance],
    options: TranscribeOptions,
    clock: Clock,
    previous: str = "",
    smoothing: Smoothing = Smoothing(),
    rescoring: Rescoring = Rescoring(),
) -> list[list[Part]]:
    """What is said in chunks: of each the parts in order, times in seconds from the chunk's start.

    utterances: neighbours of equal grid are encoded together, all are decoded together; adapters: language -> adapter
    name; lowest_layers: adapter name -> first encoder layer that it changes; previous: text said before, for all of
    `utterances`. Batches of rows that need more adapters at once than the bank may hold are halved until they fit.
    Where switching would be on by itself, a chunk is also written as a whole, where `smoothing` and `options` say so.
    """
    used = None if options.language is not None else classifier
    lowest = [lowest_layers[name] for name in adapters.values()]
    batch = [listen(base, bank, used, lowest, list(same), clock) for _, same in groupby(utterances, key=base.grid_s)]
    if options.switching and used is not None and any(one.frames is None for one in batch):
        raise RoutingError(
            "Switching is on, but the classifier has no frames: it cannot tell where the language changes",
            valid="a head on the tap",
            remedy="boli train classifier",
        )
    return _Chunks(
        base, bank, used, adapters, lowest_layers, utterances, options, clock, previous, smoothing, rescoring, batch
    ).written()


@dataclass
class _Chunks:
    """Chunks that were listened to, on their way to the parts that are written."""

    base: Any
    bank: Bank
    classifier: Classifier | None
    """None where the language is told."""
    adapters: dict[str, str]
    lowest_layers: dict[str, int]
    utterances: Sequence[Utterance]
    options: TranscribeOptions
    clock: Clock
    previous: str
    smoothing: Smoothing
    rescoring: Rescoring
    batch: list[Listened]

    def written(self) -> list[list[Part]]:
        """The parts of each chunk."""
        frames = [own for one in self.batch for own in one.frames or [None] * len(one)]
        with self.clock.stage("switch"):
            cuts = [
                cuts_of(row, self.classifier, utterance, self.base, self.options, self.smoothing)
                if row is not None
                else []
                for row, utterance in zip(frames, self.utterances, strict=True)
            ]
        versions = self._versions(cuts)
        chosen, said, settled = self._chosen(versions)
        heard = [chosen[i].spans if i in chosen else tuple(found[0]) if found else () for i, found in enumerate(cuts)]
        parts: dict[int, list[Part]] = {}
        whole = [i for i, spans in enumerate(heard) if len(spans) < 2]
        if self.classifier is not None and self.options.rescore:
            self.batch = heard_again(
                self.base, self.bank, self.adapters, self.lowest_layers, said_anew(self.batch, said),
                [i for i in whole if i not in settled], self.utterances, self.options, self.clock, self.rescoring,
                self.previous,
            )  # fmt: skip
        for i, passed in zip(whole, fitting(whole, self._as_a_whole), strict=True):
            parts[i] = [Part(0.0, self.utterances[i].duration_s, passed)]
        others = {i: ordered(each, self.smoothing) or cuts[i] for i, each in enumerate(versions)}
        parts |= self._by_script(parts, said, frames, others)
        switched = {i: spans for i, spans in enumerate(heard) if len(spans) > 1}
        if self.options.strategy == "frames":
            parts |= {i: self._by_frame(i, spans) for i, spans in switched.items()}
        else:
            parts |= self._by_segment(switched, chosen, frames)
        return [parts[i] for i in range(len(self.utterances))]

    @property
    def _wholes_count(self) -> bool:
        """Whether a chunk that seems to switch is also written as a whole."""
        return self.options.rescore and self.options.switching is None and self.smoothing.margin is not None

    def _versions(self, cuts: Sequence[list[list[Spoken]]]) -> list[list[Version]]:
        """Of each chunk; none where it is written in one way only."""
        if self.classifier is None or not self.options.rescore:
            return [[] for _ in self.utterances]
        said = [row for one in self.batch for row in one.probabilities]
        wholes = [writable(self.base, permitted_row(row, self.options)) if self._wholes_count else [] for row in said]
        return versions_of(
            self.base, self.bank, self.classifier, self.batch, self.utterances, cuts, wholes, self.options, self.smoothing,
            self.rescoring, self._each,
        )  # fmt: skip

    def _chosen(self, versions: Sequence[list[Version]]) -> tuple[dict[int, Version], list[dict[str, float]], set[int]]:
        """The version of each chunk that has some; the languages' probabilities of every chunk after it; and the chunks
        whose language is so settled."""
        said = [row for one in self.batch for row in one.probabilities]
        margin = self.smoothing.margin or 0.0 if self._wholes_count else 0.0
        chosen = {i: best(each, self.smoothing, margin) for i, each in enumerate(versions) if each}
        settled = {i for i, version in chosen.items() if self._wholes_count and len(version.spans) == 1}
        for i in settled:
            said[i] = weighed(said[i], versions[i], self.smoothing, self.utterances[i].duration_s)
        return chosen, said, settled

    def _as_a_whole(self, rows: Sequence[int], options: TranscribeOptions | None = None) -> list[Passed]:
        chosen = rows_of(self.batch, rows)
        options = options or self.options
        decisions = [decide(row, options) for one in chosen for row in one.probabilities]
        seconds = [self.base.grid_s(self.utterances[i]) for i in rows]
        return write(
            self.base, self.bank, self.adapters, self.lowest_layers, chosen, decisions, options, self.clock, seconds,
            self.previous,
        )  # fmt: skip

    def _by_script(
        self,
        parts: Mapping[int, Sequence[Part]],
        said: Sequence[dict[str, float]],
        frames: Sequence[torch.Tensor | None],
        cuts: Mapping[int, Sequence[Sequence[Spoken]]],
    ) -> dict[int, list[Part]]:
        """The chunks of `parts`, all written as wholes, whose text is in several scripts: cut where it changes."""
        options = self.options
        if self.classifier is None or options.switching is False or not can_be_timed(self.base, options):
            return {}
        tags = {i: writable(self.base, permitted_row(said[i], options)) for i in parts if frames[i] is not None}
        mixed = [i for i in tags if len(scripts_in(parts[i][0].passed.hypothesis.text, tags[i])) > 1]
        timed = replace(options, timestamps="word")
        if options == timed:
            again = [parts[i][0].passed for i in mixed]
        else:
            again = fitting(mixed, lambda rows: self._as_a_whole(rows, timed))
        found = {}
        for i, passed in zip(mixed, again, strict=True):
            own = frames[i]
            assert own is not None  # or it would not be asked
            found[i] = by_script(
                passed, self.utterances[i].duration_s, own, self.classifier.languages, tags[i], self.base.frame_rate,
                options == timed, cuts[i],
            )  # fmt: skip
        return found

    def _by_frame(self, i: int, spans: Sequence[Spoken]) -> list[Part]:
        return write_by_frame(
            self.base, self.bank, self.adapters, self.lowest_layers, rows_of(self.batch, [i])[0], spans, self.utterances[i],
            self.options, self.clock, self.previous,
        )  # fmt: skip

    def _by_segment(
        self,
        switched: Mapping[int, Sequence[Spoken]],
        chosen: Mapping[int, Version],
        frames: Sequence[torch.Tensor | None],
    ) -> dict[int, list[Part]]:
        """Stretch by stretch; what was written already, as it is asked for, is not written again."""
        comparable = replace(compared(self.options), switching=self.options.switching)
        unwritten = [i for i in switched if self.options != comparable or i not in chosen]
        fresh = iter(self._each([(i, spoken) for i in unwritten for spoken in switched[i]], self.options))
        per_frame = frame_samples(self.base)
        parts: dict[int, list[Part]] = {}
        for i, spans in switched.items():
            results = [next(fresh) for _ in spans] if i in unwritten else chosen[i].passed
            heard = frames[i]
            assert heard is not None  # or nothing would have been found
            parts[i] = []
            for spoken, result in zip(spans, results, strict=True):
                end = min(spoken.end * per_frame, len(self.utterances[i].audio))
                own = replace(result, frames=heard[spoken.start : spoken.end])
                parts[i].append(Part(spoken.start * per_frame / SAMPLE_RATE, end / SAMPLE_RATE, own))
        return parts

    def _each(self, wanted: Sequence[tuple[int, Spoken]], options: TranscribeOptions) -> list[Passed]:
        """What is said in each (chunk, stretch)."""
        return write_segments(
            self.base, self.bank, self.adapters, self.lowest_layers, self.utterances, wanted, options, self.clock,
            self.previous, self.smoothing.context_s,
        )  # fmt: skip
