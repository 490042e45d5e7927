"""Little data: shares from records, pairs on equal data, the share that training from scratch would need."""

import shutil

import pytest

from adapters.store import Store
from analysis.cache import Cache
from analysis.few_shot import Trained, _pairs, efficiencies, plan, score_few_shot, share_needed
from analysis.hearing import listen
from analysis.inputs import Choice, read_clips
from tests.toy_router import name_toy
from tests.training.conftest import write_manifest
from zoo.errors import AdapterError, DataError


@pytest.mark.parametrize(
    ("curve", "value", "expected"),
    [
        ([(0.1, 0.8), (0.4, 0.4)], 0.6, (0.2, "=")),  # half the way down is half the way in log share
        ([(0.1, 0.8), (0.4, 0.4)], 0.9, (0.1, "<")),
        ([(0.1, 0.8), (0.4, 0.4)], 0.3, (0.4, ">")),
        ([(0.1, 0.8), (0.2, 0.9), (0.4, 0.4)], 0.4, (0.4, "=")),
        ([(0.1, 0.8)], 0.5, (None, "")),
    ],
)
def test_share_needed_by_hand(curve, value, expected):
    share, bound = share_needed(curve, value)
    assert bound == expected[1]
    assert share == (None if expected[0] is None else pytest.approx(expected[0]))


def trained(share, start, value, progressive=0, clips=None, seed=0):
    return Trained(
        "te", share, clips or int(100 * share), start, progressive, seed, f"{start or 'scratch'}-{share}", "cer", "indic",
        value, None, None, 100, "key",
    )  # fmt: skip


def test_only_equal_data_is_paired():
    rows = [trained(0.1, "", 0.9), trained(0.1, "hi", 0.7), trained(0.25, "hi", 0.6), trained(0.1, "hi", 0.6, seed=1)]
    assert [(a.start, b.start, a.share) for a, b in _pairs(rows)] == [("hi", "", 0.1)]


def test_efficiency_is_the_share_from_scratch_over_the_share_given():
    rows = [trained(0.1, "", 0.8), trained(0.4, "", 0.4), trained(0.1, "hi", 0.6)]
    (row,) = efficiencies(rows)
    assert row["share_from_scratch"] == pytest.approx(0.2)
    assert row["efficiency"] == pytest.approx(2.0)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    return {
        "train": write_manifest(folder / "train.jsonl", ("te",), 20, 11),
        "test": write_manifest(folder / "test.jsonl", ("te",), 6, 12),
    }


def test_planned_trained_and_scored(toy_folder, toy_store, monkeypatch, tmp_path, speech):
    """Two trainings of two steps through the real job, from scratch and from the Hindi adapter."""
    from training.adapter import train_adapter
    from training.adapter_recipe import AdapterRecipe
    from training.recipe import load

    name_toy(toy_folder, monkeypatch)
    store = tmp_path / "store"
    shutil.copytree(toy_store, store)
    source = Store(store).select("hi")
    jobs = plan(
        source, "te", train=[speech["train"]], valid=[speech["test"]], store=store, shares=[0.5], progressive=0,
        recipe="training/recipes/debug/adapter.yaml",
        overrides=["adapter.targets=[all]", f"run.root={tmp_path / 'runs'}", "fit.steps=2", "fit.evaluate_every=2"],
    )  # fmt: skip
    assert [job.variant for job in jobs] == ["few-50-scratch", "few-50-from-hi"]
    assert all("data.max_train_clips=10" in job.overrides for job in jobs)
    assert "adapter.start_from=" in jobs[1].command
    assert jobs[0].command.startswith("boli train adapter training/recipes/debug/adapter.yaml ")
    for job in jobs:
        train_adapter(load(AdapterRecipe, job.recipe, job.overrides))
    listener = listen(Choice(store), Cache(None))
    assert [s.key.variant for s in listener.few] == ["few-50-scratch", "few-50-from-hi"]
    assert [s.key.variant for s in listener.adapters] == ["default", "default"]
    found = score_few_shot(listener, read_clips([speech["test"]]), bootstrap=50)
    by_start = {(t.start, t.adapter.split(":")[2].split("@")[0]): t for t in found.trained if t.metric == "cer"}
    assert by_start["hi", "few-50-from-hi"].train_clips == 10
    assert by_start["", "few-50-scratch"].progressive == 0
    gain = next(row for row in found.gains if (row["metric"], row["normaliser"]) == ("cer", "indic"))
    assert gain["source"] == "hi"
    assert gain["gain"] == pytest.approx((gain["from_scratch"] - gain["from_adapter"]) / gain["from_scratch"])
    measured = found.measurements()
    assert {m.system for m in measured} == {"few-shot", "scratch"}
    from training.evaluation.criteria import few_shot as criterion

    assert criterion([m for m in measured if m.normaliser == "indic"])[0] in ("pass", "fail", "not measured")


def test_what_cannot_be_planned_is_refused(toy_store, speech):
    source = Store(toy_store).select("hi")
    given = {"train": [speech["train"]], "valid": [speech["test"]], "store": toy_store}
    with pytest.raises(AdapterError, match="an adapter of hi itself"):
        plan(source, "hi", **given)
    with pytest.raises(DataError, match=r"Share 1\.5 is no part"):
        plan(source, "te", shares=[1.5], **given)
    with pytest.raises(DataError, match="1% of 20 clips is none"):
        plan(source, "te", shares=[0.01], **given)
