"""`boli train adapter|classifier|following|base RECIPE [key=value ...]`, `boli train switching`, `boli train rescoring`."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.codeswitch import ClipsAKind, Corpus, OptionalManifests, switched_clips
from training.commands.options import (
    LONGEST_S,
    Batch,
    Context,
    Device,
    Dtype,
    Manifests,
    Model,
    Rank,
    StoreFolder,
    Variant,
)

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train adapters, classifiers and base models from recipes."
)

Recipe = Annotated[
    str, typer.Argument(help="YAML file; `training/recipes/` has one for each job. Not needed with --resume.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value ..., for example run.seed=1 adapter.rank=32")]
Resume = Annotated[
    Path | None, typer.Option("--resume", help="Go on in this run's folder; the recipe is the run's own.")
]


@app.callback()
def _root() -> None:
    """Train adapters, classifiers and base models from recipes."""


@app.command()
def adapter(
    recipe: Recipe = "",
    overrides: Overrides = None,
    resume: Resume = None,
    use_qlora: Annotated[bool, typer.Option("--use-qlora", help="Hold the base in 4 bits (NF4).")] = False,
) -> None:
    """LoRA for one language on a base model of the zoo, or full fine-tuning as the reference."""
    from training.adapter import train_adapter
    from training.adapter_recipe import AdapterRecipe

    extra = ["base.quantize=nf4"] if use_qlora else []
    _start(AdapterRecipe, train_adapter, recipe, [*(overrides or []), *extra], resume)


@app.command()
def classifier(recipe: Recipe = "", overrides: Overrides = None, resume: Resume = None) -> None:
    """Language heads on the tap of a frozen base model, beside what the spectrum alone gives away."""
    from training.classifier import train_classifier
    from training.classifier_recipe import ClassifierRecipe

    _start(ClassifierRecipe, train_classifier, recipe, overrides, resume)


@app.command()
def following(recipe: Recipe = "", overrides: Overrides = None, resume: Resume = None) -> None:
    """A head beside a classifier that says while a recording runs which language is being spoken."""
    from training.following import train_following
    from training.following_recipe import FollowingRecipe

    _start(FollowingRecipe, train_following, recipe, overrides, resume)


@app.command()
def base(recipe: Recipe = "", overrides: Overrides = None, resume: Resume = None) -> None:
    """A Whisper-architecture model from scratch."""
    from training.base import BaseRecipe, train_base

    _start(BaseRecipe, train_base, recipe, overrides, resume)


@app.command()
def switching(
    classifier: Annotated[Path, typer.Option(help="Folder of the classifier whose config gets the parameters.")],
    manifest: OptionalManifests = None,
    corpus: Corpus = None,
    clips_a_kind: ClipsAKind = 30,
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    alarms: Annotated[float, typer.Option(help="False alarms a minute that the causal decision may give.")] = 2.0,
    limit: Annotated[int, typer.Option(help="At most so many clips of each kind; 0: all.")] = 0,
    only_causal: Annotated[
        bool, typer.Option("--only-causal", help="When a head that follows declares a change; the rest stays.")
    ] = False,
    only_offline: Annotated[
        bool, typer.Option("--only-offline", help="All but when a change is declared while one speaks.")
    ] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    variant: Variant = None,
    rank: Rank = None,
    batch_size: Batch = 16,
) -> None:
    """How readily a change of language is believed, offline and causally, chosen on validation clips that change
    language and others that do not (`boli data codeswitch`). Clips of a test set are refused."""
    import router
    from training.switching import choose, keep
    from zoo.errors import RecipeError

    if only_causal and only_offline:
        raise RecipeError("--only-causal and --only-offline leave nothing to choose", valid="one of them, or neither")
    manifests, clips = switched_clips(manifest, corpus, "dev", clips_a_kind, limit=limit)
    loaded = router.load(
        model, store, classifier, device=device, dtype=dtype, context=context, variant=variant, rank=rank,
        batch_size=batch_size,
    )  # fmt: skip
    chosen = choose(loaded, clips, alarms, lambda line: typer.echo(line, err=True), only_causal, only_offline)
    keep(classifier, chosen, manifests, clips)
    typer.echo(f"offline {chosen.offline or 'as it was'}")
    typer.echo(f"causal {chosen.causal or 'as it was'}")
    typer.echo(str(classifier))


@app.command()
def rescoring(
    classifier: Annotated[Path, typer.Option(help="Folder of the classifier whose config gets the parameters.")],
    manifest: Manifests,
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    without_corpora: Annotated[str | None, typer.Option(help="No clips of these corpora: a,b")] = None,
    twice: Annotated[float, typer.Option(help="Share of the clips that may be heard twice.")] = 0.25,
    limit: Annotated[int, typer.Option(help="At most so many clips of a language and corpus; 0: all.")] = 60,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    variant: Variant = None,
    rank: Rank = None,
    batch_size: Batch = 16,
) -> None:
    """How much it counts how surely each language's adapter writes a clip that the classifier is not sure of, chosen on
    validation clips. Clips of a test set are refused."""
    import router
    from training.classifier_scores import drawn_as
    from training.clips import load_clips
    from training.manifests import load_manifests
    from training.recipe import DataOptions
    from training.rescoring import choose, keep
    from training.validation import spread
    from zoo.checksum import sha256

    left_out = without_corpora.split(",") if without_corpora else []
    options = DataOptions(without_corpora=left_out, max_duration_s=LONGEST_S)
    records, sources = load_manifests([str(path) for path in manifest], options)
    some = spread(limit, [f"{record.lang} {drawn_as(record)}" for record in records])
    clips = load_clips([records[i] for i in some], options, [sources[i] for i in some])
    loaded = router.load(
        model, store, classifier, device=device, dtype=dtype, context=context, variant=variant, rank=rank,
        batch_size=batch_size,
    )  # fmt: skip
    chosen, measured = choose(loaded, clips, twice, lambda line: typer.echo(line, err=True))
    manifests = {path.name: sha256(path) for path in manifest}
    keep(classifier, chosen, measured, manifests, list(loaded.adapters.values()))
    typer.echo(f"{chosen}")
    typer.echo(f"{measured}")
    typer.echo(str(classifier))


def _start(kind, train, recipe: str, overrides: list[str] | None, resume: Path | None) -> None:
    """Load the recipe and train. A job that was told to leave exits with 75 (try again)."""
    from training.recipe import load
    from training.run import Run
    from training.signals import EXIT_PREEMPTED, Preempted

    given = list(overrides or [])
    if "=" in recipe:
        recipe, given = "", [recipe, *given]
    options = load(kind, resume / "config.yaml" if resume else recipe, given)
    if resume is None and options.run.resume_latest:
        resume = Run.unfinished(options.run)
    try:
        folder = train(options, resume)
    except Preempted as why:
        typer.echo(f"stopped: {why}", err=True)
        raise typer.Exit(EXIT_PREEMPTED) from None
    if folder.is_dir():  # of several processes only the first has one
        typer.echo(str(folder))
