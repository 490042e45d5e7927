"""A folder that faster-whisper reads becomes the model it was made of, tensor by tensor; CTranslate2's own converter writes it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo import debug, faster_whisper, manager
from zoo.errors import ModelError
from zoo.manager import Options
from zoo.speech import Utterance


class Told:
    """What a pull says."""

    def __init__(self):
        self.lines: list[str] = []

    def start(self, name: str, n_bytes: int) -> None: ...

    def advance(self, n_bytes: int) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    debug.build(folder)
    return folder


@pytest.fixture(scope="module")
def converted(original, tmp_path_factory) -> dict[str, Path]:
    from ctranslate2.converters import TransformersConverter

    found = {}
    for kind in ("float32", "float16", "bfloat16", "int8"):
        found[kind] = tmp_path_factory.mktemp("ct2") / kind
        converter = TransformersConverter(str(original), copy_files=["tokenizer.json"])
        converter.convert(str(found[kind]), quantization=None if kind == "float32" else kind)
    return found


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_every_tensor_comes_back(kind, original, converted, tmp_path):
    faster_whisper.convert(converted[kind], tmp_path / "back")
    back, own = load_file(tmp_path / "back" / "model.safetensors"), load_file(original / "model.safetensors")
    assert set(back) == {name for name in own if name != "proj_out.weight"}
    for name, tensor in back.items():
        assert torch.equal(tensor, own[name].to(getattr(torch, kind)).float()), name


def test_a_pulled_copy_is_the_same_model(original, converted, home):
    entry = manager.pull("mine", Options(origin=str(converted["float32"])))
    assert sorted(entry.manifest.files) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    ]
    one, other = zoo.load("mine"), zoo.load(str(original))
    assert one.languages == other.languages == debug.LANGUAGES
    heard = Utterance(np.random.default_rng(1).normal(0, 0.1, 16000 * 2).astype(np.float32))
    with torch.inference_mode():
        mine, its = (model.encode(model.features([heard])).values for model in (one, other))
        assert torch.equal(mine, its)
    assert torch.equal(one.prompt(["hi"]), other.prompt(["hi"]))
    found = [model.detect_language(model.encode(model.features([heard]))) for model in (one, other)]
    assert torch.equal(*found)


def test_it_is_said_whether_the_weights_are_those_of_the_card(converted, home, monkeypatch):
    from dataclasses import replace

    known = manager.cards()["openai/whisper-base"]
    for right in (True, False):
        told = Told()
        folder = converted["float32"]
        sums = known.files
        if right:
            faster_whisper.convert(folder, home.parent / "once")
            from zoo.checksum import sha256

            sums = {"model.safetensors": sha256(home.parent / "once" / "model.safetensors")}
        card = replace(known, files=sums)
        monkeypatch.setattr(manager, "cards", lambda card=card: {card.name: card})
        manager.pull(known.name, Options(origin=str(folder), update=True), told)
        (line,) = told.lines
        assert ("has the sha256" in line) == right
        assert ("is not what" in line) != right
        assert "e37978b90ca9" in line


def test_rounded_weights_are_refused(converted, tmp_path):
    with pytest.raises(ModelError, match=r"rounded weights.*--quantization float16"):
        faster_whisper.convert(converted["int8"], tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("keep", [11, 40, 5_000, -1])
def test_a_damaged_file_is_refused_and_nothing_is_kept(keep, converted, home, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(converted["float32"], folder)
    weights = folder / "model.bin"
    weights.write_bytes(
        weights.read_bytes()[:keep] if keep > 0 else weights.read_bytes()[: len(weights.read_bytes()) // 2]
    )
    with pytest.raises(ModelError, match=r"ends too early|No family|pickle"):
        manager.pull("mine", Options(origin=str(folder)))
    with pytest.raises(ModelError, match="No model is called 'mine'"):
        zoo.load("mine")


def test_loading_it_where_it_lies_says_that_it_must_be_pulled(converted):
    folder = converted["float32"]
    with pytest.raises(ModelError, match=rf"for faster-whisper.*boli zoo pull NAME --from {folder}"):
        zoo.load(str(folder))


def test_a_folder_without_its_tokenizer_says_what_is_missing(converted, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(converted["float32"], folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        faster_whisper.convert(folder, tmp_path / "back")


def test_without_its_config_the_languages_are_those_of_the_tokenizer(converted, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(converted["float32"], folder)
    (folder / "config.json").unlink()
    faster_whisper.convert(folder, tmp_path / "back")
    assert zoo.load(str(tmp_path / "back")).languages == debug.LANGUAGES


def test_other_folders_are_left_alone(original, tmp_path):
    assert not faster_whisper.matches(original)
    (tmp_path / "model.bin").write_bytes(json.dumps({"a": 1}).encode())
    assert not faster_whisper.matches(tmp_path)
