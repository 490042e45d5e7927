"""Stretches of chunks to what is said in them, each for itself: encoded anew with some audio on both sides as context, and
decoded from its own frames under its own mixture."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from adapters.bank import Bank
from router.options import TranscribeOptions
from router.passes import Clock, Listened, Passed, fitting, write
from router.seams import stretch
from zoo.joining import together
from zoo.speech import Utterance

if TYPE_CHECKING:
    from router.stretches import Spoken


def write_segments(
    base,
    bank: Bank,
    adapters: dict[str, str],
    lowest_layers: dict[str, int],
    utterances: Sequence[Utterance],
    wanted: "Sequence[tuple[int, Spoken]]",
    options: TranscribeOptions,
    clock: Clock,
    previous: str = "",
    context_s: float = 0.0,
) -> list[Passed]:
    """What is said in each (position in `utterances`, stretch) of `wanted`, each for itself, encoded by equal shape."""
    context = round(context_s * base.frame_rate)
    shaped = [
        stretch(base, utterances[i].audio, spoken.start, spoken.end, context, utterances[i].id) for i, spoken in wanted
    ]
    shapes = [(one.kept, base.grid_s(one.utterance)) for one in shaped]
    order = sorted(range(len(shaped)), key=lambda k: shapes[k])
    results: dict[int, Passed] = {}

    def work(members: Sequence[int]) -> list[Passed]:
        batch = []
        for _, same in groupby(members, key=lambda k: shapes[k]):
            own = list(same)
            with clock.stage("features"):
                features = base.features([shaped[k].utterance for k in own])
            rows = [wanted[k][1].probabilities for k in own]
            batch.append(Listened(features, features, features, rows, stretches=[shaped[k] for k in own]))
        decisions = [wanted[k][1].decision for k in members]
        seconds = [shaped[k].kept / base.frame_rate for k in members]
        found = write(base, bank, adapters, lowest_layers, batch, decisions, options, clock, seconds, previous)
        return [_from_own_start(p, shaped[k].left / base.frame_rate) for p, k in zip(found, members, strict=True)]

    for chosen in together([shapes[k][0] for k in order], options.batch_size, base.spare_frames):
        members = [order[position] for position in chosen]
        results.update(zip(members, fitting(members, work), strict=True))
    return [results[k] for k in range(len(wanted))]


def _from_own_start(passed: Passed, context_s: float) -> Passed:
    """Timestamps that the model wrote count from the context's start; here from the stretch's own."""
    pieces = tuple(
        replace(piece, start_s=max(0.0, piece.start_s - context_s), end_s=max(0.0, piece.end_s - context_s))
        for piece in passed.hypothesis.pieces
    )
    return replace(passed, hypothesis=replace(passed.hypothesis, pieces=pieces))
