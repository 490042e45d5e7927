"""`boli analyze errors` and `boli analyze efficiency`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(errors)
    app.command()(efficiency)


def errors(
    manifest: options.Manifests,
    train: options.Train = None,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    model: options.Model = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    limit: options.Limit = 0,
    out: options.Out = Path("analysis-out"),
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
) -> None:
    """Which mistakes each adapter makes and which it has cured: homophones, sounds, scripts, unknown words, loops."""
    from analysis.errors import errors as analyse
    from analysis.errors_figures import draw
    from analysis.hearing import listen
    from analysis.inputs import read_clips
    from training.data.manifest import read_manifest

    clips = read_clips(manifest, subset=subset, languages=options.split(languages), limit=limit)
    vocabulary = [record for path in train or () for record in read_manifest(path, check_audio=False)]
    chosen = options.chosen(store, base, languages, rank, variant)
    listener = listen(chosen, options.open_cache(cache, no_cache), model=model, device=device, batch_size=batch_size)
    found = analyse(listener, clips, vocabulary=vocabulary, manifests=[*manifest, *(train or ())], show=True)
    for row in found.classes:
        if row["count"]:
            typer.echo(
                f"{row['language']} {row['system']}: {row['class']} {row['count']} ({row['share']:.0%} of errors)"
            )
    options.finish(found, out, draw(found, out))


def efficiency(
    manifest: options.Manifests,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    model: options.Model = None,
    languages: options.Languages = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    limit: options.Limit = 0,
    latency_clips: Annotated[int, typer.Option(help="Clips a language that are timed alone; 0: none.")] = 8,
    out: options.Out = Path("analysis-out"),
    bootstrap: options.Bootstrap = 1000,
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
) -> None:
    """Error rates against trained parameters, model size and latency, for every rank and variant of the store."""
    from analysis.efficiency import efficiency as analyse
    from analysis.efficiency_figures import draw
    from analysis.hearing import listen
    from analysis.inputs import read_clips

    clips = read_clips(manifest, subset=subset, languages=options.split(languages), limit=limit)
    chosen = options.chosen(store, base, languages, rank, variant)
    listener = listen(chosen, options.open_cache(cache, no_cache), model=model, device=device, batch_size=batch_size)
    found = analyse(
        listener, clips, latency_clips=latency_clips, manifests=manifest, bootstrap=bootstrap, seed=seed, show=True
    )
    for cost in found.costs:
        wer = "-" if cost.wer is None else f"{cost.wer:.1%}"
        took = "" if cost.latency_p50_s is None else f", {1000 * cost.latency_p50_s:.0f} ms a clip"
        name = cost.adapter or "base alone"
        typer.echo(f"{cost.language} {name}: WER {wer}, {cost.trained_parameters:,} parameters trained{took}")
    options.finish(found, out, draw(found, out))
