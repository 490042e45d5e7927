"""Layer importance: parts of adapters through the bank, an adapter of one layer, intervals, what is refused."""

import json
import re

import numpy as np
import pytest

import boli
from adapters.bank import Bank
from adapters.key import AdapterKey
from adapters.mixture import Mixture
from adapters.peft_files import LoraWeights, read_weights
from adapters.record import Record
from adapters.store import Store
from analysis.ablation import conditions, groups, transcripts
from analysis.cache import Cache
from analysis.deltas import place
from analysis.inputs import read_clips
from analysis.layers import _Scored, compare_depths, layer_importance
from analysis.layers_figures import draw
from analysis.result import read
from tests import toy
from tests.toy_router import ALL, name_toy
from tests.training.conftest import write_manifest
from training.validation import transcribe
from zoo.errors import AdapterError, DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips") / "clips.jsonl", ("hi", "te"), 16, seed=77)


@pytest.fixture(scope="module")
def clips(manifest):
    return read_clips([manifest])


def one_layer(store: Store, base, layer: str):
    """An adapter for Hindi that was trained on one layer alone."""
    made = toy.trained_adapter("hi", 8, rf".*{re.escape(layer)}.*({'|'.join(ALL)})")
    about = Record("toy", "hi", 8, "one", context="dynamic", base_sha256=base.weights_sha256)
    return store.publish(AdapterKey("toy", "hi", 8, "one"), made, about)


def test_only_the_adapted_layer_matters(toy_base, clips, tmp_path):
    stored = one_layer(Store(tmp_path / "store", create=True), toy_base, ".encoder.layers.1.")
    found = layer_importance(toy_base, [stored], clips, bootstrap=200)
    assert found.layers == ("encoder 1",)
    full, none = found.of("hi", "all", "full")[""], found.of("hi", "all", "base")[""]
    assert full["cer"] < none["cer"], "the one layer does something"
    off, only = found.of("hi", "layer", "off")["encoder 1"], found.of("hi", "layer", "only")["encoder 1"]
    assert (off["cer"], only["cer"]) == (none["cer"], full["cer"])
    assert off["cer_change"] == pytest.approx(none["cer"] - full["cer"])
    assert (off["cer_share"], only["cer_share"]) == (pytest.approx(1.0), pytest.approx(1.0))
    assert off["cer_low"] <= off["cer"] <= off["cer_high"]
    assert off["cer_change_low"] <= off["cer_change"] <= off["cer_change_high"]
    parts = {row["group"] for row in found.rows if row["scope"] == "part"}
    assert parts == {"encoder"}, "there is no decoder to switch"
    assert {row["depth"] for row in found.tables()["depths"]} == {0.5}, "depth is the base's: three layers"


def test_every_condition_is_what_the_bank_gives(toy_base, toy_store, clips):
    """The walk through the encoder that conditions share changes nothing."""
    stored = Store(toy_store).find(language="hi")[-1]
    weights = read_weights(stored.folder, stored.name)
    wanted = conditions(list(weights.sites))
    positions = [i for i, record in enumerate(clips.records) if record.lang == "hi"]
    bank = Bank(toy_base)
    texts = transcripts(toy_base, bank, stored, clips, positions, wanted, cache=Cache(None))
    assert bank.residents == ()
    assert len({tuple(each) for each in texts.values()}) > len(texts) / 3, "parts differ in what they write"
    for condition in wanted[::3]:
        if not condition.on:
            assert texts[condition.on] == transcribe(toy_base, clips, positions, 64, 400.0)
            continue
        kept = {site: pair for site, pair in weights.sites.items() if site in condition.on}
        bank.load("part", LoraWeights(kept, weights.config, "part"))
        for i, text in zip(positions, texts[condition.on], strict=True):
            with bank.mixing(Mixture.one_hot(["part"])):
                assert transcribe(toy_base, clips, [i], 1, 400.0) == [text], condition.name


def test_groups_cover_every_site_once():
    sites = [
        f"model.{part}.layers.{n}.self_attn.{kind}"
        for part in ("encoder", "decoder")
        for n in (0, 1, 10)
        for kind in ("q_proj", "v_proj")
    ]
    for scope in ("part", "layer", "module"):
        found = groups(sites, [scope])
        assert sorted(site for members in found.values() for site in members) == sorted(sites)
    assert [name for _, name in groups(sites, ["layer"])] == [
        "encoder 0", "encoder 1", "encoder 10", "decoder 0", "decoder 1", "decoder 10",
    ]  # fmt: skip
    made = conditions(sites, ["part"])
    assert [c.name for c in made] == ["base", "full", "off encoder", "only encoder", "off decoder", "only decoder"]
    assert made[2].on == made[5].on == {site for site in sites if place(site).part == "decoder"}


def test_an_interrupted_analysis_goes_on(toy_base, toy_store, clips, tmp_path, monkeypatch):
    stored = Store(toy_store).find(language="te")[-1]
    bank, calls = Bank(toy_base), []
    positions = [i for i, record in enumerate(clips.records) if record.lang == "te"]
    wanted = conditions(stored.record.update_norms, ["part"])
    decode = type(toy_base).decode

    def counted(self, hidden, languages, options):
        calls.append(len(languages))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return decode(self, hidden, languages, options)

    monkeypatch.setattr(type(toy_base), "decode", counted)

    def run():
        cache = Cache(tmp_path)
        return transcripts(toy_base, bank, stored, clips, positions, wanted, cache=cache, batch_clips=2), cache

    with pytest.raises(KeyboardInterrupt):
        run()
    assert bank.residents == (), "nothing of an adapter stays behind"
    done = len(list(tmp_path.rglob("*.npz")))
    found, cache = run()
    assert (cache.found, cache.found + cache.made) == (done, -(-len(positions) // 2))
    before = len(calls)
    assert run()[0] == found
    assert len(calls) == before, "nothing is decoded twice"


def test_intervals_are_those_of_a_paired_bootstrap(clips):
    positions = [i for i, record in enumerate(clips.records) if record.lang == "hi"]
    scored = _Scored(clips, positions, "raw", 500, 0)
    right = [clips.records[i].text for i in positions]
    worse = [text[:-1] if n % 2 else text for n, text in enumerate(right)]
    one, other = scored.counts(worse)["cer"], scored.counts(right)["cer"]
    value, low, high = scored.rate(one)
    by_hand = sum(n % 2 for n in range(len(right))) / sum(map(len, right))
    assert value == pytest.approx(by_hand)
    assert low < value < high
    assert scored.difference(one, one) == (0.0, 0.0, 0.0)
    assert scored.difference(one, other) == (value, low, high), "the other makes no error"
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, len(right), len(right))
        drawn.append(one[rows, 0].sum() / one[rows, 1].sum())
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5]), rtol=0.15)


def test_bases_compare_by_relative_depth():
    def curve(values, base):
        last = len(values) - 1
        return [
            {"base": base, "part": "encoder", "how": "off", "depth": i / last, "cer_share": value}
            for i, value in enumerate(values)
        ]

    found = {(r["part"], r["how"]): r["correlation"] for r in compare_depths(curve([0, 1, 4], "a"), curve([0, 0.5, 1, 2.5, 4], "b"))}  # fmt: skip
    assert found["encoder", "off"] == pytest.approx(1.0, abs=1e-9)
    assert found["decoder", "off"] is None
    against = compare_depths(curve([0, 1, 4], "a"), curve([4, 1, 0], "b"))[0]["correlation"]
    assert against < 0


def test_the_command(toy_folder, toy_store, manifest, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    out = tmp_path / "out"
    command = f"analyze layers -m {manifest} --store {toy_store} --limit 4 --bootstrap 50 --scopes layer,part"
    command += f" --out {out} --cache {tmp_path / 'cache'}"
    assert boli.main(command.split()) == 0
    printed = capsys.readouterr().out
    assert "hi: CER" in printed
    assert "without" in printed
    about, tables = read(out / "layers.json")
    assert about.counts["adapters"] == 2
    assert about.manifests == {"clips.jsonl": about.manifests["clips.jsonl"]}
    assert {row["adapter"] for row in tables["conditions"]} == {"hi", "te"}
    assert {row["scope"] for row in tables["conditions"]} == {"all", "layer", "part"}
    for name in ("layer_bars", "layer_heat", "part_bars", "depth"):
        assert (out / f"layers_{name}.svg").is_file()
    other = json.loads((out / "layers.json").read_text())
    for row in other["tables"]["depths"]:
        row["base"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert boli.main([*command.split(), "--beside", str(tmp_path / "other.json")]) == 0
    assert "toy and another, encoder off:" in capsys.readouterr().out
    assert boli.main([*command.split(), "--measure", "bleu"]) == 1
    assert "Valid: wer, cer" in capsys.readouterr().err


def test_bad_input_says_what_to_do(toy_base, toy_store, clips, tmp_path, capsys):
    stored = Store(toy_store).find(language="hi")
    with pytest.raises(DataError, match="no adapter that is meant serves any of these"):
        layer_importance(toy_base, stored, read_clips([write_manifest(tmp_path / "it.jsonl", ("it",), 2, 1)]))
    with pytest.raises(DataError, match="no scope 'sites'"):
        layer_importance(toy_base, stored, clips, scopes=["sites"])
    made = toy.trained_adapter("hi", 8, ALL)
    other = Store(tmp_path / "other", create=True).publish(
        AdapterKey("toy", "hi", 8), made, Record("toy", "hi", 8, base_sha256="cd" * 32, context="dynamic")
    )
    with pytest.raises(AdapterError, match="was trained on other weights"):
        layer_importance(toy_base, [other], clips)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert boli.main(["analyze", "layers", "-m", str(empty), "--out", str(tmp_path / "out")]) == 1
    assert "has no clips" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_figures_of_one_adapter_on_one_layer(toy_base, clips, tmp_path):
    stored = one_layer(Store(tmp_path / "store", create=True), toy_base, ".decoder.layers.0.")
    found = layer_importance(toy_base, [stored], clips, scopes=["layer"], bootstrap=0)
    assert all(path.is_file() for path in draw(found, tmp_path / "figures"))
