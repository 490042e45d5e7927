"""`boli analyze transfer`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(transfer)


def transfer(
    manifest: options.Manifests,
    source: Annotated[str | None, typer.Option(help="Only adapters of these languages: hi,pa")] = None,
    target: Annotated[str | None, typer.Option(help="Only clips of these languages.")] = None,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    model: options.Model = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    limit: options.Limit = 0,
    out: options.Out = Path("analysis-out"),
    few_shot: Annotated[bool, typer.Option(help="Also score adapters trained on a share of the data.")] = True,
    bootstrap: options.Bootstrap = 1000,
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
) -> None:
    """Every adapter on every language, what it costs in English, what little data does, and what goes with it."""
    from analysis.hearing import listen
    from analysis.inputs import read_clips
    from analysis.transfer import CORRELATED
    from analysis.transfer import transfer as analyse
    from analysis.transfer_figures import draw
    from training.evaluation.measurements import write_scores

    clips = read_clips(manifest, subset=subset, limit=limit)
    chosen = options.chosen(store, base, None, rank, variant)
    listener = listen(chosen, options.open_cache(cache, no_cache), model=model, device=device, batch_size=batch_size)
    found = analyse(
        listener, clips, sources=options.split(source), targets=options.split(target), manifests=manifest,
        few_shot=few_shot, bootstrap=bootstrap, seed=seed, show=True,
    )  # fmt: skip
    for cell in found.cells:
        if (cell.metric, cell.normaliser) == CORRELATED and cell.value is not None:
            gain = "" if cell.gain is None else f", gain {cell.gain:+.1%} [{cell.gain_low:+.1%}, {cell.gain_high:+.1%}]"
            typer.echo(f"{cell.source} -> {cell.target}: CER {cell.value:.1%}{gain} ({cell.clips} clips)")
    for correlation in found.correlations:
        test = correlation.test
        said = f"ρ {test.correlation:+.2f}, p {test.p:.3f}" if test else f"not tested: {correlation.reason}"
        typer.echo(f"{correlation.what} ~ {correlation.against}: {said}")
    if found.few_shot is not None and found.few_shot.trained:
        typer.echo(f"written: {write_scores(out / 'few_shot_scores.json', found.few_shot.measurements())}")
    options.finish(found, out, draw(found, out))
