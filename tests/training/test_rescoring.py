"""`boli train rescoring`: on hand-made sets, and as a command on the trained debug model."""

import json
import shutil

import numpy as np
import pytest
import soundfile

import boli
from router.classifier import TapClassifier
from router.rescoring import Rescoring, rescored
from tests import toy
from tests.toy_router import name_toy
from training.rescoring import Heard, _logits, fit
from zoo.errors import DataError

CLASSES = ("hi", "pa", "unknown")


def heard(informative: bool, n: int = 240, seed: int = 0) -> Heard:
    """A classifier that is sure of half of the clips, and right in them, and more often right than wrong in the others."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    probabilities = np.full((n, 3), 0.005)
    probabilities[np.arange(n), truth] = 0.99
    doubted = np.arange(n) % 2 == 1
    for i in np.flatnonzero(doubted):
        probabilities[i] = rng.dirichlet(3.0 + 2.0 * np.eye(3)[truth[i]])
    written = rng.normal(-0.8, 0.1, (n, 3))
    if informative:
        written[np.arange(n), truth] += 0.5
    written[:, 2] = np.nan
    return Heard(CLASSES, probabilities, written, truth)


def test_surety_that_tells_languages_apart_gets_weight():
    options, measured = fit(heard(True), 0.6)
    assert options.weight >= 5
    assert options.sure == 0.98, "above it half of the clips, below it the other half: 0.6 would allow no more"
    assert measured["heard_twice"] == 120
    assert measured["doubted_right_after"] > measured["doubted_right_before"] + 0.2
    assert measured["balanced_after"] > measured["balanced_before"]
    assert -0.8 < options.unknown < -0.3, "between how surely a wrong language writes and how surely the right one"


def test_surety_that_says_nothing_gets_little():
    assert fit(heard(False), 0.6)[0].weight <= 4.0, "by what a language writes it moves 0.4 nats, by the classifier 5"


@pytest.mark.parametrize("seed", range(8))
def test_fewer_are_never_right_than_without(seed):
    """On few clips a large weight is within a standard error of the best and may still harm the set; then it is not taken."""
    for n in (40, 80):
        for informative in (False, True):
            _, measured = fit(heard(informative, n, seed), 0.6)
            assert measured["balanced_after"] >= measured["balanced_before"]


def test_few_are_heard_twice_where_few_may():
    options, measured = fit(heard(True), 0.3)
    assert 0 < measured["heard_twice"] <= 0.3 * 240
    assert options.sure < 0.9


def test_what_is_fitted_is_what_the_router_adds_up():
    said = heard(True)
    options = Rescoring(4.0, -0.6, 1.0, 3, 1.3)
    ours = (_logits(said, options) / options.temperature).softmax(dim=1).numpy()
    for row, probabilities, written in zip(ours[:20], said.probabilities, said.written, strict=False):
        theirs = rescored(
            dict(zip(CLASSES, probabilities, strict=True)), dict(zip(CLASSES[:2], written, strict=False)), options
        )
        assert [theirs[tag] for tag in CLASSES] == pytest.approx(row.tolist(), abs=1e-5)


def test_a_classifier_that_doubts_nothing_says_so():
    sure = Heard(CLASSES, np.eye(3), np.zeros((3, 3)), np.arange(3))
    with pytest.raises(DataError, match="sure of every clip"):
        fit(sure, 0.2)


def write_manifest(folder, name: str, subset: str) -> str:
    lines = []
    for n, (utterance, text, language) in enumerate(toy.clips(30, ("en", "hi", "te"), seed=23)):
        path = folder / f"{name}_{n}.wav"
        soundfile.write(path, utterance.audio, 16_000, subtype="PCM_16")
        row = {"id": f"{name}/{n}", "path": path.name, "text": text, "lang": language, "subset": subset}
        lines.append({**row, "duration": len(utterance.audio) / 16_000})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines), encoding="utf-8")
    return str(path)


def test_the_command_keeps_its_choice_with_the_classifier(toy_folder, toy_store, tmp_path, monkeypatch, capsys):
    import router

    name_toy(toy_folder, monkeypatch)
    folder = tmp_path / "classifier"
    shutil.copytree(toy_store / "classifier", folder)
    before = TapClassifier.load(folder)
    command = f"train rescoring --model toy --store {toy_store} --classifier {folder} --twice 0.9 --limit 0".split()
    assert boli.main([*command, "-m", write_manifest(tmp_path, "lid_dev", "dev")]) == 0
    after = TapClassifier.load(folder)
    assert after.config.weights_sha256 == before.config.weights_sha256
    assert after.config.switching == before.config.switching
    chosen = after.config.rescoring
    assert list(chosen["chosen_on"]["manifests"]) == ["lid_dev.jsonl"]
    assert chosen["chosen_on"]["measured"]["clips"] == 30
    assert len(chosen["chosen_on"]["adapters"]) == 2
    assert str(tmp_path) not in json.dumps(chosen)
    assert router.load("toy", toy_store, folder).rescoring == Rescoring(**chosen["options"])
    assert "30 clips heard and written by 5 languages" in capsys.readouterr().err

    dev = write_manifest(tmp_path, "lid_dev", "dev")
    assert boli.main([*command, "-m", dev, "--without-corpora", tmp_path.name]) == 1
    assert "are of corpora that are left out" in capsys.readouterr().err

    assert boli.main([*command, "-m", write_manifest(tmp_path, "lid_test", "test")]) == 1
    assert "belong to a test set" in capsys.readouterr().err
    assert TapClassifier.load(folder).config == after.config
