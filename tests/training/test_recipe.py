"""Recipes: read, overridden, checked; every recipe of the repository loads."""

import re
from pathlib import Path

import pytest

from slurm.study import load_study
from training.adapter_recipe import AdapterRecipe
from training.base import BaseRecipe
from training.classifier_recipe import ClassifierRecipe
from training.following_recipe import FollowingRecipe
from training.recipe import dump, load
from zoo.errors import RecipeError

FOLDER = Path("training/recipes")
KINDS = {"adapter": AdapterRecipe, "classifier": ClassifierRecipe, "following": FollowingRecipe, "base": BaseRecipe}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=str)
def test_every_recipe_loads_and_says_how_it_is_launched(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    if study := re.match(r"# boli slurm run --local .*?(\S+\.yaml)$", first):
        assert Path(study[1]) == path
        assert load_study(path).phases
        return
    command = re.match(r"# boli train (adapter|classifier|following|base) (\S+)", first)
    assert command, first
    assert Path(command[2]) == path
    load(KINDS[command[1]], path)


def test_overrides_and_dump_round_trip(tmp_path):
    path = FOLDER / "debug/adapter.yaml"
    recipe = load(
        AdapterRecipe, path, ["adapter.rank=32", "data.languages=[hi,pa]", "plan.ratios={a: 0.2, b: 0.8}", "run.name="]
    )
    assert (recipe.adapter.rank, recipe.data.languages, recipe.plan.ratios) == (32, ["hi", "pa"], {"a": 0.2, "b": 0.8})
    (tmp_path / "again.yaml").write_text(dump(recipe), encoding="utf-8")
    assert load(AdapterRecipe, tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adapter.rnak=8", r"adapter.rnak.*Valid: language .*rank"),
        ("adapter.rank=-8", r"adapter.rank is -8.*Valid: 1 to 4096"),
        ("adapter.rank=many", r"adapter.rank.*many"),
        ("adapter.method=dora", r"adapter.method is 'dora'.*lora, full, decoder"),
        ("data.min_duration_s=40", r"data.min_duration_s is 40"),
        ("plan.speed=[1.2,0.8]", r"plan.speed"),
        ("augment.noise=1.5", r"augment.noise is 1.5.*probability"),
        ("run.wandb=sometimes", r"run.wandb is 'sometimes'.*none, offline, online"),
        ("nonsense", r"'nonsense' is no key=value"),
    ],
)
def test_bad_values_are_named(override, message):
    with pytest.raises(RecipeError, match=message):
        load(AdapterRecipe, FOLDER / "debug/adapter.yaml", [override])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere.yaml' is no file.*adapter.yaml"):
        load(AdapterRecipe, tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("run: {name: [\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="is not YAML"):
        load(AdapterRecipe, tmp_path / "broken.yaml")
