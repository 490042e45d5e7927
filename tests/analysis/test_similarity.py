"""Similarity against dense computation, under a change of gauge, with planted structure, and what is refused."""

import numpy as np
import pytest
import torch

import boli
from adapters.store import Store
from analysis.cache import Cache
from analysis.deltas import compact, of_stored, place, read_adapters, relative_depth, singular_values
from analysis.embedding import classical_scaling, of_distances, of_features
from analysis.inputs import Choice
from analysis.overlap import cosines_of, null_largest_cosine, null_overlap
from analysis.result import read
from analysis.similarity import similarity
from tests.toy_deltas import SITES, factors, publish
from zoo.errors import AdapterError


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store", create=True)


def dense(stored, site) -> torch.Tensor:
    from adapters.peft_files import read_weights

    pair = read_weights(stored.folder).sites[site]
    return pair.scale * pair.B.double() @ pair.A.double()


def test_cosines_overlaps_and_angles_are_those_of_the_dense_updates(store):
    """Mixed ranks, alpha/r and rsLoRA."""
    made = [
        publish(store, "hi", factors(4, 1), alpha=8.0),
        publish(store, "hi", factors(4, 2), variant="seed1", alpha=3.0, rslora=True),
        publish(store, "te", factors(8, 3), alpha=16.0),
        publish(store, "it", factors(6, 4), alpha=-2.0),
    ]
    adapters = of_stored(made)
    found = similarity(adapters)
    whole = [torch.cat([dense(stored, site).flatten() for site in SITES]) for stored in made]
    for i in range(4):
        for j in range(4):
            cosine = torch.nn.functional.cosine_similarity(whole[i], whole[j], dim=0)
            assert found.cosine[i, j] == pytest.approx(float(cosine), abs=1e-6)
    for n, site in enumerate(adapters.common):
        updates = [dense(stored, site) for stored in made]
        bases = []
        for update in updates:
            U, s, Vh = torch.linalg.svd(update)
            r = int((s > 1e-9 * s[0]).sum())
            bases.append((U[:, :r], Vh[:r].T))
        for i, j in ((0, 1), (0, 2), (2, 3)):
            cosine = torch.nn.functional.cosine_similarity(updates[i].flatten(), updates[j].flatten(), dim=0)
            assert found.site_cosine[n, i, j] == pytest.approx(float(cosine), abs=1e-6)
    last = SITES[3]
    layer = found.layers.index("decoder 0")
    for side, values in ((0, found.layer_left), (1, found.layer_right)):
        bases = [torch.linalg.svd(dense(stored, last))[2 * side] for stored in made]
        bases = [b[:, : m.key.rank] if side == 0 else b[: m.key.rank].T for b, m in zip(bases, made, strict=True)]
        product = bases[0].T @ bases[2]
        assert values[layer, 0, 2] == pytest.approx(float(product.square().sum()) / 4, abs=1e-5)
        np.testing.assert_allclose(cosines_of(bases[0].T @ bases[2]), torch.linalg.svdvals(product), atol=1e-9)
    assert found.ceiling == pytest.approx(found.cosine[0, 1])
    assert [row["two_seeds"] for row in found.tables()["pairs"]].count(True) == 1


def test_nothing_depends_on_the_gauge(store):
    """B G and G^-1 A are the same update, also for a G that is nearly singular."""
    pairs = factors(4, 1)
    generator = torch.Generator().manual_seed(9)
    turned = {}
    for site, (A, B) in pairs.items():
        left, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
        G = left @ torch.diag(torch.tensor([1.0, 30.0, 0.05, 2.0], dtype=torch.float64))
        turned[site] = ((torch.linalg.inv(G) @ A.double()).float(), (B.double() @ G).float())
    other = factors(8, 2)
    plain = of_stored([publish(store, "hi", pairs), publish(store, "te", other)])
    gauged = of_stored([publish(store, "hi", turned, variant="turned"), plain.stored[1]])
    one, two = similarity(plain), similarity(gauged)
    for name in ("cosine", "left", "right", "layer_cosine", "left_z", "right_z"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name), atol=2e-5, rtol=1e-5)
    both = similarity(of_stored([plain.stored[0], gauged.stored[0]]))
    assert both.cosine[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert both.left[0, 1] == pytest.approx(1.0, abs=1e-5)
    assert both.angles[0]["mean_angle_degrees"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("condition", [1.0, 1e-2, 1e-5])
def test_decompositions_rebuild_the_update_however_ill_conditioned(condition):
    from adapters.peft_files import LoraSite

    generator = torch.Generator().manual_seed(3)
    A, B = torch.randn(5, 30, generator=generator), torch.randn(20, 5, generator=generator)
    A[1] = A[0] + condition * A[1]
    whole = LoraSite(A, B, -1.7)
    short = LoraSite(torch.cat([A[:4], torch.zeros(1, 30)]), B, 0.5)
    found = compact([whole, short])
    for k, pair in enumerate((whole, short)):
        update = pair.scale * pair.B.double() @ pair.A.double()
        rebuilt = found.U[k].double() * found.s[k] @ found.V[k].double().T
        assert float((rebuilt - update).abs().max() / update.abs().max()) < 1e-5
        values = torch.linalg.svdvals(update)[:5]
        torch.testing.assert_close(singular_values([pair])[0], values, rtol=1e-6, atol=1e-6 * float(values[0]))
    assert int((found.s[1] > 0).sum()) == 4


def test_chance_is_that_of_random_subspaces():
    generator = torch.Generator().manual_seed(0)
    d, r, s = 40, 6, 10
    drawn = [torch.linalg.qr(torch.randn(2000, d, n, generator=generator, dtype=torch.float64))[0] for n in (r, s)]
    overlaps = (drawn[0].mT @ drawn[1]).square().sum((1, 2)) / r
    mean, deviation = null_overlap(np.array(r), np.array(s), d)
    assert float(overlaps.mean()) == pytest.approx(float(mean), rel=0.01)
    assert float(overlaps.std()) == pytest.approx(float(deviation), rel=0.06)
    largest = np.sort(cosines_of(drawn[0].mT @ drawn[1])[:, 0].numpy())
    null = null_largest_cosine(r, s, d, 2000, 1)
    assert np.median(null) == pytest.approx(np.median(largest), abs=0.01)


def test_planted_structure_is_found(store):
    """hi and pa share output directions; te and it share nothing with anybody."""
    shared = factors(8, 50)
    made = []
    for n, language in enumerate(("hi", "it", "pa", "te")):
        own = factors(8, n)
        if language in ("hi", "pa"):
            own = {site: (A, torch.cat([shared[site][1][:, :4], B[:, 4:]], 1)) for site, (A, B) in own.items()}
        made.append(publish(store, language, own, record={"seed": n}))
    found = similarity(of_stored(made))
    rows = {(row["adapter"], row["other"]): row for row in found.tables()["pairs"]}
    assert rows["hi", "pa"]["output_z"] > 10
    assert rows["hi", "pa"]["output_p"] < 1e-6
    others = [row for pair, row in rows.items() if pair != ("hi", "pa")]
    assert all(abs(row["output_z"]) < 4 and abs(row["input_z"]) < 4 for row in [*others])
    angles = {(row["adapter"], row["other"], row["side"]): row for row in found.tables()["angles"]}
    assert angles["hi", "pa", "output"]["sites_above_chance"] == 1.0
    assert angles["hi", "te", "output"]["sites_above_chance"] < 0.6
    assert any("no ceiling" in note for note in found.provenance.notes)


def test_mixed_targets_are_compared_where_both_are_and_said_so(store):
    made = [publish(store, "hi", factors(4, 1)), publish(store, "te", factors(4, 2, SITES[:2]))]
    found = similarity(of_stored(made))
    assert found.provenance.counts["sites"] == 2
    assert "only the 2 sites that all 2 adapters have are compared; 2 are not" in found.provenance.notes
    apart = [made[0], publish(store, "it", factors(4, 3, SITES[3:]))]
    with pytest.raises(AdapterError, match="have no site in common"):
        similarity(of_stored([made[1], apart[1]]))


def test_one_adapter_alone(store, tmp_path):
    found = similarity(of_stored([publish(store, "hi", factors(4, 1))]))
    assert found.cosine.tolist() == [[1.0]]
    assert any("one adapter alone" in note for note in found.provenance.notes)
    from analysis.similarity_figures import draw

    assert all(path.is_file() for path in draw(found, tmp_path / "figures"))


def test_adapters_of_different_bases_are_refused(store):
    one = publish(store, "hi", factors(4, 1))
    other = publish(store, "te", factors(4, 2), base="other/model")
    with pytest.raises(AdapterError, match=r"2 base models cannot be compared: other/model, toy.*--base other/model"):
        read_adapters(Choice(store.folder))
    assert read_adapters(Choice(store.folder, base="toy")).names == (one.name,)
    assert other.key.base == "other/model"
    publish(store, "te", factors(4, 2), base_sha256="cd" * 32)
    with pytest.raises(AdapterError, match="different weights of toy"):
        read_adapters(Choice(store.folder, base="toy"))


def test_other_shapes_are_another_base(store):
    pairs = factors(4, 2)
    pairs[SITES[0]] = (torch.randn(4, 48), torch.randn(24, 4))
    made = [publish(store, "hi", factors(4, 1)), publish(store, "pa", factors(4, 5))]
    odd = publish(store, "te", pairs, base_sha256="")
    with pytest.raises(AdapterError, match=r"te:r4:default.*another shape.*belongs to another base"):
        similarity(of_stored([*made, odd]))


def test_a_damaged_adapter_is_not_analysed(store):
    stored = publish(store, "hi", factors(4, 1))
    path = stored.folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(AdapterError, match="is damaged"):
        read_adapters(Choice(store.folder))


def test_the_command_writes_numbers_and_figures_and_goes_on_from_its_cache(store, tmp_path, capsys):
    for n, language in enumerate(("hi", "te", "it")):
        publish(store, language, factors(4, n))
    out, cache = tmp_path / "out", tmp_path / "cache"
    command = ["analyze", "similarity", "--store", str(store.folder), "--out", str(out), "--cache", str(cache)]
    assert boli.main(command) == 0
    printed = capsys.readouterr().out
    assert "hi - te: cosine" in printed
    about, tables = read(out / "similarity.json")
    assert about.counts["adapters"] == 3
    assert len(about.adapters) == 3
    assert {"adapters", "cosine", "pairs", "layers", "sites", "languages", "angles"} == set(tables)
    for name in ("heat_maps", "tree", "layers", "plane"):
        for suffix in ("png", "svg"):
            assert (out / f"similarity_{name}.{suffix}").stat().st_size > 1000
    kept = Cache(cache)
    again = similarity(read_adapters(Choice(store.folder)), cache=kept)
    assert (kept.found, kept.made) == (len(SITES), 0)
    assert again.tables()["cosine"] == tables["cosine"]
    assert boli.main([*command, "--languages", "pa"]) == 1
    assert "has no adapter that is meant. Valid: toy:hi:r4:default" in capsys.readouterr().err


def test_the_cache_knows_how_tensors_are_scaled(store, tmp_path):
    """The same tensors under another alpha are another adapter."""
    pairs, other = factors(4, 1), publish(store, "te", factors(4, 2))
    cache = Cache(tmp_path / "cache")
    for alpha in (4.0, 40.0):
        made = [publish(store, "hi", pairs, alpha=alpha, variant=f"a{alpha:g}"), other]
        kept, fresh = similarity(of_stored(made), cache=cache), similarity(of_stored(made))
        np.testing.assert_array_equal(kept.cosine, fresh.cosine)
    assert cache.found == 0
    assert cache.made == 2 * len(SITES)


def test_places_are_read_from_names():
    assert place("model.encoder.layers.3.self_attn.q_proj").module == "self_attn.q_proj"
    owsm = place("decoder.decoders.11.src_attn.linear_k")
    assert (owsm.part, owsm.layer, owsm.module) == ("decoder", 11, "src_attn.linear_k")
    assert relative_depth([f"encoder.encoders.{i}.x" for i in (0, 2, 4)]) == {
        "encoder 0": 0.0,
        "encoder 2": 0.5,
        "encoder 4": 1.0,
    }


def test_points_in_the_plane(monkeypatch):
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    distances = np.linalg.norm(square[:, None] - square[None], axis=-1)
    found = classical_scaling(distances)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), distances, atol=1e-9)
    assert "too few for UMAP" in of_distances(distances, 0).note
    assert of_distances(np.zeros((1, 1)), 0).method == "none"
    rng = np.random.default_rng(0)
    groups = np.concatenate([rng.normal(size=(15, 8)) + 20 * rng.normal(size=8) for _ in range(2)])
    made = of_features(groups, 0)
    assert made.method == "umap"
    centres = [made.points[:15].mean(0), made.points[15:].mean(0)]
    spread = made.points[:15].std()
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread
