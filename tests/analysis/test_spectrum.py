"""Spectra against dense computation, planted intruders, and what is refused."""

import numpy as np
import pytest
import torch

import boli
from adapters.key import AdapterKey
from adapters.peft_files import LoraSite, read_weights
from adapters.record import Record
from adapters.store import Store
from analysis.cache import Cache
from analysis.deltas import of_stored, read_adapters
from analysis.inputs import Choice
from analysis.intruders import base_weight, resemblances
from analysis.result import read
from analysis.spectrum import effective_rank, energy, spectrum, stable_rank
from tests import toy
from tests.toy_deltas import SITES, factors, publish
from tests.toy_router import ALL, name_toy
from zoo.errors import AdapterError


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", create=True)


def test_singular_values_are_those_of_the_dense_update(store):
    made = [
        publish(store, "hi", factors(4, 1), alpha=8.0),
        publish(store, "te", factors(8, 3, SITES[:3]), alpha=3.0, rslora=True),
    ]
    found = spectrum(of_stored(made))
    assert {name: len(sites) for name, sites in found.sites.items()} == {made[0].name: 4, made[1].name: 3}
    for stored in made:
        weights = read_weights(stored.folder)
        for each in found.sites[stored.name]:
            pair = weights.sites[each.site]
            s = torch.linalg.svdvals(pair.scale * pair.B.double() @ pair.A.double())[: pair.rank].numpy()
            np.testing.assert_allclose(each.s, s, rtol=1e-6)
            assert each.norm == pytest.approx(pair.update_norm(), rel=1e-9)
    assert "no base was loaded" in found.provenance.notes[0]
    rows = {row["adapter"]: row for row in found.tables()["adapters"]}
    assert rows["hi"]["norm"] == pytest.approx(np.sqrt(sum(n**2 for n in made[0].record.update_norms.values())))
    assert rows["hi"]["relative_norm"] is None


def test_measures_by_hand():
    s = np.array([3.0, 1.0, 0.0])
    assert effective_rank(s) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert stable_rank(s) == pytest.approx(10 / 9)
    np.testing.assert_allclose(energy(s), [0.9, 1.0, 1.0])
    assert effective_rank(np.ones(5)) == pytest.approx(5)
    assert (effective_rank(np.zeros(3)), stable_rank(np.zeros(3)), energy(np.zeros(3)).tolist()) == (0, 0, [0, 0, 0])


@pytest.mark.parametrize("shape", [(40, 40), (60, 30), (30, 60)])
def test_intruders_are_those_of_the_dense_computation(shape):
    """A planted direction far from all of W's is an intruder; a strengthened one of W's own is none."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal(shape) / 6
    left, _, right = np.linalg.svd(weight, full_matrices=False)
    strange = rng.standard_normal(shape[0])
    strange /= np.linalg.norm(strange)
    inward = rng.standard_normal(shape[1])
    inward /= np.linalg.norm(inward)

    def pair(out, into, size):
        return LoraSite(torch.tensor(into[None]).float(), torch.tensor(out[:, None]).float() * size, 1.0)

    pairs = [pair(strange, inward, 8.0), pair(left[:, 3], right[3], 8.0), None, pair(left[:, 0], right[0], 0.0)]
    found = resemblances(weight, pairs)
    assert np.isnan(found[2]).all()
    for k in (0, 1, 3):
        update = pairs[k].B.double().numpy() @ pairs[k].A.double().numpy()
        dense, _, _ = np.linalg.svd(weight + update, full_matrices=False)
        np.testing.assert_allclose(found[k], np.abs(left.T @ dense[:, :10]).max(0), atol=1e-6)
    assert found[0, 0] < 0.5
    assert (found[0] < 0.5).sum() == 1
    np.testing.assert_allclose(found[1], 1.0, atol=1e-6)
    np.testing.assert_allclose(found[3], 1.0, atol=1e-9)
    assert resemblances(weight[:1], [pair(strange[:1], inward, 1.0)]).shape == (1, 1), "too small to have any"


def test_beside_the_base(toy_base, toy_store, tmp_path):
    adapters = read_adapters(Choice(toy_store))
    cache = Cache(tmp_path / "cache")
    found = spectrum(adapters, toy_base, cache=cache)
    name = adapters.names[0]
    each = found.sites[name][5]
    weight = toy_base.module.get_submodule(each.site).weight.double()
    pair = read_weights(adapters.stored[0].folder).sites[each.site]
    update = pair.scale * pair.B.double() @ pair.A.double()
    assert each.relative_norm == pytest.approx(float(update.norm() / weight.norm()), rel=1e-6)
    left = torch.linalg.svd(weight, full_matrices=False)[0]
    dense = torch.linalg.svd(weight + update, full_matrices=False)[0][:, :10]
    np.testing.assert_allclose(each.resemblance, (left.T @ dense).abs().amax(0), atol=1e-6)
    rows = found.tables()["intruders"]
    assert [row["intruders"] for row in rows] == sorted([row["intruders"] for row in rows[:7]]) + sorted(
        [row["intruders"] for row in rows[7:]]
    ), "a looser threshold finds no fewer"
    again = Cache(tmp_path / "cache")
    assert spectrum(adapters, toy_base, cache=again).tables() == found.tables()
    assert again.made == 0
    assert base_weight(toy_base, each.site).shape == tuple(weight.shape)


def test_high_and_low_resource(store):
    """Five adapters of one rank whose strength falls with their hours; a sixth of another rank is left out."""
    for n, (language, hours) in enumerate((("hi", 8.0), ("te", 1.0), ("pa", 2.0), ("it", 4.0), ("en", 0.5))):
        publish(store, language, factors(4, n), alpha=8 / hours, record={"data": {"hours": hours}})
    publish(store, "ta", factors(8, 9), record={"data": {"hours": 16.0}})
    rows = {row["measure"]: row for row in spectrum(read_adapters(Choice(store.folder))).tables()["resources"]}
    assert rows["norm"]["spearman_with_hours"] == pytest.approx(-1.0)
    assert rows["norm"]["p"] == pytest.approx(2 / 120, abs=1e-3)
    assert (rows["norm"]["adapters"], rows["norm"]["rank"]) == (5, 4)
    assert rows["norm"]["mean_above_median"] < rows["norm"]["mean_up_to_median"]
    assert rows["effective_rank_share"]["p"] > 0.05
    few = spectrum(read_adapters(Choice(store.folder, languages=("hi", "te"))))
    assert "resources" not in few.tables()
    assert any("too few" in note for note in few.provenance.notes)


def test_another_base_is_refused(toy_base, tmp_path):
    stored = Store(tmp_path / "other", create=True).publish(
        AdapterKey("toy", "hi", 8),
        toy.trained_adapter("hi", 8, ALL),
        Record("toy", "hi", 8, base_sha256="cd" * 32, context="dynamic"),
    )
    with pytest.raises(AdapterError, match="was trained on other weights"):
        spectrum(of_stored([stored]), toy_base)


def test_the_command(toy_folder, toy_store, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    out = tmp_path / "out"
    command = ["analyze", "spectrum", "--store", str(toy_store), "--out", str(out), "--cache", str(tmp_path / "c")]
    assert boli.main(command) == 0
    assert "hi: effective rank" in capsys.readouterr().out
    about, tables = read(out / "spectrum.json")
    assert about.base_sha256
    assert {"sites", "layers", "adapters", "energy", "intruders"} == set(tables)
    assert {row["part"] for row in tables["energy"]} == {"all", "encoder", "decoder"}
    for name in ("energy", "layers", "intruders"):
        assert (out / f"spectrum_{name}.png").is_file()
    assert boli.main([*command, "--no-weights"]) == 0
    assert "no base was loaded" in capsys.readouterr().out
