"""`boli analyze report`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(report)


def report(
    manifest: options.Manifests,
    out: Annotated[Path, typer.Option("--out", help="Folder of the report; index.html is its page.")],
    store: options.StoreFolder = None,
    base: options.Base = None,
    model: options.Model = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    subset: options.Subset = None,
    train: options.Train = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of training runs, for their curves.")] = None,
    only: Annotated[str | None, typer.Option(help="Only these sections: transfer,errors")] = None,
    limit: Annotated[int, typer.Option(help="At most so many clips per language, spread evenly; 0: all.")] = 40,
    layer_clips: Annotated[int, typer.Option(help="Of these, clips that are transcribed with each layer off.")] = 16,
    scopes: Annotated[str, typer.Option(help="What is switched off: of part, layer, module.")] = "part,layer",
    sentences: Annotated[int, typer.Option(help="Sentences a language that probes are trained on.")] = 60,
    latency_clips: Annotated[int, typer.Option(help="Clips a language that are timed alone; 0: none.")] = 8,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    bootstrap: options.Bootstrap = 1000,
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
) -> None:
    """All analyses of a store on one page, with figures, numbers, provenance and slides. One that was interrupted goes on
    where it stopped. A store with adapters of several bases gets a report of each, in a folder of its name."""
    from analysis.inputs import Choice
    from analysis.report import build
    from analysis.report_inputs import Inputs

    held = options.open_cache(cache, no_cache)
    names = bases_of(store, base)
    for name in names:
        folder = out / name.replace("/", "--") if len(names) > 1 else out
        inputs = Inputs(
            choice=Choice(store, name, options.split(languages), rank, variant),
            manifests=tuple(manifest),
            cache=held,
            train=tuple(train or ()),
            model=model,
            subset=subset,
            limit=limit,
            layer_clips=layer_clips,
            scopes=options.split(scopes),
            latency_clips=latency_clips,
            sentences=sentences,
            bootstrap=bootstrap,
            seed=seed,
            device=device,
            batch_size=batch_size,
            show=True,
        )
        made = build(inputs, folder, only=options.split(only), runs=runs, title=title, say=typer.echo)
        typer.echo(f"written: {made.page} and {made.slides} ({made.about['seconds']:.0f} s)")


def bases_of(store: Path | None, base: str | None) -> list[str]:
    """Bases that a report is made of: the one named, else all that the store has adapters of. Raises AdapterError for
    an empty store."""
    from analysis.inputs import open_store
    from zoo.errors import AdapterError

    if base is not None:
        return [base]
    opened = open_store(store)
    found = sorted({stored.key.base for stored in opened.all()})
    if not found:
        raise AdapterError(
            f"The store {opened.folder} has no adapter", valid="a store with adapters",
            remedy=f"boli adapters list --store {opened.folder}",
        )  # fmt: skip
    return found
