"""A cache of one's own, a hub on 127.0.0.1, and small models that look like Whisper."""

import csv
import io
import json
import os
import random
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from zoo.local_hub import LocalHub

ESPNET_NAME = "kamo-naoyuki/mini_an4_asr_train_raw_bpe_valid.acc.best"
ESPNET_PATH = "/record/3957940/files/asr_train_raw_bpe_valid.acc.best.zip"
ESPNET_COLUMNS = ("corpus", "task", "name", "url", "fs", "lang", "gender", "pytorch", "espnet", "commit", "valid")


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


# --- packs of ESPnet, made by espnet2's own `pack`


class Runs:
    """What a hostile checkpoint holds."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


def packed(folder: Path, archive: Path, files: dict[str, str], configs: dict[str, str], others: list[str]) -> bytes:
    from zoo.espnet_import import part, quietly

    pack = part("espnet2.main_funcs.pack_funcs:pack")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with quietly():
            pack(files, configs, archive, others)
    finally:
        os.chdir(before)
    return archive.read_bytes()


@pytest.fixture(scope="session")
def asr(tmp_path_factory) -> Path:
    """An experiment folder of ESPnet's task `asr`; the weights are noise."""
    import torch

    folder = tmp_path_factory.mktemp("egs")
    (folder / "exp/asr").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / "exp/asr/config.yaml").write_text("normalize_conf:\n    stats_file: data/stats.npz   # as it was\n")
    (folder / "data/stats.npz").write_bytes(b"\0" * 100)
    weights = {"encoder.weight": torch.randn(200, 300, generator=torch.Generator().manual_seed(0))}
    torch.save(weights, folder / "exp/asr/valid.acc.best.pth")
    torch.save({"encoder.weight": Runs()}, folder / "exp/asr/hostile.pth")
    return folder


@pytest.fixture(scope="session")
def packs(asr, tmp_path_factory) -> dict[str, bytes]:
    """Ending -> an archive of the experiment."""
    out = tmp_path_factory.mktemp("packs")
    config, weights = {"asr_train_config": "exp/asr/config.yaml"}, {"asr_model_file": "exp/asr/valid.acc.best.pth"}
    made = {kind: packed(asr, out / f"m.{kind}", weights, config, ["data/stats.npz"]) for kind in ("zip", "tar.gz")}
    hostile = {"asr_model_file": "exp/asr/hostile.pth"}
    return made | {"hostile": packed(asr, out / "hostile.zip", hostile, config, [])}


@pytest.fixture(scope="session")
def s2t(tmp_path_factory) -> Path:
    """A folder with s2t.zip and s2t.tar.gz: a speech-to-text model, as OWSM is packed."""
    from zoo import debug_owsm

    folder = tmp_path_factory.mktemp("s2t")
    debug_owsm.build(folder)
    for kind in ("zip", "tar.gz"):
        packed(
            folder,
            folder / f"s2t.{kind}",
            {"s2t_model_file": debug_owsm.WEIGHTS},
            {"s2t_train_config": debug_owsm.CONFIG},
            [debug_owsm.STATS, debug_owsm.BPE],
        )
    return folder


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write rows into a table of one's own: `table(name, url, task=..., ...)`."""
    from zoo.sources import espnet_table

    lines: list[dict[str, str]] = []
    file = tmp_path / "table.csv"
    monkeypatch.setenv(espnet_table.VARIABLE, str(file))

    def add(name: str, url: str, **columns: str) -> None:
        row = {"task": "asr", "corpus": "mini_an4", "fs": "16000", "lang": "en", "valid": "true"}
        lines.append({**dict.fromkeys(ESPNET_COLUMNS, ""), **row, **columns, "name": name, "url": url})
        with file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(lines[0]), restval="")
            writer.writeheader()
            writer.writerows(lines)
        os.utime(file, ns=(len(lines), len(lines)))

    return add


@pytest.fixture
def known(hub, table, packs):
    """The server has the model's archive, and the table its address there. Returns the server."""
    hub.files[ESPNET_PATH] = packs["zip"]
    table(ESPNET_NAME, f"{hub.url}{ESPNET_PATH}?download=1")
    return hub


def with_member(content: bytes, name: str, link: str = "") -> bytes:
    """A pack and one member more, which no honest pack has."""
    if content[:2] == b"PK":
        file = io.BytesIO(content)
        with zipfile.ZipFile(file, "a") as archive:
            member = zipfile.ZipInfo(name)
            member.create_system = 3
            member.external_attr = (0o120777 if link else 0o100644) << 16
            archive.writestr(member, link or "x")
        return file.getvalue()
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=out, mode="w:gz") as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
        member = tarfile.TarInfo(name)
        if link:
            member.type, member.linkname = tarfile.SYMTYPE, link
        else:
            member.size = 1
        new.addfile(member, io.BytesIO(b"x"))
    return out.getvalue()
