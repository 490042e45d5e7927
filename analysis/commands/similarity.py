"""`boli analyze similarity`."""

from pathlib import Path

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(similarity)


def similarity(
    store: options.StoreFolder = None,
    base: options.Base = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    out: options.Out = Path("analysis-out"),
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
) -> None:
    """Cosines of what adapters add to the base, and angles between their subspaces, against chance and against two seeds."""
    from analysis.deltas import read_adapters
    from analysis.similarity import similarity as analyse
    from analysis.similarity_figures import draw

    adapters = read_adapters(options.chosen(store, base, languages, rank, variant))
    found = analyse(adapters, cache=options.open_cache(cache, no_cache), seed=seed, progress=True)
    for row in found.tables().get("languages", ()):
        share = "" if row["share_of_ceiling"] is None else f", {row['share_of_ceiling']:.0%} of the ceiling"
        typer.echo(f"{row['language']} - {row['other']}: cosine {row['cosine']:.3f}{share} ({row['pairs']} pairs)")
    options.finish(found, out, draw(found, out))
