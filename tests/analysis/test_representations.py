"""CKA by hand and against the published formula; hidden states of adapters on the same audio."""

import itertools

import numpy as np
import pytest
import torch

import boli
from adapters.bank import Bank
from adapters.mixture import Mixture
from adapters.peft_files import read_weights
from adapters.store import Store
from analysis.cache import Cache
from analysis.cka import all_cka, cka, u_centred
from analysis.inputs import read_clips
from analysis.representations import representations
from analysis.result import read
from analysis.states import hidden_states, layers_of
from tests.toy_router import name_toy
from tests.training.conftest import write_manifest
from zoo.errors import DataError
from zoo.speech import Utterance


def song(X: np.ndarray, Y: np.ndarray) -> float:
    """HSIC_1 of linear kernels as Song et al. 2012 write it (equation 5), by its sums."""
    n = len(X)
    K, L = X @ X.T, Y @ Y.T
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    first = np.trace(K @ L)
    second = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    third = 2 / (n - 2) * (one @ K @ L @ one)
    return (first + second - third) / (n * (n - 3))


def in_feature_space(X: np.ndarray, Y: np.ndarray) -> float:
    """Debiased linear CKA by Kornblith et al.'s formula in feature space."""
    X, Y = X - X.mean(0), Y - Y.mean(0)
    n = len(X)

    def dot(P, Q):
        p, q = (P**2).sum(1), (Q**2).sum(1)
        return ((P.T @ Q) ** 2).sum() - n / (n - 2) * p @ q + p.sum() * q.sum() / ((n - 1) * (n - 2))

    return dot(X, Y) / np.sqrt(dot(X, X) * dot(Y, Y))


def test_cka_by_hand():
    """Four examples on a line, 0 1 2 3: K_ij = x_i x_j without the diagonal; HSIC_1 of it with itself by 24 sums."""
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    Y = np.array([[1.0], [0.0], [0.0], [1.0]])
    n = 4
    unbiased = {}
    for name, (P, Q) in {"xy": (X, Y), "xx": (X, X), "yy": (Y, Y)}.items():
        K, L = (P @ P.T), (Q @ Q.T)
        total = 0.0  # the U-statistic itself: over all ordered quadruples of different examples
        for i, j, q, r in itertools.permutations(range(n)):
            total += K[i, j] * (L[i, j] + L[q, r] - 2 * L[i, q])
        unbiased[name] = total / 24
        assert (u_centred(P) * u_centred(Q)).sum() / (n * (n - 3)) == pytest.approx(unbiased[name], abs=1e-9)
    expected = unbiased["xy"] / np.sqrt(unbiased["xx"] * unbiased["yy"])
    assert cka(X, Y) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "e"), [(40, 5, 9), (12, 30, 30), (100, 64, 3)])
def test_cka_is_the_published_formula(n, d, e):
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, d)) + 3
    Y = X[:, : min(d, e)] @ rng.standard_normal((min(d, e), e)) + rng.standard_normal((n, e))
    expected = song(X, Y) / np.sqrt(song(X, X) * song(Y, Y))
    assert cka(X, Y) == pytest.approx(expected, abs=1e-9)
    assert cka(X, Y) == pytest.approx(in_feature_space(X, Y), abs=1e-9)


def test_cka_knows_rotation_and_scale_and_chance():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 20))
    turn, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    assert cka(X, 3 * X @ turn + 5) == pytest.approx(1.0, abs=1e-9)
    chance = [cka(rng.standard_normal((30, 200)), rng.standard_normal((30, 200))) for _ in range(100)]
    assert abs(np.mean(chance)) < 0.02, "debiased: no rise with more dimensions than examples"
    assert np.isnan(cka(X, np.ones((60, 3))))
    matrix = all_cka([X, X @ turn, rng.standard_normal((60, 4))])
    np.testing.assert_allclose(matrix, matrix.T)
    with pytest.raises(DataError, match="CKA of 3 vectors"):
        cka(X[:3], X[:3])


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips") / "clips.jsonl", ("hi", "te", "en"), 14, seed=78)


def test_states_are_those_of_the_base_under_the_bank(toy_base, toy_store, manifest):
    clips = read_clips([manifest])
    stored = Store(toy_store).find(language="hi")[-1]
    bank = Bank(toy_base)
    found = hidden_states(toy_base, bank, stored, clips, 4, cache=Cache(None), batch_clips=5)
    alone = hidden_states(toy_base, bank, None, clips, 4, cache=Cache(None), batch_clips=5)
    assert bank.residents == ()
    assert layers_of(found) == ["encoder 0", "encoder 1", "encoder 2", "decoder 0", "decoder 1"]
    bank.load("a", read_weights(stored.folder))
    for i in (0, 7):
        record = clips.records[i]
        features = toy_base.features([Utterance(clips.audio(i))])
        length = int(features.lengths[0])
        steps = np.unique(np.linspace(0, length - 1, 4).round().astype(int))
        labels = toy_base.labels([record.text], [record.lang])
        for states, mixture in ((alone, None), (found, Mixture.one_hot(["a"]))):
            with torch.inference_mode(), bank.mixing(mixture) if mixture else bank.off():
                expected = toy_base.encode(features, until=2).values[0, steps]
                tapped = toy_base.encode(features, until=toy_base.tap).values[0, :length].mean(0)
                inputs = labels.new_full(labels.shape, toy_base.module.config.decoder_start_token_id)
                inputs[:, 1:] = labels[:, :-1]
                output = toy_base.module.model.decoder(
                    input_ids=inputs, encoder_hidden_states=toy_base.encode(features).values, use_cache=False
                ).last_hidden_state[0]
            np.testing.assert_allclose(states["encoder 1"][states["clip"] == i], expected, atol=1e-4)
            np.testing.assert_allclose(states["tap"][i], tapped, atol=1e-4)
            places = np.unique(np.linspace(0, labels.shape[1] - 1, 4).round().astype(int))
            last = states["decoder 1"][states["token_clip"] == i]
            normed = toy_base.module.model.decoder.layer_norm(torch.tensor(last)).detach()
            np.testing.assert_allclose(normed, output[places], atol=1e-3)
    assert not np.allclose(found["encoder 2"], alone["encoder 2"], atol=1e-2)


def test_representations_of_a_store(toy_base, toy_store, manifest, tmp_path):
    adapters = Store(toy_store).find()
    clips = read_clips([manifest])
    cache = Cache(tmp_path)
    found = representations(toy_base, adapters, clips, vectors=200, cache=cache)
    assert found.labels == ("base", "hi", "te")
    assert set(found.cka) == {"all", "en", "hi", "te"}
    for values in found.cka.values():
        np.testing.assert_allclose(np.diagonal(values, axis1=1, axis2=2), 1.0)
        assert (values < 1 + 1e-9).all()
    rows = found.tables()["with_base"]
    assert {row["own_language"] for row in rows} == {True, False}
    first = next(row for row in rows if (row["adapter"], row["speech"], row["layer"]) == ("te", "hi", "encoder 1"))
    assert first["cka"] == found.cka["hi"][1, 0, 2]
    assert first["depth"] == 0.5
    assert len(found.tables()["tap"]) == 14
    again = representations(toy_base_again(toy_base), adapters, clips, vectors=200, cache=(kept := Cache(tmp_path)))
    assert (kept.found, kept.made) == (3, 0)
    np.testing.assert_array_equal(again.cka["all"], found.cka["all"])


def toy_base_again(base):
    """The same model loaded once more: a base carries one bank."""
    from zoo.whisper_family import family

    return family.load(base.folder, base.card, context="dynamic")


def test_an_adapter_that_does_little_moves_little(toy_base, toy_store, manifest, tmp_path):
    """CKA with the base falls as the adapter's scale grows: the same update at a thousandth of its size."""
    import json
    import shutil

    from adapters.key import AdapterKey
    from adapters.peft_files import CONFIG
    from adapters.record import Record

    whole = Store(toy_store).find(language="hi")[-1]
    folder = tmp_path / "weak"
    shutil.copytree(whole.folder, folder)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] / 1000}))
    about = Record("toy", "hi", 8, "weak", base_sha256=toy_base.weights_sha256, context="dynamic")
    weak = Store(tmp_path / "store", create=True).publish(AdapterKey("toy", "hi", 8, "weak"), folder, about)
    clips = read_clips([manifest], languages=["hi"])
    found = representations(toy_base, [whole, weak], clips, vectors=100)
    strong_row, weak_row = found.cka["all"][:, 0, 1], found.cka["all"][:, 0, 2]
    assert (weak_row > 0.9999).all()
    assert strong_row.min() < 0.99


def test_the_command_and_what_it_refuses(toy_folder, toy_store, manifest, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    out = tmp_path / "out"
    command = ["analyze", "representations", "-m", str(manifest), "--store", str(toy_store), "--no-cache"]
    command += ["--limit", "4", "--vectors", "100", "--out", str(out)]
    assert boli.main(command) == 0
    printed = capsys.readouterr().out
    assert "hi: CKA with the base" in printed
    assert "12 points are too few for UMAP" in printed
    about, tables = read(out / "representations.json")
    assert about.counts["clips"] == 12
    assert {"with_base", "pairs", "tap"} == set(tables)
    for name in ("with_base", "pairs", "tap"):
        assert (out / f"representations_{name}.svg").is_file()
    alone = write_manifest(tmp_path / "one.jsonl", ("hi",), 1, 3)
    assert boli.main([*command[:2], "-m", str(alone), *command[4:]]) == 1
    assert "1 of 1 clips speak a language that toy can write. Valid: 2 clips or more" in capsys.readouterr().err
