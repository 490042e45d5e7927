"""`boli analyze spectrum`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(spectrum)


def spectrum(
    store: options.StoreFolder = None,
    base: options.Base = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    weights: Annotated[
        bool, typer.Option(help="Load the base, for norms beside W and for intruder dimensions.")
    ] = True,
    model: options.Model = None,
    out: options.Out = Path("analysis-out"),
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
) -> None:
    """Singular values of what adapters add: effective rank, energy, strength beside the base, intruder dimensions."""
    from analysis.deltas import read_adapters
    from analysis.inputs import load_base
    from analysis.spectrum import spectrum as analyse
    from analysis.spectrum_figures import draw

    adapters = read_adapters(options.chosen(store, base, languages, rank, variant))
    loaded = load_base(adapters.stored, model) if weights else None
    found = analyse(adapters, loaded, cache=options.open_cache(cache, no_cache), seed=seed, progress=True)
    for row in found.tables()["adapters"]:
        line = f"{row['adapter']}: effective rank {row['effective_rank']:.1f} of {row['rank']}"
        line += f", stable rank {row['stable_rank']:.1f}"
        if row["relative_norm"] is not None:
            line += f", ‖ΔW‖/‖W‖ {row['relative_norm']:.3f}"
        if row["intruders"] is not None:
            line += f", {row['intruders']} intruder dimensions"
        typer.echo(line)
    options.finish(found, out, draw(found, out))
