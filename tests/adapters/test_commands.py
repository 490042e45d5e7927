"""`boli adapters` through its entry point."""

import json
import os
import shlex

import pytest

from adapters import commands
from adapters.key import AdapterKey
from adapters.peft_files import WEIGHTS
from adapters.record import Record, Score
from boli import main


@pytest.fixture
def boli(capsys):
    def run(*arguments) -> tuple[int, str, str]:
        code = main(["adapters", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_the_life_of_an_adapter(boli, toy_lora, pulled, tmp_path, monkeypatch):
    monkeypatch.setenv("BOLI_STORE", str(tmp_path / "my störe"))
    code, out, _ = boli("add", toy_lora, "--language", "hi", "--model", "toy", "--licence", "MIT")
    name = out.splitlines()[0]
    assert code == 0
    assert name.startswith("toy:hi:r8:default@")
    assert "38 sites, 44,032 parameters, lowest adapted encoder layer 0" in out
    assert "base unverified" in out
    code, _, err = boli("add", toy_lora, "--language", "hi", "--model", "toy", "--licence", "CC0-1.0")
    assert code == 0
    assert "was in the store already and keeps its record" in err
    advice = err.partition("boli adapters ")[2].partition(", then")[0]
    code, out, _ = boli("list")
    assert [line.split()[0] for line in out.splitlines()] == ["LANGUAGE", "hi"]
    assert json.loads(boli("list", "--json")[1])[0]["name"] == name
    assert "MIT" in boli("show", "hi")[1]
    assert json.loads(boli("show", name, "--json")[1])["licence"] == "MIT"
    assert boli("export", name, tmp_path / "out")[0] == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["adapter_config.json", WEIGHTS, "record.json"]
    assert boli("verify")[1].startswith("1 adapters, 0 damaged")
    assert boli("reindex")[1] == "1 adapters\n"
    assert boli(*shlex.split(advice))[1] == f"removed {name}\n"
    assert "No adapters" in boli("list")[1]


def test_verify_names_what_is_damaged_and_its_advice_mends_it(boli, store, lora):
    whole = store.publish(AdapterKey("toy", "hi", 4), lora())
    damaged = store.publish(AdapterKey("toy", "te", 4), lora("b", 1))
    garbled = store.publish(AdapterKey("toy", "it", 4), lora("c", 2))
    content = bytearray((damaged.folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (damaged.folder / WEIGHTS).write_bytes(content)
    (garbled.folder / "record.json").write_text("{")
    code, out, err = boli("verify", "--store", store.folder)
    assert code == 1
    assert out.startswith("3 adapters, 2 damaged")
    assert f"{damaged.folder}: " in err
    assert "has checksum" in err
    for line in err.splitlines():
        if "boli adapters rm" in line and not line.startswith("warning"):
            assert boli(*shlex.split(line.partition("boli adapters ")[2].partition(", then")[0]))[0] == 0
    code, out, _ = boli("verify", "--store", store.folder)
    assert (code, out[:21]) == (0, "1 adapters, 0 damaged")
    assert list(store.all()) == [whole]


def test_best_compares_equal_test_sets_only(boli, store, lora):
    def publish(seed, *scores):
        record = Record("toy", "hi", 4, scores=scores)
        return store.publish(AdapterKey("toy", "hi", 4, f"seed{seed}"), lora(str(seed), seed), record)

    good = publish(1, Score("wer", 0.20, 100, "a" * 64, "raw", "greedy", "test"))
    bad = publish(2, Score("wer", 0.30, 100, "a" * 64, "raw", "greedy", "test"))
    easy = publish(3, Score("wer", 0.10, 100, "b" * 64, "raw", "greedy", "test"))
    publish(4, Score("wer", 0.05, 100, "a" * 64, "whisper", "greedy", "test"))
    publish(5, Score("wer", 0.01, 100, "", "raw", "greedy", "test"))
    publish(6)
    code, out, _ = boli("best", "--store", store.folder, "--language", "hi", "--normaliser", "raw")
    blocks = out.split("hi: wer on test")
    assert code == 0
    assert blocks[1].index(good.version) < blocks[1].index(bad.version)
    assert easy.version not in blocks[1]
    assert easy.version in blocks[2]
    assert "cannot be compared" in out
    assert "Without such a score: hi:r4:seed4" in out
    ranked = json.loads(boli("best", "--store", store.folder, "--test-set", "aaaa", "--normaliser", "raw", "--json")[1])
    assert [row["value"] for ranking in ranked for row in ranking["rows"]] == [0.2, 0.3]
    code, _, err = boli("best", "--store", store.folder, "--metric", "bleu")
    assert code == 1
    assert "wer test raw greedy" in err


def test_the_embedded_store_is_read_only(boli, lora, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "EMBEDDED", tmp_path / "embedded")
    code, _, err = boli("reindex", "--store", tmp_path / "embedded")
    assert code == 1
    assert "read-only" in err
    assert "--store FOLDER" in err
    monkeypatch.setenv("BOLI_EMBEDDED", "write")
    (tmp_path / "embedded").mkdir()
    assert boli("reindex", "--store", tmp_path / "embedded")[0] == 0


def test_errors_are_one_line(boli, tmp_path, store):
    for arguments, message in [
        (("list", "--store", tmp_path / "nix"), "There is no store"),
        (("show", "hi", "--store", store.folder), "has no 'hi'"),
        (("rm", "hi", "--store", store.folder), "has no 'hi'"),
        (("add", tmp_path / "nix", "--language", "hi", "--model", "toy", "--store", store.folder), "no hub id"),
        (("add", tmp_path / "nix", "--language", "hi", "--model", "toy"), "read-only"),
    ]:
        code, _, err = boli(*arguments)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
        assert "To mend it: " in err
    assert boli("frobnicate")[0] == 2
