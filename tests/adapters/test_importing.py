"""Importing from folders and from a hub on this machine, held to PEFT's own forward; the proof; and what is refused."""

import json

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from adapters.exporting import export
from adapters.importing import AddOptions, add
from adapters.index import RECORD
from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS, read_weights
from adapters.proof import probe, prove
from adapters.record import Record
from tests.adapters.conftest import configure
from zoo.errors import AdapterError, StoreError
from zoo.local_hub import LocalHub

HI = AddOptions("hi", "toy")


def change(folder, change):
    """Replace every tensor by what `change` makes of it."""
    save_file(
        {key: change(key, value).contiguous() for key, value in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS
    )
    return folder


def test_a_foreign_adapter_is_proved_and_marked_unverified(store, toy_lora, pulled):
    stored = add(toy_lora, store, HI)
    record = stored.record
    assert str(stored.key) == "toy:hi:r8:default"
    assert (record.base_verified, record.base_sha256, record.source) == (False, "", "folder:trained")
    assert record.lowest_adapted_layer == 0
    assert record.logit_change > 0.1
    assert len(record.update_norms) == 38
    assert min(record.update_norms.values()) > 0
    assert len(record.proved_base_sha256) == 64
    assert store.find(language="hi") == [stored]


def test_the_logit_change_is_that_of_peft(toy_lora, toy_base, toy_folder):
    from peft import PeftModel

    from zoo.whisper_family import family

    proof = prove(toy_base, read_weights(toy_lora))
    other = family.load(toy_folder, family.card(toy_folder, "toy"), context="dynamic")
    features = other.features([probe()])
    labels = other.labels(["a i e"], [other.languages[0]])
    with torch.inference_mode():
        alone = other.logits(features, labels)
        PeftModel.from_pretrained(other.module, toy_lora).eval()
        changed = other.logits(features, labels)
    assert proof.logit_change == pytest.approx(float((changed - alone).abs().max()), rel=1e-4)
    assert 0 < proof.noise < 1e-2


def test_the_lowest_layer_is_worked_out_from_the_weights(store, toy_lora, pulled):
    held = load_file(toy_lora / WEIGHTS)
    save_file({key: value for key, value in held.items() if "encoder.layers.2" in key}, toy_lora / WEIGHTS)
    assert add(toy_lora, store, HI).record.lowest_adapted_layer == 2
    save_file({key: value for key, value in held.items() if "model.decoder" in key}, toy_lora / WEIGHTS)
    assert add(toy_lora, store, HI).record.lowest_adapted_layer == 3


def test_an_adapter_below_rounding_is_an_error(store, toy_lora, pulled):
    change(toy_lora, lambda key, value: value * 1e-6 if "lora_B" in key else value)
    with pytest.raises(AdapterError, match="does nothing on toy") as caught:
        add(toy_lora, store, HI)
    assert "lora_alpha" in caught.value.remedy
    assert list(store.all()) == []
    change(toy_lora, lambda key, value: value * 1e6 if "lora_B" in key else value)
    add(toy_lora, store, HI)


def test_a_proof_is_kept_by_both_checksums(toy_lora, toy_base, toy_folder, boli_home, monkeypatch):
    from zoo.whisper_family import family

    weights = read_weights(toy_lora)
    proof = prove(toy_base, weights, "abc")
    monkeypatch.setattr("adapters.proof._measure", lambda *_: pytest.fail("measured again"))
    other = family.load(toy_folder, family.card(toy_folder, "toy"), context="dynamic")
    assert prove(other, weights, "abc") == proof
    [kept] = (boli_home / "proofs").iterdir()
    kept.write_text("garbage")
    monkeypatch.undo()
    monkeypatch.setenv("BOLI_HOME", str(boli_home))
    assert prove(other, weights, "abc") == proof


def test_other_shapes_and_sites_are_refused(store, toy_lora, lora, pulled):
    far = lora("far")
    save_file({k.replace("layers.1", "layers.9"): v for k, v in load_file(far / WEIGHTS).items()}, far / WEIGHTS)
    with pytest.raises(
        AdapterError, match=r"1 of 2 sites do not exist in toy, e\.g\. model\.encoder\.layers\.9"
    ) as caught:
        add(far, store, HI)
    assert "the base model it was trained on" in caught.value.remedy
    change(toy_lora, lambda key, value: value[:, :32] if "lora_A" in key else value)
    with pytest.raises(AdapterError, match="toy has 64 -> ") as caught:
        add(toy_lora, store, HI)
    assert "adapter_config.json names toy" in caught.value.remedy


@pytest.mark.parametrize("named", ["openai/whisper-small", None, ""])
def test_another_base_s_name_is_refused_unless_allowed(store, toy_lora, pulled, named):
    configure(toy_lora, base_model_name_or_path=named)
    with pytest.raises(AdapterError, match="was trained on") as caught:
        add(toy_lora, store, HI)
    assert "--allow-unverified" in caught.value.remedy
    said = []
    stored = add(toy_lora, store, AddOptions("hi", "toy", allow_unverified=True), said.append)
    assert not stored.record.base_verified
    assert "added unverified" in said[0]


def test_a_folder_of_the_same_weights_is_the_same_base(store, toy_lora, pulled, toy_folder):
    configure(toy_lora, base_model_name_or_path=str(toy_folder))
    add(toy_lora, store, HI)


def test_another_tokenizer_is_refused(store, toy_lora, pulled, toy_folder):
    tokenizer = json.loads((toy_folder / "tokenizer.json").read_text())
    (toy_lora / "tokenizer.json").write_text(json.dumps(tokenizer))
    add(toy_lora, store, HI)
    vocabulary = tokenizer["model"]["vocab"]
    one, two = sorted(vocabulary)[:2]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (toy_lora / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(AdapterError, match="tokenizer differs from the base's in 2 of") as caught:
        add(toy_lora, store, HI)
    assert "with the base that has this tokenizer" in caught.value.remedy


def published(store, toy_lora, pulled, **facts):
    import zoo

    base = zoo.load(pulled)
    known = {"base_sha256": base.weights_sha256, "tokenizer_sha256": base.tokenizer_sha256, "base_verified": True}
    record = Record("toy", "hi", 8, data={"hours": 1}, **(known | facts))
    return store.publish(AdapterKey("toy", "hi", 8), toy_lora, record)


def test_what_one_store_exports_another_takes_in_and_peft_loads(store, toy_lora, pulled, tmp_path, toy_base):
    from peft import PeftModel

    from adapters.store import Store

    stored = published(store, toy_lora, pulled)
    folder = export(stored, tmp_path / "out side")
    again = add(folder, Store(tmp_path / "other", create=True), HI)
    assert again.version == stored.version
    assert again.record.base_verified
    assert again.record.data == {"hours": 1}
    PeftModel.from_pretrained(toy_base.module, folder)
    with pytest.raises(StoreError, match="exists already") as caught:
        export(stored, folder)
    assert caught.value.remedy.endswith("out side'-2")


@pytest.mark.parametrize(
    ("facts", "message", "advice"),
    [
        ({"base_sha256": "0" * 64}, "base model's weights are", "boli zoo show toy"),
        ({"tokenizer_sha256": "0" * 64}, "tokenizer is", "boli zoo show toy"),
        ({"base_quantization": "nf4"}, "quantised as none, its record says nf4", "--quantize nf4"),
        ({"context": "dynamic"}, "context is 30s, its record says dynamic", "--context dynamic"),
    ],
)
def test_another_base_than_the_record_says_is_refused(store, toy_lora, pulled, tmp_path, facts, message, advice):
    folder = export(published(store, toy_lora, pulled, **facts), tmp_path / "out")
    with pytest.raises(AdapterError, match=message) as caught:
        add(folder, store, HI)
    assert advice in caught.value.remedy
    if "context" in facts:
        assert add(folder, store, AddOptions("hi", "toy", context="dynamic")).record.context == "dynamic"


def test_another_language_or_checksum_than_the_record_says_is_refused(store, toy_lora, pulled, tmp_path):
    folder = export(published(store, toy_lora, pulled), tmp_path / "out")
    with pytest.raises(AdapterError, match="language is te, its record says hi") as caught:
        add(folder, store, AddOptions("te", "toy"))
    assert caught.value.remedy.startswith("--language hi")
    change(folder, lambda key, value: value * 1.5)
    with pytest.raises(AdapterError, match="weights have checksum"):
        add(folder, store, HI)
    (folder / RECORD).write_text("{")
    with pytest.raises(AdapterError, match="cannot be read") as caught:
        add(folder, store, HI)
    assert "rm FOLDER/record.json" in caught.value.remedy
    (folder / RECORD).unlink()
    assert not add(folder, store, HI).record.base_verified


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with LocalHub().serving() as serving:
        monkeypatch.setenv("HF_ENDPOINT", serving.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield serving


def test_a_hub_id_at_a_commit_and_offline_afterwards(store, toy_lora, pulled, hub, monkeypatch):
    commit = hub.add("someone/hindi", {name: (toy_lora / name).read_bytes() for name in (CONFIG, WEIGHTS)})
    stored = add("someone/hindi", store, HI)
    assert stored.record.source == f"hub:someone/hindi@{commit}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.requests)
    assert add("someone/hindi", store, HI) == stored
    assert len(hub.requests) == before
    with pytest.raises(AdapterError, match="needs the network, which HF_HUB_OFFLINE") as caught:
        add("someone/telugu", store, HI)
    assert caught.value.remedy.startswith("HF_HUB_OFFLINE=0 BOLI_OFFLINE=0 boli adapters add someone/telugu")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the advice, carried out
    hub.add("someone/telugu", {name: (toy_lora / name).read_bytes() for name in (CONFIG, WEIGHTS)})
    assert add("someone/telugu", store, HI) == stored


def test_hubs_that_say_no(store, toy_lora, pulled, hub):
    with pytest.raises(AdapterError, match=r"no adapter at http"):
        add("someone/nothing", store, HI)
    hub.add("someone/pickled", {CONFIG: b"{}", "adapter_model.bin": b"x"})
    with pytest.raises(AdapterError, match=r"pickle \(adapter_model\.bin\)"):
        add("someone/pickled", store, HI)
    hub.add("someone/many", {f"hi/{name}": (toy_lora / name).read_bytes() for name in (CONFIG, WEIGHTS)})
    with pytest.raises(AdapterError, match=r"but hi/adapter_config\.json") as caught:
        add("someone/many", store, HI)
    assert caught.value.remedy.endswith("boli adapters add FOLDER/hi")
    with pytest.raises(AdapterError, match="no revision 'v9'") as caught:
        add("someone/many@v9", store, HI)
    assert "--revision main" in caught.value.remedy
    hub.add("someone/gated", {CONFIG: b"{}"})
    hub.repositories["someone/gated"].private = True
    with pytest.raises(AdapterError, match="accept its terms"):
        add("someone/gated", store, HI)


@pytest.mark.parametrize("source", ["/nowhere/at/all", "just-a-name", "a/b/c"])
def test_sources_that_are_nothing(store, source):
    with pytest.raises(AdapterError, match="is no folder and no hub id"):
        add(source, store, HI)


def test_a_file_instead_of_its_folder(store, toy_lora, pulled):
    with pytest.raises(AdapterError) as caught:
        add(toy_lora / WEIGHTS, store, HI)
    assert caught.value.remedy == f"boli adapters add {toy_lora}"
    add(toy_lora, store, HI)


def test_a_model_that_is_a_path_needs_a_name(store, toy_lora, toy_folder):
    with pytest.raises(AdapterError, match="boli zoo pull NAME --from FOLDER"):
        add(toy_lora, store, AddOptions("hi", str(toy_folder)))
