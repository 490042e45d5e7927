"""Options that sub-commands share, and what each of them does at its end."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analysis.cache import Cache
    from analysis.inputs import Choice
    from analysis.result import Result

Manifests = Annotated[
    list[Path], typer.Option("--manifest", "-m", help="JSON lines of clips with text and lang; may be repeated.")
]
Train = Annotated[
    list[Path] | None, typer.Option("--train", help="Manifests the adapters were trained on: what words they know.")
]
Subset = Annotated[str | None, typer.Option(help="Only lines of this `subset`.")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder of adapters; the embedded one if none.")]
Base = Annotated[str | None, typer.Option("--base", help="Base model, where the store has adapters of several.")]
Model = Annotated[str | None, typer.Option(help="Base model to load; the one that the adapters name if none.")]
Languages = Annotated[str | None, typer.Option(help="Only these languages: hi,pa,te")]
Rank = Annotated[int | None, typer.Option(help="Only adapters of this rank.")]
Variant = Annotated[str | None, typer.Option(help="Only adapters of this variant.")]
Limit = Annotated[int, typer.Option(help="At most so many clips per language, spread over the manifest; 0: all.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for numbers (JSON, CSV) and figures (PNG, SVG).")]
CacheFolder = Annotated[
    Path | None, typer.Option("--cache", help="Where computed items are kept; BOLI_HOME/analysis if none.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Compute everything again, keep nothing.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn.")]
Bootstrap = Annotated[int, typer.Option(help="Resamples for the 95 % intervals; 0: none.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Batch = Annotated[int, typer.Option(help="Most clips in one pass.")]


def split(text: str | None) -> tuple[str, ...]:
    """`hi,pa` -> its parts."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def chosen(
    store: Path | None, base: str | None, languages: str | None, rank: int | None, variant: str | None
) -> "Choice":
    from analysis.inputs import Choice

    return Choice(store, base, split(languages), rank, variant)


def open_cache(folder: Path | None, no_cache: bool) -> "Cache":
    from analysis.cache import Cache, default_folder

    return Cache(None if no_cache else folder or default_folder())


def finish(result: "Result", out: Path, figures: list[Path]) -> None:
    """Save the numbers; say what was written, and what a reader has to know."""
    from analysis.result import save

    written = save(result, out)
    for note in result.provenance.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {len(written)} tables and {len(figures)} figures in {out}")
