"""A cache of one's own, a hub on 127.0.0.1, and small models that look like Whisper."""

import json
import random
import struct

import pytest

from zoo.local_hub import LocalHub


def model_files(seed: int = 0, n_bytes: int = 200_000) -> dict[str, bytes]:
    """File name -> content of a model that the whisper family knows by its config; the weights are noise."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(n_bytes)
    config = json.dumps({"model_type": "whisper", "encoder_layers": 2, "seed": seed}).encode()
    return {"config.json": config, "model.safetensors": weights, "tokenizer/vocab.json": b'{"a": 1}'}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """BOLI_HOME and an empty working directory."""
    monkeypatch.setenv("BOLI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BOLI_LOCK", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return tmp_path / "home"


@pytest.fixture
def online(monkeypatch):
    """The network may be used (the suite forbids it otherwise), and waiting between retries is short."""
    import huggingface_hub.constants

    from zoo.sources import download

    for variable in ("HF_HUB_OFFLINE", "BOLI_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(download, "_BACKOFF_S", 0.001)


@pytest.fixture
def hub(home, online, monkeypatch):
    """A LocalHub that serves, and to which HF_ENDPOINT points."""
    with LocalHub().serving() as serving:
        monkeypatch.setenv("HF_ENDPOINT", serving.url)
        yield serving


@pytest.fixture
def boli(capsys):
    """Run `boli ARGUMENTS` in this process: (exit code, stdout, stderr)."""
    from boli import main

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def advised(boli):
    """Carry out the advice at the end of a message: a `boli ...` command, without the remark in brackets."""
    import shlex

    def call(message: str) -> tuple[int, str, str]:
        advice = message.partition("To mend it: ")[2].partition("  (")[0]
        assert advice.startswith("boli "), advice
        return boli(*shlex.split(advice)[1:])

    return call


@pytest.fixture
def folder(tmp_path):
    """A local folder with a model."""
    for name, data in model_files().items():
        target = tmp_path / "my-whisper" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path / "my-whisper"


@pytest.fixture
def pulled(home, folder):
    from zoo import manager
    from zoo.manager import Options

    return manager.pull("mine", Options(origin=str(folder)))
