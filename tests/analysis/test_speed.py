"""`boli bench analysis`, small."""

import json

import pytest

import boli
from analysis.speed import generate, measure, shape_of_sites


def test_shapes_are_those_of_whisper(toy_base):
    """The debug model is a Whisper with half the feed-forward width."""
    found, own = shape_of_sites("debug", "all"), {site.name: site for site in toy_base.sites}
    assert set(found) == set(own)
    for name, shape in found.items():
        if "attn" in name:
            assert shape == (own[name].out_features, own[name].in_features)
    assert len(shape_of_sites("small", "qv")) == 72


def test_the_bench_measures_what_it_made(tmp_path, capsys):
    out, folder = tmp_path / "speed.json", tmp_path / "store"
    command = f"bench analysis --adapters 5 --shape debug --rank 4 --folder {folder} --json {out}"
    assert boli.main(command.split()) == 0
    assert "5 adapters of rank 4 at 14 sites (debug, qv)" in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["total_s"] == pytest.approx(content["read_s"] + content["similarity_s"] + content["spectrum_s"])
    assert content["peak_bytes"] > 0
    assert content["processor_s"] > 0
    assert measure(folder).adapters == 5
    generate(tmp_path / "again", 2, "debug", 4, "qv")
    assert measure(tmp_path / "again").adapters == 2
    assert boli.main(["bench", "analysis", "--shape", "huge"]) == 1
    assert "'huge'" in capsys.readouterr().err
