"""Transfer on the trained toy store: the cells are those of its transcripts, and what cannot be said is said so."""

import jiwer
import numpy as np
import pytest

from analysis.cache import Cache
from analysis.hearing import listen
from analysis.inputs import Choice, read_clips
from analysis.transfer import Cell, Correlation, TransferResult, _correlate, transfer
from tests.toy_router import name_toy
from tests.training.conftest import write_manifest
from training.evaluation.normalisers import indic
from zoo.errors import AdapterError, DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("speech") / "test.jsonl", ("en", "hi", "te"), 24, 7)


@pytest.fixture(scope="module")
def listener(toy_folder, toy_store, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        name_toy(toy_folder, patch)
        return listen(Choice(toy_store), Cache(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def found(listener, manifest):
    return transfer(listener, read_clips([manifest]), manifests=[manifest], bootstrap=100)


def test_every_adapter_meets_every_language(found):
    cells = {(c.source, c.target) for c in found.cells}
    assert cells == {(source, target) for source in ("base", "hi", "te") for target in ("en", "hi", "te")}
    assert all(c.gain is None for c in found.cells if c.source == "base")
    sources, targets, values = found.matrix("gain")
    assert (sources, targets) == (["hi", "te"], ["en", "hi", "te"])
    assert values[0, 1] > 0.2  # a minute's training on toy Hindi helps toy Hindi
    assert values[1, 2] > 0.2


def test_a_cell_is_jiwers_rate_of_its_transcripts(found, listener, manifest):
    clips = read_clips([manifest])
    adapter = next(s for s in listener.adapters if s.key.language == "hi")
    heard = listener.hear(adapter, clips, "te", "hi").heard
    references = [indic(clips.records[i].text) for i in sorted(heard)]
    hypotheses = [indic(heard[i].text) for i in sorted(heard)]
    cell = next(c for c in found.cells if (c.source, c.target, c.metric, c.normaliser) == ("hi", "te", "cer", "indic"))
    assert cell.value == pytest.approx(jiwer.cer(references, hypotheses))
    base = next(
        c for c in found.cells if (c.source, c.target, c.metric, c.normaliser) == ("base", "te", "cer", "indic")
    )
    assert cell.gain == pytest.approx((base.value - cell.value) / base.value)
    assert cell.gain_low <= cell.gain <= cell.gain_high


def test_two_languages_are_not_tested(found):
    assert all(c.test is None and "2 languages" in c.reason for c in found.correlations)
    assert any("permutation test needs 3" in note for note in found.provenance.notes)
    assert any("Few-shot" in note for note in found.provenance.notes)


def test_the_second_run_decodes_nothing(toy_folder, toy_store, monkeypatch, manifest, tmp_path):
    name_toy(toy_folder, monkeypatch)
    clips = read_clips([manifest], limit=2)
    first = transfer(listen(Choice(toy_store), Cache(tmp_path)), clips, bootstrap=50)
    again = listen(Choice(toy_store), Cache(tmp_path))
    monkeypatch.setattr(again.router, "sharing", lambda **_: pytest.fail("decoded again"))
    assert transfer(again, clips, bootstrap=50).cells == first.cells
    assert again.cache.made == 0


def test_source_and_target_choose_single_cells(listener, manifest):
    found = transfer(listener, read_clips([manifest], limit=2), sources=["hi"], targets=["te"], bootstrap=20)
    assert {(c.source, c.target) for c in found.cells} == {("base", "te"), ("hi", "te")}


def test_unknown_languages_are_refused(listener, manifest):
    clips = read_clips([manifest], limit=1)
    with pytest.raises(DataError, match=r"--source it: there is none\. Valid: hi, te"):
        transfer(listener, clips, sources=["it"])
    with pytest.raises(DataError, match="--target pa: there is none"):
        transfer(listener, clips, targets=["pa"])


def test_one_adapter_is_scored_and_compared_with_nothing(toy_folder, toy_store, monkeypatch, manifest):
    name_toy(toy_folder, monkeypatch)
    listener = listen(Choice(toy_store, languages=("hi",)), Cache(None))
    found = transfer(listener, read_clips([manifest], limit=2), bootstrap=20)
    assert {c.source for c in found.cells} == {"base", "hi"}
    assert all(c.test is None for c in found.correlations)


def test_a_language_without_adapters_is_refused(toy_folder, toy_store, monkeypatch):
    name_toy(toy_folder, monkeypatch)
    with pytest.raises(AdapterError, match="no adapter that is meant"):
        listen(Choice(toy_store, rank=64), Cache(None))


def test_an_empty_manifest_is_refused(tmp_path):
    path = tmp_path / "empty.jsonl"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="has no clips"):
        read_clips([path])


def planted(distance_of) -> list[Cell]:
    """Cells whose gain between two languages falls with a distance."""
    from analysis.distances import between

    languages = ["hi", "ur", "pa", "mr", "te", "ta"]
    distances = between(languages, "family tree")
    cells = []
    for i, a in enumerate(languages):
        for j, b in enumerate(languages):
            gain = distance_of(distances[i, j], i, j)
            cells.append(
                Cell(a, b, f"{a}:r8", "cer", "indic", 0.5, 0.4, 0.6, 100, 10, gain, gain - 0.1, gain + 0.1, 0.9)
            )
    return cells


def test_a_planted_relation_with_distance_is_found_and_an_absent_one_is_not():
    languages = ["hi", "ur", "pa", "mr", "te", "ta"]
    rng = np.random.default_rng(0)
    found, rows, _ = _correlate(None, planted(lambda d, i, j: 0.5 - d + 0.02 * rng.normal()), languages, False, 0)
    test = next(c.test for c in found if c.against == "family tree")
    assert test.correlation < -0.8
    assert test.p < 0.05
    assert len(rows) == 30
    found, _, _ = _correlate(None, planted(lambda d, i, j: float(rng.normal())), languages, False, 0)
    assert next(c.test for c in found if c.against == "family tree").p > 0.05


def test_a_result_without_a_test_has_the_reason_in_its_row():
    row = Correlation("gain", "phones", "cer indic", None, "too few").row()
    assert row["correlation"] is None
    assert row["reason"] == "too few"
    result = TransferResult(None, (), (Correlation("gain", "phones", "", None, "too few"),), ())
    assert result.tables()["correlations"] == [row | {"metric": ""}]
