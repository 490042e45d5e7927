"""`boli evaluate codeswitch`, which training/commands/evaluate.py takes in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.options import (
    LONGEST_S,
    Batch,
    Beam,
    Bootstrap,
    Context,
    Device,
    Dtype,
    Languages,
    Model,
    Output,
    Rank,
    Seed,
    StoreFolder,
    Subset,
    Tables,
    Variant,
)

if TYPE_CHECKING:
    from training.clips import Clips

OptionalManifests = Annotated[
    list[Path] | None,
    typer.Option("--manifest", "-m", help="JSON lines of clips, those that switch with `segments`; may be repeated."),
]
Corpus = Annotated[
    Path | None,
    typer.Option(
        help="Folder that `python -m training.data.embedded --out` made: its recordings of people are concatenated, and "
        "its own switched clips taken."
    ),
]
ClipsAKind = Annotated[int, typer.Option(help="--corpus: concatenations of each kind.")]


def codeswitch(
    manifest: OptionalManifests = None,
    corpus: Corpus = None,
    clips_a_kind: ClipsAKind = 40,
    subset: Subset = None,
    policies: Annotated[str, typer.Option(help="Of hard, soft, threshold, hierarchical.")] = "hard,soft",
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    classifier: Annotated[str | None, typer.Option(help="Folder of a classifier with frames.")] = None,
    languages: Languages = None,
    variant: Variant = None,
    rank: Rank = None,
    limit: Annotated[
        int, typer.Option(help="At most so many clips of each kind, spread over the manifest; 0: all.")
    ] = 0,
    json: Output = None,
    tables: Tables = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Draw the delays, and the time lines of the worst clips, into this folder.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write all of it as a page for people (Markdown).")] = None,
    worst: Annotated[int, typer.Option(help="How many of the worst clips are listed and drawn.")] = 6,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    batch_size: Batch = 16,
    beam_size: Beam = None,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
) -> None:
    """Clips that change language: switches found (offline, and causally with their delay), error rates against the same
    clips one by one, errors at the switched words, words dropped and doubled; clips in one language are controls."""
    import router as routers
    from router.loading import EMBEDDED_MODEL
    from router.policies import POLICIES
    from training.evaluation import codeswitching_report as report
    from training.evaluation.codeswitching import evaluate_codeswitch
    from training.evaluation.codeswitching_page import write_page
    from training.evaluation.codeswitching_pictures import draw
    from zoo.errors import RoutingError

    wanted = policies.split(",")
    if unknown := [policy for policy in wanted if policy not in POLICIES]:
        raise RoutingError(f"Policy {unknown[0]!r} is unknown", valid=", ".join(POLICIES))
    manifests, clips = switched_clips(manifest, corpus, "test", clips_a_kind, subset, languages, limit)
    loaded = routers.load(
        model, store, classifier, variant=variant, rank=rank, device=device, dtype=dtype, context=context,
        batch_size=batch_size, beam_size=beam_size,
    )  # fmt: skip
    found = evaluate_codeswitch(
        loaded, clips, wanted, bootstrap=bootstrap, seed=seed, say=lambda line: typer.echo(line, err=True)
    )
    report.show(found, worst)
    if tables is not None:
        report.write_tables(tables, found)
    if json is not None:
        typer.echo(f"written: {report.write_json(json, found, loaded, manifests, worst)}")
    folder = pictures if pictures is not None else page.with_suffix("") if page is not None else None
    if folder is not None:
        drawn = draw(folder, found, worst)
        typer.echo(f"written: {len(drawn)} pictures in {folder}")
        if page is not None:
            made_of = f"--corpus CORPUS --clips-a-kind {clips_a_kind} --limit {limit}" if corpus is not None else ""
            given = [f"--model {model}"] if model != EMBEDDED_MODEL else []
            given += [f"--store {'STORE' if store.is_absolute() else store}"] if store is not None else []
            given += [f"--dtype {dtype}"] if dtype != "float32" else []
            made_of += f" --policies {policies}" if made_of and policies != "hard,soft" else ""
            typer.echo(f"written: {write_page(page, found, loaded, manifests, drawn, made_of, ' '.join(given))}")


def switched_clips(
    manifests: list[Path] | None,
    corpus: Path | None,
    split: str,
    clips_a_kind: int,
    subset: str | None = None,
    languages: str | None = None,
    limit: int = 0,
) -> "tuple[dict[str, str], Clips]":
    """Name -> sha256 of each manifest, and all their clips, decoded.

    corpus: its recordings of a split are concatenated, and its own switched clips taken; languages: only clips in which
    nothing else is spoken. Raises DataError where nothing is left.
    """
    import tempfile

    from training.clips import describe_skipped, load_clips
    from training.data.manifest import read_manifest, set_name
    from training.evaluation.codeswitching_runs import kind_of
    from training.evaluation.codeswitching_sets import sets_of
    from training.recipe import DataOptions
    from training.validation import spread
    from zoo.checksum import sha256
    from zoo.errors import DataError

    if not manifests and corpus is None:
        raise DataError("There is nothing to hear", valid="--manifest FILE, or --corpus FOLDER")
    with tempfile.TemporaryDirectory() as scratch:
        made = sets_of(corpus, split, Path(scratch), clips_a_kind, 0) if corpus is not None else []
        paths = [*(manifests or ()), *made]
        found = [(record, set_name(path)) for path in made for record in read_manifest(path)]
        found += [(record, set_name(path)) for path in manifests or () for record in read_manifest(path, subset=subset)]
        if languages:
            wanted = set(languages.split(","))
            spoken = sorted({tag for record, _ in found for tag in record.languages})
            found = [(record, name) for record, name in found if set(record.languages) <= wanted]
            if not found:
                raise DataError(f"No clip speaks only {languages}", valid=", ".join(spoken))
        if limit:
            kinds = [f"{name} {kind_of(record)}" for record, name in found]
            found = [found[k] for k in spread(limit, kinds)]
        records, sources = [record for record, _ in found], [name for _, name in found]
        clips = load_clips(records, DataOptions(max_duration_s=LONGEST_S), sources)
        hashes = {path.parent.name if path.name == "manifest.jsonl" else path.name: sha256(path) for path in paths}
    if clips.skipped:
        typer.echo(describe_skipped(clips), err=True)
    return hashes, clips
