"""Putting a trained base where the repository carries it."""

import json
import shutil

import pytest

import zoo
from zoo import manager
from zoo.checksum import sha256
from zoo.embed import CARDS, NAME, embed
from zoo.errors import ModelError


@pytest.fixture
def place(tmp_path):
    """A copy of the cards, and a folder of models that holds an older base."""
    shutil.copyfile(CARDS, tmp_path / "boli.json")
    (tmp_path / "models" / NAME).mkdir(parents=True)
    (tmp_path / "models" / NAME / "old.json").write_text("{}")
    return {"models": tmp_path / "models", "cards": tmp_path / "boli.json"}


def test_the_card_says_what_lies_there(place):
    folder = manager.resolve("debug")[1]
    card = embed(folder, "made by a test", **place)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    lying = place["models"] / NAME
    assert sorted(path.name for path in lying.iterdir()) == files == sorted(card["files"])
    assert all(sha256(lying / name) == known for name, known in card["files"].items())
    base = zoo.load(str(folder))
    assert card["parameters"] == sum(p.numel() for p in base.module.parameters())
    assert (card["tap"], card["n_layers"], card["frame_rate"]) == (base.n_layers, base.n_layers, base.frame_rate)
    written = {each["name"]: each for each in json.loads(place["cards"].read_text("utf-8"))}
    assert written[NAME] == card
    assert card["notes"] == "made by a test"
    before = {each["name"]: each for each in json.loads(CARDS.read_text("utf-8"))}
    assert {**written, NAME: None} == {**before, NAME: None}


def test_a_folder_without_weights_changes_nothing(place, tmp_path):
    with pytest.raises(ModelError, match=r"holds no model.*boli train base"):
        embed(tmp_path / "models", "", **place)
    assert (place["models"] / NAME / "old.json").is_file()
    assert place["cards"].read_text("utf-8") == CARDS.read_text("utf-8")
