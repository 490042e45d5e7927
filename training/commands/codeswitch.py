"""`boli evaluate codeswitch`, which training/commands/evaluate.py takes in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.options import (
    Batch,
    Beam,
    Bootstrap,
    Context,
    Device,
    Dtype,
    Languages,
    Manifests,
    Model,
    Output,
    Rank,
    Seed,
    StoreFolder,
    Subset,
    Tables,
    Variant,
)

if TYPE_CHECKING:
    from training.clips import Clips


def codeswitch(
    manifest: Manifests,
    subset: Subset = None,
    policies: Annotated[str, typer.Option(help="Of hard, soft, threshold, hierarchical.")] = "hard,soft",
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    classifier: Annotated[str | None, typer.Option(help="Folder of a classifier with frames.")] = None,
    languages: Languages = None,
    variant: Variant = None,
    rank: Rank = None,
    limit: Annotated[
        int, typer.Option(help="At most so many clips of each kind, spread over the manifest; 0: all.")
    ] = 0,
    json: Output = None,
    tables: Tables = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Draw the delays, and the time lines of the worst clips, into this folder.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write all of it as a page for people (Markdown).")] = None,
    worst: Annotated[int, typer.Option(help="How many of the worst clips are listed and drawn.")] = 10,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    batch_size: Batch = 16,
    beam_size: Beam = 1,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
) -> None:
    """Clips that change language: switches found (offline, and causally with their delay), error rates against the same
    clips one by one, errors at the switched words, words dropped and doubled; clips in one language are controls."""
    import router as routers
    from router.policies import POLICIES
    from training.evaluation import codeswitching_report as report
    from training.evaluation.codeswitching import evaluate_codeswitch
    from training.evaluation.codeswitching_page import write_page
    from training.evaluation.codeswitching_pictures import draw
    from zoo.errors import RoutingError

    wanted = policies.split(",")
    if unknown := [policy for policy in wanted if policy not in POLICIES]:
        raise RoutingError(f"Policy {unknown[0]!r} is unknown", valid=", ".join(POLICIES))
    clips = switched_clips(manifest, subset, languages, limit)
    loaded = routers.load(
        model, store, classifier, variant=variant, rank=rank, device=device, dtype=dtype, context=context,
        batch_size=batch_size, beam_size=beam_size,
    )  # fmt: skip
    found = evaluate_codeswitch(
        loaded, clips, wanted, bootstrap=bootstrap, seed=seed, say=lambda line: typer.echo(line, err=True)
    )
    report.show(found, worst)
    if tables is not None:
        report.write_tables(tables, found)
    if json is not None:
        typer.echo(f"written: {report.write_json(json, found, loaded, manifest, worst)}")
    if pictures is not None or page is not None:
        folder = pictures or Path(page).with_suffix("")
        drawn = draw(folder, found, worst)
        typer.echo(f"written: {len(drawn)} pictures in {folder}")
        if page is not None:
            typer.echo(f"written: {write_page(page, found, loaded, manifest, drawn, worst)}")


def switched_clips(manifests: list[Path], subset: str | None, languages: str | None, limit: int) -> "Clips":
    """The clips of all manifests, decoded; languages: only clips in which nothing else is spoken."""
    from training.clips import describe_skipped, load_clips
    from training.data.manifest import read_manifest
    from training.evaluation.codeswitching_runs import kind_of
    from training.recipe import DataOptions
    from training.validation import spread
    from zoo.errors import DataError

    records, sources = [], []
    for path in manifests:
        found = read_manifest(path, subset=subset)
        records += found
        sources += [path.stem] * len(found)
    if languages:
        wanted = set(languages.split(","))
        kept = [k for k, record in enumerate(records) if set(record.languages) <= wanted]
        if not kept:
            raise DataError(
                f"No clip speaks only {languages}",
                valid=", ".join(sorted({tag for r in records for tag in r.languages})),
            )
        records, sources = [records[k] for k in kept], [sources[k] for k in kept]
    chosen = spread(limit, [kind_of(record) for record in records])
    clips = load_clips(
        [records[k] for k in chosen], DataOptions(max_duration_s=4 * 3600.0), [sources[k] for k in chosen]
    )
    if clips.skipped:
        typer.echo(describe_skipped(clips), err=True)
    return clips
