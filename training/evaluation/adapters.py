"""Every adapter of a store against the base alone, each on the clips of its language."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.clips import Clips
from training.evaluation.measurements import Measurement
from training.evaluation.metrics import relative_reduction
from training.evaluation.routing import BASIS, decoding_of, writes
from training.evaluation.systems import Scored, System, groups, speech_of, told
from zoo.errors import DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from router.router import Router


def newest(found: "Sequence[StoredAdapter]") -> "list[StoredAdapter]":
    """The newest version of each key; `found` has the newest last."""
    return list({stored.key: stored for stored in found}.values())


def evaluate_adapters(
    router: "Router", adapters: "Sequence[StoredAdapter]", clips: Clips, *, bootstrap: int = 1000, seed: int = 0
) -> tuple[list[System], list[Measurement]]:
    """Systems `base` and `adapter`, and their measurements. Raises DataError where no adapter has a clip."""
    from router.fleet import check_base

    spoken = {record.lang for record in clips.records}
    chosen = [
        stored for stored in adapters if stored.key.language in spoken and writes(router.base, stored.key.language)
    ]
    if not chosen:
        there = sorted({stored.key.language for stored in adapters})
        raise DataError(
            f"The clips speak {', '.join(sorted(spoken))}; no adapter serves any of these",
            valid=", ".join(there) or "the store has no adapter for this base",
            remedy="boli adapters list --store STORE",
        )
    for stored in chosen:
        check_base(stored, router.base)
    positions = [i for i, record in enumerate(clips.records) if record.lang in {s.key.language for s in chosen}]
    scored = Scored(clips, decoding_of(router))
    base = told(router.sharing(fleet={}), "base", clips, positions)
    systems = [base]
    measurements: list[Measurement] = []
    for language, speech, members in groups(clips, positions, speech_of):
        measurements += scored.measurements(base, members, language, speech, bootstrap)
    for stored in chosen:
        key = stored.key
        own = [i for i in positions if clips.records[i].lang == key.language]
        conditions = {
            "adapter": stored.name,
            "rank": key.rank,
            "variant": key.variant,
            "parameters": stored.record.parameters,
        }
        system = told(router.sharing(fleet={key.language: stored}), "adapter", clips, own, **conditions)
        systems.append(system)
        for language, speech, members in groups(clips, own, speech_of):
            measurements += scored.measurements(system, members, language, speech, bootstrap)
            for name in BASIS:
                before, after = scored.counts(base, name, members), scored.counts(system, name, members)
                if before[:, 1:].sum() == 0 or not bootstrap:
                    continue
                gain = relative_reduction(before, after, bootstrap=bootstrap, seed=seed)
                measurements.append(
                    Measurement(
                        "reduction_against_base",
                        gain.relative,
                        gain.low,
                        gain.high,
                        len(members),
                        language,
                        "adapter",
                        normaliser=name,
                        speech=speech,
                        conditions=conditions,
                    )
                )
    return systems, measurements
