"""One batch of chunks to what is said in each: in one language as a whole, in several segment by segment.

A chunk that may be in several languages is written in several versions (router/versions.py). One that is in several is
written stretch by stretch (router/by_segment.py) or in one pass (router/by_frame.py); one that is written as a whole is cut
where its script changes (router/by_script.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from adapters.bank import Bank
from router.assembling import Part
from router.by_frame import write_by_frame
from router.by_script import by_script, can_be_timed, scripts_in
from router.by_segment import write_segments
from router.classifier import Classifier
from router.options import TranscribeOptions
from router.passes import Clock, Passed, fitting, listen, rows_of, write
from router.policies import decide
from router.rescoring import Rescoring, heard_again, permitted_row, said_anew, writable
from router.seams import frame_samples
from router.smoothing import Smoothing
from router.stretches import Spoken, cuts_of
from router.versions import Version, best, compared, versions_of, weighed
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
    frames = [own for one in batch for own in one.frames or [None] * len(one)]
    said = [row for one in batch for row in one.probabilities]
    weighs = used is not None and options.rescore and options.switching is None and smoothing.margin is not None
    with clock.stage("switch"):
        cuts = [
            cuts_of(row, used, utterance, base, options, smoothing) if row is not None else []
            for row, utterance in zip(frames, utterances, strict=True)
        ]

    def each(wanted: Sequence[tuple[int, Spoken]], options: TranscribeOptions) -> list[Passed]:
        return write_segments(
            base, bank, adapters, lowest_layers, utterances, wanted, options, clock, previous, smoothing.context_s
        )

    chosen: dict[int, Version] = {}
    others: dict[int, list[Sequence[Spoken]]] = {}
    as_a_whole = set()
    if options.rescore and used is not None:
        wholes = [writable(base, permitted_row(row, options)) if weighs else [] for row in said]
        found = versions_of(base, bank, used.languages, batch, cuts, wholes, options, smoothing, rescoring, each)
        for i, versions in enumerate(found):
            if versions:
                ordered = sorted(versions, key=lambda version: -version.score(smoothing))
                others[i] = [version.spans for version in ordered if len(version.spans) > 1]
                chosen[i] = best(versions, smoothing, smoothing.margin or 0.0 if weighs else 0.0)
                if weighs and len(chosen[i].spans) == 1:
                    said[i] = weighed(said[i], versions, smoothing, utterances[i].duration_s)
                    as_a_whole.add(i)
    heard = [chosen[i].spans if i in chosen else tuple(found[0]) if found else () for i, found in enumerate(cuts)]
    plain = [i for i, spans in enumerate(heard) if len(spans) < 2]
    switched = [i for i, spans in enumerate(heard) if len(spans) > 1]
    parts: list[list[Part]] = [[] for _ in utterances]
    if used is not None and options.rescore:
        batch = said_anew(batch, said)
        doubtful = [i for i in plain if i not in as_a_whole]
        batch = heard_again(
            base, bank, adapters, lowest_layers, batch, doubtful, utterances, options, clock, rescoring, previous
        )

    def alone(rows: Sequence[int], options: TranscribeOptions = options) -> list[Passed]:
        chosen = rows_of(batch, rows)
        decisions = [decide(row, options) for one in chosen for row in one.probabilities]
        seconds = [base.grid_s(utterances[i]) for i in rows]
        return write(base, bank, adapters, lowest_layers, chosen, decisions, options, clock, seconds, previous)

    for i, passed in zip(plain, fitting(plain, alone), strict=True):
        parts[i] = [Part(0.0, utterances[i].duration_s, passed)]
    if used is not None and options.switching is not False and can_be_timed(base, options):
        tags = {i: writable(base, permitted_row(said[i], options)) for i in plain if frames[i] is not None}
        mixed = [i for i in tags if len(scripts_in(parts[i][0].passed.hypothesis.text, tags[i])) > 1]
        timed = replace(options, timestamps="word")
        again = (
            fitting(mixed, lambda rows: alone(rows, timed)) if options != timed else [parts[i][0].passed for i in mixed]
        )
        for i, passed in zip(mixed, again, strict=True):
            own = frames[i]
            assert own is not None  # or it would not be asked
            parts[i] = by_script(
                passed, utterances[i].duration_s, own, used.languages, tags[i], base.frame_rate, options == timed,
                others.get(i, cuts[i]),
            )  # fmt: skip
    if options.strategy == "frames":
        for i in switched:
            parts[i] = write_by_frame(
                base, bank, adapters, lowest_layers, rows_of(batch, [i])[0], heard[i], utterances[i], options, clock,
                previous,
            )  # fmt: skip
        return parts
    comparable = replace(compared(options), switching=options.switching)
    unwritten = [i for i in switched if options != comparable or i not in chosen]
    fresh = iter(each([(i, spoken) for i in unwritten for spoken in heard[i]], options))
    per_frame = frame_samples(base)
    for i in switched:
        results = [next(fresh) for _ in heard[i]] if i in unwritten else chosen[i].passed
        for spoken, result in zip(heard[i], results, strict=True):
            heard_frames = frames[i]
            assert heard_frames is not None  # or nothing would have been found
            own = replace(result, frames=heard_frames[spoken.start : spoken.end])
            end = min(spoken.end * per_frame, len(utterances[i].audio))
            parts[i].append(Part(spoken.start * per_frame / SAMPLE_RATE, end / SAMPLE_RATE, own))
    return parts
