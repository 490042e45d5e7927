"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

LONGEST_S = 4 * 3600.0  # clips to score: the router cuts what is longer than one pass

Manifests = Annotated[
    list[Path], typer.Option("--manifest", "-m", help="JSON lines of clips with text and lang; may be repeated.")
]
Subset = Annotated[str | None, typer.Option(help="Only lines of this `subset`.")]
Model = Annotated[str, typer.Option(help="Base model: a card, a folder or a hub id (boli zoo list).")]
StoreFolder = Annotated[Path | None, typer.Option("--store", help="Folder of adapters; the embedded one if none.")]
Languages = Annotated[str | None, typer.Option(help="Only clips of these languages: hi,pa,te")]
Limit = Annotated[int, typer.Option(help="At most so many clips per language, spread over the manifest; 0: all.")]
Output = Annotated[Path | None, typer.Option("--json", help="Write measurements and provenance here.")]
Tables = Annotated[Path | None, typer.Option(help="Write predictions and errors of each system here, as CSV.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Context = Annotated[str | None, typer.Option(help="30s or dynamic; the card's where none is named.")]
Batch = Annotated[int, typer.Option(help="Most clips in one pass.")]
Beam = Annotated[int | None, typer.Option(help="1 is greedy; the model card's where none is given.")]
CtcWeight = Annotated[
    float | None, typer.Option(help="Share of CTC in the search's scores; the model card's where none is given.")
]
Classifier = Annotated[
    str | None, typer.Option(help="Folder of a classifier, or `whisper` for the model's own detection.")
]
Bootstrap = Annotated[int, typer.Option(help="Resamples for the 95 % intervals; 0: none.")]
Seed = Annotated[int, typer.Option(help="Seed of the resamples.")]
Variant = Annotated[str | None, typer.Option(help="Only adapters of this variant.")]
Rank = Annotated[int | None, typer.Option(help="Only adapters of this rank.")]
