"""`boli analyze layers`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(layers)


def layers(
    manifest: options.Manifests,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    model: options.Model = None,
    limit: options.Limit = 24,
    scopes: Annotated[str, typer.Option(help="What is switched: of part, layer, module.")] = "part,layer,module",
    measure: Annotated[str, typer.Option(help="What the figures show: cer or wer.")] = "cer",
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="layers.json of another base, to compare by relative depth; may be repeated."),
    ] = None,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
    bootstrap: options.Bootstrap = 1000,
    out: options.Out = Path("analysis-out"),
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
) -> None:
    """Error rates with one layer's (part's, module type's) adapter off, and with it alone, per adapter."""
    from analysis.inputs import choose, load_base, manifest_checksums, open_store, read_clips
    from analysis.layers import MEASURES, compare_depths, layer_importance
    from analysis.layers_figures import draw
    from analysis.result import read
    from zoo.errors import DataError

    if measure not in MEASURES:
        raise DataError(f"There is no measure {measure!r}", valid=", ".join(MEASURES))
    others = [row for path in beside or () for row in read(path)[1].get("depths", ())]
    choice = options.chosen(store, base, languages, rank, variant)
    adapters = choose(open_store(choice.store), choice)
    clips = read_clips(manifest, subset=subset, languages=options.split(languages), limit=limit)
    found = layer_importance(
        load_base(adapters, model, device),
        adapters,
        clips,
        scopes=options.split(scopes),
        cache=options.open_cache(cache, no_cache),
        bootstrap=bootstrap,
        seed=seed,
        batch_clips=batch_size,
        manifests=manifest_checksums(manifest),
        progress=True,
    )
    for label in found.labels:
        whole, none = found.of(label, "all", "full")[""], found.of(label, "all", "base")[""]
        typer.echo(f"{label}: {measure.upper()} {none[measure]:.1%} without, {whole[measure]:.1%} with the adapter")
        changes = [row for row in found.of(label, "layer", "off").values() if row[f"{measure}_change"] is not None]
        for row in sorted(changes, key=lambda row: -row[f"{measure}_change"])[:3]:
            typer.echo(f"  without {row['group']}: {row[measure]:.1%} ({row[f'{measure}_change']:+.1%})")
    for other in dict.fromkeys(row["base"] for row in others):
        rows = [row for row in others if row["base"] == other]
        for line in compare_depths(found.tables()["depths"], rows, measure):
            r = "too few layers" if line["correlation"] is None else f"correlation {line['correlation']:.2f}"
            typer.echo(f"{found.provenance.base} and {other}, {line['part']} {line['how']}: {r} along relative depth")
    options.finish(found, out, draw(found, out, measure=measure, beside=others))
