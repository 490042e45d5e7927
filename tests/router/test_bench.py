"""`boli bench router` on the smallest shape: every system runs, writes what it was told to, and lands in the tables."""

import json
import math

import pytest
from typer.testing import CliRunner

from router import bench_owsm
from router.bench import app
from router.bench_clips import LANGUAGES, mixed_batch, single_clips
from router.bench_ours import KINDS
from router.bench_owsm import PEER
from router.bench_tables import as_text
from zoo.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the peers' libraries


def test_every_system_is_measured_and_written(toy_folder, tmp_path):
    written = tmp_path / "router.json"
    options = (
        f"--models {toy_folder} --durations 1,6 --each 1 --batch 3 --tokens 5 --rank 4 --runs 1 --threads 1 --no-memory"
    )
    result = CliRunner().invoke(app, [*options.split(), "--json", str(written)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads(written.read_text())
    rows = content["results"]
    assert len({row["scenario"] for row in rows}) == 3
    mixed = {row["system"] for row in rows if "mixed" in row["scenario"]}
    assert mixed >= {*KINDS, "PEFT adapter_names, 30 s", "PEFT adapter_names, our context"}
    assert {f"faster-whisper {p}, 30 s" for p in ("fp32", "int8")} <= mixed
    assert {f"CTranslate2 {p}, our context" for p in ("fp32", "int8")} <= mixed
    assert all(row["routed_right"] == 1 for row in rows if row["system"] == "boli fp32")
    assert all(math.isfinite(row["seconds"]) and row["seconds"] > 0 for row in rows)
    assert all(f"| {row['system']} |" in result.output for row in rows)
    text = as_text(content)
    assert text in result.output
    assert "| both padded to 30 s, int8 |" in text
    assert text.count("| boli fp32, adapters above the tap | one by one") == 2  # of what routing costs


def test_clips_are_the_repositorys_speech_of_the_length_asked_for():
    clips = single_clips([1.0, 2.5], 3)
    assert [clip.duration_s for clip in clips] == [1.0] * 3 + [2.5] * 3
    assert [clip.language for clip in clips] == [*LANGUAGES, *LANGUAGES]
    assert all(clip.utterance.audio.std() > 0.01 for clip in clips)
    batch = mixed_batch(8, 16)
    assert all(1.5 <= clip.duration_s <= 5.0 and clip.tokens == 16 for clip in batch)
    assert len({clip.duration_s for clip in batch}) > 4


def test_peak_memory_is_that_of_the_process_alone():
    """A child of a large process starts small; `ru_maxrss` would start at its parent's peak."""
    import multiprocessing

    import numpy as np

    from router.bench_memory import _peak_mib

    held = np.ones(400 * 2**20, np.uint8)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        child = pool.apply(_peak_mib)
    assert 1 < child < _peak_mib() - 300
    assert held.sum() == held.size


@pytest.mark.parametrize("searches", ["greedy,joint"])
def test_owsm_stands_beside_espnet(searches, tmp_path):
    """On the debug shape: the same tokens as ESPnet, clip for clip, in every search; a row a system."""
    written = tmp_path / "owsm.json"
    options = f"--models owsm-debug --searches {searches} --batch 3 --runs 1"
    result = CliRunner().invoke(app, [*options.split(), "--json", str(written)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads(written.read_text())
    assert content["results"] == []
    rows = {(row["search"], row["system"]): row for row in content["owsm"]}
    assert rows.keys() == {(search, system) for search in searches.split(",") for system in (*bench_owsm.OURS, PEER)}
    for (_, system), row in rows.items():
        assert row["seconds"] > 0
        assert row["same_tokens"] == 3 or system not in (PEER, "boli fp32, padded")
        assert f"| {row['search']} | {system} |" in result.output
    assert rows["greedy", PEER]["speedup"] == 1


@pytest.mark.parametrize("given", ["--models owsm-v9", "--models owsm-debug --searches best"])
def test_unknown_owsm_shapes_and_searches_are_refused(given):
    with pytest.raises(ModelError, match=r"is not measured\. Valid: "):
        CliRunner().invoke(app, given.split(), catch_exceptions=False)
