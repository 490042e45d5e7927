"""`boli analyze few-shot`: the trainings that transfer from little data is measured on."""

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands import options


def register(app: typer.Typer) -> None:
    app.command(name="few-shot")(few_shot)


def few_shot(
    source: Annotated[str, typer.Option(help="Adapter to start from: hi, hi:r16:default (boli adapters list).")],
    target: Annotated[str, typer.Option(help="Language to train for.")],
    train: Annotated[list[Path], typer.Option("--train", help="Its training manifest; may be repeated.")],
    valid: Annotated[list[Path], typer.Option("--valid", help="Its validation manifest; may be repeated.")],
    store: Annotated[Path, typer.Option("--store", help="Store of the source, and where the new adapters go.")],
    shares: Annotated[str, typer.Option(help="Parts of the training clips.")] = "0.1,0.25,0.5",
    progressive: Annotated[int, typer.Option(help="Stages of progressive unfreezing; 0: leave it out.")] = 4,
    seeds: Annotated[str, typer.Option(help="Seeds: draws of the data and of the weights.")] = "0",
    recipe: Annotated[Path, typer.Option(help="Recipe of the trainings.")] = Path(
        "training/recipes/study/few_shot.yaml"
    ),
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key=value for every training, as for boli train.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the commands down.")] = False,
) -> None:
    """Train a target language on 10, 25 and 50 % of its data: from scratch, from another language's adapter, and from it
    set free in stages. What the store has already is left as it is; boli analyze transfer scores them."""
    from adapters.store import Store
    from analysis.few_shot import plan
    from zoo.errors import DataError

    opened = Store(store)
    try:
        parts = [float(share) for share in options.split(shares)]
        draws = [int(each) for each in options.split(seeds)]
    except ValueError as error:
        raise DataError(f"--shares {shares} --seeds {seeds}: {error}", valid="--shares 0.1,0.25 --seeds 0,1") from None
    begun = opened.select(source)
    jobs = plan(
        begun, target, train=train, valid=valid, store=store, shares=parts, progressive=progressive, seeds=draws,
        recipe=str(recipe), overrides=override or (),
    )  # fmt: skip
    if dry_run:
        for job in jobs:
            typer.echo(job.command)
        return
    from training.adapter import train_adapter
    from training.adapter_recipe import AdapterRecipe
    from training.recipe import load

    for number, job in enumerate(jobs, 1):
        if opened.find(base=begun.key.base, language=target, rank=begun.key.rank, variant=job.variant):
            typer.echo(f"{number} of {len(jobs)}: {job.variant} is in the store")
            continue
        typer.echo(f"{number} of {len(jobs)}: {job.variant}")
        train_adapter(load(AdapterRecipe, job.recipe, job.overrides))
    typer.echo(f"next: boli analyze transfer --store {store} --manifest TEST.jsonl")
