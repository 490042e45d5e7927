"""The clips that a recipe names: languages, corpora, and what is left of a recipe's ratios."""

import json

import numpy as np
import pytest

from tests.training.conftest import write_wav
from training.adapter import train_adapter
from training.adapter_recipe import AdapterRecipe
from training.base import BaseRecipe, train_base
from training.classifier import train_classifier
from training.classifier_recipe import ClassifierRecipe
from training.data.manifest import read_manifest
from training.manifests import load_manifests, ratios_left
from training.recipe import DataOptions, load
from zoo.errors import DataError


@pytest.fixture
def named(tmp_path):
    """A function that writes a manifest of silent clips, a line for each corpus (or each of several that were joined)."""
    write_wav(tmp_path / "sounds" / "a.wav", np.zeros(1600))

    def write(name: str, *corpora) -> str:
        lines = []
        for k, corpus in enumerate(corpora):
            key = "corpora" if isinstance(corpus, list) else "corpus"
            given = {} if corpus is None else {key: corpus}
            lines.append({"id": f"{name}-{k}", "path": "sounds/a.wav", "text": "a", "lang": "hi", **given})
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


def test_corpora_are_left_out_also_of_clips_that_were_joined(named):
    paths = [named("one", "read", "prompts", None), named("two", ["read", "digits"], ["digits", "prompts"], "digits")]
    options = DataOptions(train=paths, without_corpora=["read"])
    records, sources = load_manifests(paths, options)
    assert [record.id for record in records] == ["one-1", "one-2", "two-1", "two-2"]
    assert [record.corpora for record in records] == [{"prompts"}, {"sounds"}, {"digits", "prompts"}, {"digits"}]
    assert sources == ["one", "one", "two", "two"]
    assert len(load_manifests(paths, DataOptions())[0]) == 6
    with pytest.raises(
        DataError, match=r"left out: digits, prompts, read, sounds\. Valid: some of digits, prompts, read"
    ):
        load_manifests(paths, DataOptions(without_corpora=["read", "prompts", "digits", "sounds"]))


def test_ratios_of_manifests_that_are_emptied_are_dropped(named):
    paths = [named("one", "read"), named("two", "digits")]
    options = DataOptions(train=paths, without_corpora=["read"])
    assert ratios_left({"one": 0.3, "two": 0.7}, options, {"two"}) == {"two": 0.7}
    assert ratios_left({"oen": 0.3, "two": 0.7}, options, {"two"}) == {"oen": 0.3, "two": 0.7}, "said by the sampler"
    assert ratios_left({"one": 0.3}, DataOptions(train=paths), {"two"}) == {"one": 0.3}


def test_every_job_learns_without_them_and_is_tested_with_them(manifests, toy_folder, tmp_path):
    """A base, an adapter and a classifier: `read` is in training, validation and test; only the test keeps it."""
    rows = [json.loads(line) for line in manifests["mixed_train"].read_text(encoding="utf-8").splitlines()]
    for name, own in (("read", rows[:40]), ("told", rows[40:])):
        lines = [{**row, "corpus": name} for row in own]
        path = manifests["mixed_train"].parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    read, told = (str(manifests["mixed_train"].parent / f"{name}.jsonl") for name in ("read", "told"))
    data = [f"data.train=[{read},{told}]", "data.without_corpora=[read]", "plan.ratios={read: 0.5, told: 0.5}"]

    given = [*data, f"data.valid=[{told}]", f"run.root={tmp_path / 'base'}", "learn.steps=2", "data.max_valid_clips=2"]
    folder = train_base(load(BaseRecipe, "training/recipes/debug/base.yaml", given))
    assert f"{len(rows) - 40} clips" in (folder / "train.log").read_text()

    given = [*data, f"data.valid=[{told}]", f"data.test=[{read}]", f"run.root={tmp_path / 'adapter'}", "fit.steps=2"]
    given += ["adapter.language=hi", "data.languages=[hi]", f"base.name={toy_folder}", "fit.evaluate_every=2"]
    folder = train_adapter(load(AdapterRecipe, "training/recipes/debug/adapter.yaml", given))
    hindi = [row["lang"] == "hi" for row in rows]
    assert f"{sum(hindi[40:])} clips" in (folder / "train.log").read_text()
    assert json.loads((folder / "metrics.json").read_text())["final"]["test_read_wer"] >= 0

    given = [*data[:2], f"data.valid=[{read},{told}]", f"data.test=[{read}]", f"run.root={tmp_path / 'classifier'}"]
    given += [f"base.name={toy_folder}", "head.heads=[linear]", "head.epochs=1", "head.own_detection=false"]
    folder = train_classifier(load(ClassifierRecipe, "training/recipes/debug/classifier.yaml", given))
    log = (folder / "train.log").read_text()
    assert f"{len(rows) - 40} training clips" in log
    assert f"{len(rows) - 40} for validation" in log
    results = (folder / "results.csv").read_text().splitlines()
    assert any(",across corpora,40," in line for line in results)
    assert len(read_manifest(read)) == 40
