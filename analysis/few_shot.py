"""Little data: is an adapter better begun as another language's, and is it better set free step by step?

The adapters are trained by `boli train adapter` (training/recipes/study/few_shot.yaml); `plan` writes the commands, and
what belongs together is read from the records: the share of the target's clips, the adapter it started from, the stages
of progressive unfreezing. All that belong to one target are scored on the same clips.

    gain        = (errors from scratch - errors from A's adapter) / errors from scratch, at the same share of the data
    efficiency  = the share of the data that training from scratch needs to do as well / the share that was given,

the former read off the from-scratch curve, interpolated in the logarithm of the share and not beyond its ends.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.hearing import Listener, is_few_shot
from analysis.progress import steps
from analysis.result import Row
from zoo.errors import AdapterError, DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from training.clips import Clips
    from training.evaluation.measurements import Measurement

SHARES = (0.1, 0.25, 0.5)
RECIPE = "training/recipes/study/few_shot.yaml"
NORMALISERS = ("indic", "raw")


@dataclass(frozen=True)
class Trained:
    """One adapter that saw a share of its language's data, and how it did."""

    target: str
    share: float | None
    """Of the clips that the language's whole adapter was trained on; None where no whole adapter tells how many."""
    train_clips: int
    start: str
    """Language of the adapter it started from; empty: from scratch."""
    progressive: int
    """Stages of progressive unfreezing; 0: everything at once."""
    seed: int | None
    adapter: str
    metric: str
    normaliser: str
    value: float | None
    low: float | None
    high: float | None
    count: int
    key: str
    """Hash of test set, normaliser and decoding."""
    speech: str = ""


@dataclass(frozen=True)
class FewShot:
    """What little data did, per adapter and compared."""

    trained: tuple[Trained, ...]
    gains: tuple[Row, ...]
    """From A's adapter against from scratch on the same share, with a paired 95 % interval."""
    efficiency: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def tables(self) -> dict[str, list[Row]]:
        return {
            "few_shot": [asdict(one) for one in self.trained],
            "few_shot_gains": list(self.gains),
            "data_efficiency": list(self.efficiency),
        }

    def measurements(self) -> "list[Measurement]":
        """As `boli evaluate criteria` reads them."""
        from training.evaluation.measurements import Measurement

        return [
            Measurement(
                one.metric, one.value, one.low, one.high, one.count, one.target,
                "few-shot" if one.start else "scratch", one.normaliser, one.key, one.speech,
                {"share": one.share, "source": one.start, "progressive": one.progressive, "adapter": one.adapter},
            )
            for one in self.trained
        ]  # fmt: skip


def score_few_shot(
    listener: Listener, clips: "Clips", *, bootstrap: int = 1000, seed: int = 0, show: bool = False
) -> FewShot:
    """Score every few-shot adapter of the store on the clips of its language, and the whole adapters beside them."""
    from training.evaluation.metrics import hash_of_test_set, relative_reduction, score_key, summarise
    from training.evaluation.normalisers import normaliser
    from training.evaluation.routing import decoding_of
    from training.evaluation.systems import Scored, speech_of

    spoken = {record.lang for record in clips.records}
    few = [stored for stored in listener.few if stored.key.language in spoken]
    if not few:
        why = (
            "no adapter in the store saw a part of the data only" if not listener.few else "no clips in their languages"
        )
        return FewShot((), (), (), (f"Few-shot transfer was not measured: {why} (boli analyze few-shot).",))
    origins = origins_of(listener)
    wholes = {stored.key.language: stored for stored in listener.adapters}
    decoding = decoding_of(listener.router)
    scored = Scored(clips, decoding)
    trained: list[Trained] = []
    counts: dict[tuple[str, str, str], np.ndarray] = {}
    targets = {stored.key.language for stored in few}
    ordered = [*few, *(stored for language, stored in wholes.items() if language in targets)]
    for stored in steps("few-shot", ordered, show=show):
        target = stored.key.language
        system = listener.hear(stored, clips, target, "few-shot")
        members = sorted(system.heard)
        records = [clips.records[i] for i in members]
        test_set = hash_of_test_set([r.text for r in records], [r.lang for r in records], [r.id for r in records])
        kinds = {speech_of(record) for record in records}
        speech = kinds.pop() if len(kinds) == 1 else ""
        about = describe(stored, wholes.get(target), origins)
        for name in NORMALISERS:
            aligned, _ = scored.alignment(system, name)
            scores = summarise(aligned, bootstrap=bootstrap, seed=seed)
            key = score_key(test_set, normaliser(name), decoding)
            for metric, rate, table in (("wer", scores.wer, aligned.words), ("cer", scores.cer, aligned.characters)):
                counts[stored.name, metric, name] = table
                trained.append(
                    Trained(
                        target=target,
                        adapter=stored.name,
                        metric=metric,
                        normaliser=name,
                        value=rate.value,
                        low=rate.low,
                        high=rate.high,
                        count=rate.reference,
                        key=key,
                        speech=speech,
                        **about,
                    )
                )
    gains: list[Row] = []
    for one, other in _pairs(trained):
        ours, theirs = (counts[t.adapter, t.metric, t.normaliser] for t in (one, other))
        if not bootstrap or not theirs[:, 1:].sum():
            continue
        gain = relative_reduction(theirs, ours, bootstrap=bootstrap, seed=seed)
        gains.append(
            {
                "target": one.target, "source": one.start, "share": one.share, "train_clips": one.train_clips,
                "progressive": one.progressive, "seed": one.seed, "metric": one.metric, "normaliser": one.normaliser,
                "from_adapter": one.value, "from_scratch": other.value, "gain": gain.relative, "low": gain.low,
                "high": gain.high, "probability_better": gain.probability_better,
            }
        )  # fmt: skip
    return FewShot(tuple(trained), tuple(gains), tuple(efficiencies(trained)), ())


def origins_of(listener: Listener) -> dict[str, str]:
    """Version of every adapter of the store -> its language: what `start_from` in a record means."""
    if listener.router.store is None:
        return {}
    return {stored.version: stored.key.language for stored in listener.router.store.all()}


def describe(stored: "StoredAdapter", whole: "StoredAdapter | None", origins: dict[str, str]) -> dict[str, Any]:
    """Share, clips, start, progressive and seed of one adapter, from its record."""
    record = stored.record
    options = record.recipe.get("adapter", {})
    start = str(options.get("start_from") or "")
    clips = int(record.data.get("clips", 0))
    everything = int(whole.record.data.get("clips", 0)) if whole is not None else 0
    share = round(clips / everything, 2) if everything and clips else None
    return {
        "share": share if is_few_shot(stored) else 1.0,
        "train_clips": clips,
        "start": origins.get(start, start),
        "progressive": int(options.get("progressive") or 0),
        "seed": record.seed,
    }


def _pairs(trained: Sequence[Trained]) -> Iterable[tuple[Trained, Trained]]:
    """(from an adapter, from scratch) of equal target, clips, seed, metric and test set."""

    def alike(one: Trained) -> tuple:
        return (one.target, one.train_clips, one.seed, one.metric, one.key)

    scratch = {alike(one): one for one in trained if not one.start and not one.progressive}
    for one in trained:
        if one.start and alike(one) in scratch:
            yield one, scratch[alike(one)]


def efficiencies(trained: Sequence[Trained]) -> list[Row]:
    """How many times more data from-scratch training needs for the same error rate, at each share."""
    rows: list[Row] = []
    for one in trained:
        if not one.start or one.share is None or one.value is None:
            continue
        curve = sorted(
            (other.share, other.value)
            for other in trained
            if not other.start
            and not other.progressive
            and (other.target, other.metric, other.key) == (one.target, one.metric, one.key)
            and other.share and other.value is not None
        )  # fmt: skip
        needed, bound = share_needed(curve, one.value)
        rows.append(
            {
                "target": one.target, "source": one.start, "share": one.share, "progressive": one.progressive,
                "seed": one.seed, "metric": one.metric, "normaliser": one.normaliser, "value": one.value,
                "share_from_scratch": needed, "bound": bound, "efficiency": needed / one.share if needed else None,
            }
        )  # fmt: skip
    return rows


def share_needed(curve: Sequence[tuple[float, float]], value: float) -> tuple[float | None, str]:
    """(share, bound): where the from-scratch curve [(share, error rate), ...] first comes down to `value`.

    bound: `=` on the curve; `<` it is there at the smallest share already; `>` it never gets there, the largest share is
    given; empty where the curve has no two points.
    """
    if len(curve) < 2:
        return None, ""
    if curve[0][1] <= value:
        return curve[0][0], "<"
    for (s0, v0), (s1, v1) in pairwise(curve):
        if v1 <= value < v0:
            along = (v0 - value) / (v0 - v1)
            return float(np.exp(np.log(s0) + along * (np.log(s1) - np.log(s0)))), "="
    return curve[-1][0], ">"


@dataclass(frozen=True)
class Job:
    """One training: a line for `boli train adapter`."""

    variant: str
    overrides: tuple[str, ...]
    recipe: str = RECIPE

    @property
    def command(self) -> str:
        return shlex.join(["boli", "train", "adapter", self.recipe, *self.overrides])


def plan(
    source: "StoredAdapter",
    target: str,
    *,
    train: Sequence[str | Path],
    valid: Sequence[str | Path],
    store: str | Path,
    shares: Sequence[float] = SHARES,
    progressive: int = 4,
    seeds: Sequence[int] = (0,),
    recipe: str = RECIPE,
    overrides: Sequence[str] = (),
) -> list[Job]:
    """The trainings of one target: at each share from scratch and from `source`, all at once and set free in stages.

    shares: of the target's clips in `train`, drawn by the seed; a larger share holds the smaller. Rank, alpha, sites and
    context are those of `source`, so that its weights fit. Raises DataError for a share outside (0, 1), or one that
    leaves no clip; AdapterError where the source is of the target language.
    """
    from training.data.manifest import read_manifest, require_languages

    if source.key.language == target:
        raise AdapterError(f"{source.name} is an adapter of {target} itself", valid="one of another language")
    if bad := [share for share in shares if not 0 < share < 1]:
        raise DataError(f"Share {bad[0]:g} is no part of the data", valid="between 0 and 1: 0.1,0.25,0.5")
    records = [record for path in train for record in read_manifest(path) if record.lang == target]
    require_languages(records, [target], ", ".join(map(str, train)))
    made = source.record.recipe.get("adapter", {})
    fixed = [
        f"base.name={source.key.base}",
        f"base.context={source.record.context}",
        f"adapter.language={target}",
        f"adapter.rank={source.key.rank}",
        f"adapter.alpha={made.get('alpha', 0.0)}",
        f"adapter.rslora={str(bool(made.get('rslora'))).lower()}",
        f"adapter.targets=[{','.join(made.get('targets', []))}]",
        f"adapter.layers={made.get('layers', 'all')}",
        f"data.train=[{','.join(map(str, train))}]",
        f"data.valid=[{','.join(map(str, valid))}]",
        f"data.languages=[{target}]",
        f"publish.store={store}",
    ]
    jobs = []
    for seed in seeds:
        suffix = f"-seed{seed}" if len(seeds) > 1 else ""
        for share in shares:
            clips = round(share * len(records))
            if not clips:
                raise DataError(f"{share:.0%} of {len(records)} clips is none", valid="a larger share or more clips")
            ways = [("scratch", []), (f"from-{source.key.language}", [f"adapter.start_from={source.folder}"])]
            if progressive:
                ways += [(f"{name}-progressive", [*more, f"adapter.progressive={progressive}"]) for name, more in ways]
            for way, more in ways:
                variant = f"few-{round(100 * share)}-{way}{suffix}"
                own = [f"adapter.variant={variant}", f"data.max_train_clips={clips}", f"run.seed={seed}"]
                own.append(f"run.name={target}-{variant}")
                jobs.append(Job(variant, (*fixed, *own, *more, *overrides), recipe))
    return jobs
