"""The site file and the studies that ship."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

import boli
import slurm
from slurm.site import Site, load_site
from slurm.study import load_study
from slurm.task import expand

FOLDER = Path(slurm.__file__).parent
STUDIES = sorted(FOLDER.glob("studies/*.yaml"))


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(FOLDER.parent)


def test_the_example_site_file_names_every_option():
    text = (FOLDER / "site.toml").read_text()
    load_site(FOLDER / "site.toml")
    for kind in (Site, *(type(getattr(Site(), part)) for part in ("mail", "environment", "limits"))):
        for name in kind.__dataclass_fields__:
            assert re.search(rf"^(# )?\[?{name}\b", text, re.MULTILINE), name


def test_the_study_is_the_one_that_was_asked_for():
    tasks = expand(load_study(FOLDER / "studies" / "adapters.yaml"), load_site(FOLDER / "site.toml"))
    train = [task for task in tasks if task.phase == "train"]
    assert len({(t.values["model"], t.values["language"], t.values["rank"]) for t in train}) == len(train) == 80
    assert len({task.resources.shape for task in train}) == 1  # so they are one array
    asked = {task.values["size"]: (task.resources.memory, task.resources.time) for task in train}
    assert asked == {"small": ("32G", "12h"), "medium": ("48G", "24h"), "large": ("64G", "48h")}
    assert sum(task.phase == "transfer" for task in tasks) == 16


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_its_launch_command_stands_on_top(path):
    assert path.read_text().startswith("# boli slurm ")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_commands_of_a_study_exist_with_their_options(path):
    """Each `boli ROOM COMMAND --option` is known to that room; recipes are files and their overrides are options."""
    commands = {task.phase: task.command for task in expand(load_study(path), Site())}
    absent = set()  # commands of rooms that this checkout does not have yet
    for command in commands.values():
        words = shlex.split(command.split(">")[0])
        assert words[0] == "boli"
        if words[1] not in boli.COMMANDS:
            absent.add(f"boli {words[1]}")
            continue
        known = _group(boli.COMMANDS[words[1]][0]).commands.get(words[2])
        if known is None:
            absent.add(f"boli {words[1]} {words[2]}")
            continue
        options = {option for parameter in known.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, command
        if words[1] == "train":
            _check_recipe(words[2], words[3:])
    assert not any(command.startswith("boli evaluate") for command in absent)
    if absent:
        pytest.skip(f"not in this checkout: {', '.join(sorted(absent))}")


def _group(module: str):
    import typer

    return typer.main.get_command(importlib.import_module(module).app)


def _check_recipe(kind: str, words: list[str]) -> None:
    from training.adapter_recipe import AdapterRecipe
    from training.classifier_recipe import ClassifierRecipe
    from training.recipe import load

    load({"adapter": AdapterRecipe, "classifier": ClassifierRecipe}[kind], words[0], words[1:])
