"""`boli analyze probes`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(probes)


def probes(
    manifest: options.Manifests,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    model: options.Model = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    sentences: Annotated[int, typer.Option(help="Sentences a language, spread over the manifest's; 0: all.")] = 60,
    voices: Annotated[int, typer.Option(help="Synthetic voices that speak each sentence.")] = 2,
    controls: Annotated[int, typer.Option(help="Drawings of the control task.")] = 2,
    ridge: Annotated[float, typer.Option(help="Penalty on a probe's squared weights: larger is simpler.")] = 100.0,
    out: options.Out = Path("analysis-out"),
    bootstrap: options.Bootstrap = 500,
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    device: options.Device = "cpu",
) -> None:
    """What can be read off each layer with an adapter and without: vowels, manner, place, voicing, phones, words."""
    from analysis.hearing import listen
    from analysis.inputs import read_clips
    from analysis.probes import ProbeOptions, probe
    from analysis.probes_figures import draw

    clips = read_clips(manifest, subset=subset, languages=options.split(languages))
    chosen = options.chosen(store, base, languages, rank, variant)
    listener = listen(chosen, options.open_cache(cache, no_cache), model=model, device=device)
    settings = ProbeOptions(sentences, voices, controls, ridge, bootstrap, seed)
    found = probe(listener, clips, settings, manifests=manifest, show=True)
    for row in found.changes:
        if row["layer"] == listener.base.n_layers:
            typer.echo(
                f"{row['language']} {row['task']}, last layer: {row['base']:.1%} -> {row['with_adapter']:.1%} "
                f"(selectivity {row['selectivity_change']:+.1%})"
            )
    options.finish(found, out, draw(found, out))
