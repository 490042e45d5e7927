"""Fixtures of the store's tests: small LoRA folders, a trained one, and the trained debug model pulled as `toy`."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.peft_files import CONFIG, WEIGHTS
from adapters.store import Store

ALL = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
SITE = "base_model.model.model.encoder.layers.{}.self_attn.q_proj.lora_{}.weight"


@pytest.fixture(autouse=True)
def boli_home(tmp_path_factory, monkeypatch) -> Path:
    """A cache of its own for each test, so that none meets what another pulled or proved."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("BOLI_HOME", str(home))
    monkeypatch.delenv("BOLI_STORE", raising=False)
    return home


@pytest.fixture
def lora(tmp_path):
    """Makes LoRA folders: lora(name, seed=0, config={...}, tensors={...}) changes a plain one of two sites."""

    def make(name: str = "lora", seed: int = 0, config: dict | None = None, tensors: dict | None = None) -> Path:
        folder = tmp_path / "made" / name
        folder.mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        held = {}
        for i in range(2):
            held[SITE.format(i, "A")] = torch.randn(4, 64, generator=generator)
            held[SITE.format(i, "B")] = torch.randn(64, 4, generator=generator)
        for key, tensor in (tensors or {}).items():
            if tensor is None:
                del held[key]
            else:
                held[key] = tensor
        save_file(held, folder / WEIGHTS)
        settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | (config or {})
        (folder / CONFIG).write_text(json.dumps(settings))
        return folder

    return make


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "st öre", create=True)


@pytest.fixture
def toy_lora(toy_folder, tmp_path) -> Path:
    """A copy of a trained adapter for Hindi, whose configuration names the model `toy`."""
    from tests import toy

    folder = tmp_path / "trained"
    folder.mkdir()
    made = toy.trained_adapter("hi", 8, ALL)
    save_file(load_file(made / WEIGHTS), folder / WEIGHTS)
    config = json.loads((made / CONFIG).read_text()) | {"base_model_name_or_path": "toy"}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.fixture
def pulled(toy_folder, boli_home) -> str:
    """The trained debug model in the zoo's cache; its name."""
    from zoo.manager import Options, pull

    pull("toy", Options(origin=str(toy_folder)))
    return "toy"


def configure(folder: Path, **changes) -> Path:
    """Change fields of a folder's adapter_config.json."""
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder
