"""Errors and efficiency of the trained toy store."""

import pytest

from analysis.cache import Cache
from analysis.efficiency import efficiency
from analysis.errors import errors
from analysis.hearing import listen
from analysis.inputs import Choice, read_clips
from tests import toy
from tests.toy_router import name_toy
from tests.training.conftest import write_manifest
from training.data.manifest import read_manifest
from zoo.errors import DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("speech") / "test.jsonl", ("hi", "te"), 12, 8)


@pytest.fixture(scope="module")
def listener(toy_folder, toy_store, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        name_toy(toy_folder, patch)
        return listen(Choice(toy_store), Cache(tmp_path_factory.mktemp("cache")))


def test_every_wrong_word_is_in_one_class(listener, manifest):
    from training.evaluation.metrics import align
    from training.evaluation.normalisers import normaliser

    clips = read_clips([manifest])
    found = errors(listener, clips, manifests=[manifest])
    assert {(r["language"], r["system"]) for r in found.classes} == {
        (a, s) for a in ("hi", "te") for s in ("base", "adapter")
    }
    heard = listener.hear(listener.adapters[0], clips, "hi", "adapter").heard
    own = [clips.records[i] for i in sorted(heard)]
    aligned = align(
        [r.text for r in own], [heard[i].text for i in sorted(heard)], ["hi"] * len(own), normaliser("indic")
    )
    counted = sum(r["count"] for r in found.classes if (r["language"], r["system"]) == ("hi", "adapter"))
    assert counted == aligned.words[:, 1:].sum()
    assert any("unknown words were not looked for" in note for note in found.provenance.notes)


def test_words_of_the_training_texts_are_known(listener, manifest):
    clips = read_clips([manifest])
    found = errors(listener, clips, vocabulary=read_manifest(manifest))
    rows = {(r["language"], r["system"], r["known"]): r for r in found.vocabulary}
    assert rows["hi", "adapter", True]["words"] == 12 * len([r for r in clips.records if r.lang == "hi"]) / 12
    assert rows["hi", "adapter", False]["words"] == 0
    assert rows["hi", "adapter", False]["error_rate"] is None


def test_clips_that_no_adapter_serves_are_refused(listener, tmp_path):
    other = write_manifest(tmp_path / "it.jsonl", ("it",), 2, 9)
    with pytest.raises(DataError, match="no adapter serves any of these"):
        errors(listener, read_clips([other]))
    with pytest.raises(DataError, match="no adapter serves any of these"):
        efficiency(listener, read_clips([other]))


def test_costs_are_those_of_the_files(listener, manifest):
    clips = read_clips([manifest])
    found = efficiency(listener, clips, latency_clips=1, bootstrap=20)
    assert [(c.language, c.system) for c in found.costs] == [
        ("hi", "base"), ("hi", "adapter"), ("te", "base"), ("te", "adapter"),
    ]  # fmt: skip
    own = found.costs[1]
    file = (
        toy.trained_adapter("hi", 8, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))
        / "adapter_model.safetensors"
    )
    assert own.adapter_bytes == file.stat().st_size
    assert own.trained_parameters == listener.adapters[0].record.parameters > 0
    assert own.share_of_base == pytest.approx(own.trained_parameters / found.base_parameters)
    assert own.latency_p50_s > 0
    assert own.wer < found.costs[0].wer
    assert efficiency(listener, clips, latency_clips=0, bootstrap=0).costs[1].latency_p50_s is None
