"""`boli analyze representations`."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command()(representations)


def representations(
    manifest: options.Manifests,
    subset: options.Subset = None,
    store: options.StoreFolder = None,
    base: options.Base = None,
    languages: Annotated[str | None, typer.Option(help="Only clips of these languages: hi,pa,te")] = None,
    rank: options.Rank = None,
    variant: options.Variant = None,
    model: options.Model = None,
    limit: options.Limit = 24,
    vectors: Annotated[int, typer.Option(help="About so many frames, and tokens, of all clips together.")] = 1000,
    device: options.Device = "cpu",
    batch_size: options.Batch = 16,
    out: options.Out = Path("analysis-out"),
    seed: options.Seed = 0,
    cache: options.CacheFolder = None,
    no_cache: options.NoCache = False,
) -> None:
    """CKA of hidden states with and without each adapter, layer by layer, and the tap's features in the plane."""
    from analysis.inputs import choose, load_base, manifest_checksums, open_store, read_clips
    from analysis.representations import ALL
    from analysis.representations import representations as analyse
    from analysis.representations_figures import draw

    choice = options.chosen(store, base, None, rank, variant)
    adapters = choose(open_store(choice.store), choice)
    clips = read_clips(manifest, subset=subset, languages=options.split(languages), limit=limit)
    found = analyse(
        load_base(adapters, model, device),
        adapters,
        clips,
        vectors=vectors,
        cache=options.open_cache(cache, no_cache),
        seed=seed,
        batch_clips=batch_size,
        manifests=manifest_checksums(manifest),
        progress=True,
    )
    for i, label in enumerate(found.labels[1:], 1):
        values = found.cka[ALL][:, 0, i]
        moved = int(values.argmin())
        typer.echo(
            f"{label}: CKA with the base {values.mean():.3f}; most moved: {found.layers[moved]} ({values[moved]:.3f})"
        )
    options.finish(found, out, draw(found, out))
