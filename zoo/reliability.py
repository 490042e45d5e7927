"""Kills pulls at random moments and counts what is wrong with the cache afterwards. It must be nothing.

    python -m zoo.reliability --kills 200

Each round starts one or two processes that pull the same model, from a hub, an archive or ESPnet's model zoo (all on
127.0.0.1), and kills them (`SIGKILL`) after a random time. Then every model in the cache is read in full and compared, byte by byte, with what
the server has. Now and then a finished copy is removed or damaged before the next round, so that kills also hit the
repair. The cache is kept from round to round: what one kill leaves is what the next pull goes on from. In the end each
model is pulled once more without a kill, and has to be whole.
"""

import contextlib
import hashlib
import io
import json
import mmap
import os
import random
import signal
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from zoo import cache, manager
from zoo.local_hub import Behaviour, LocalHub
from zoo.manager import Options
from zoo.sources import espnet_table

HUB, ARCHIVE, ESPNET = "someone/whisper-odd", "packed", "someone/asr-pack"
WEIGHTS = {HUB: "model.safetensors", ARCHIVE: "model.safetensors", ESPNET: "exp/asr.pth"}
RECORD = "/record/1/files/pack.tar"
WEIGHTS_BYTES = 2_000_000
_MARK = b"damaged by the kill script"
LONGEST_S = 0.6  # a whole pull takes about half of it, so that kills fall before, during and after


@dataclass
class Report:
    """What the rounds found."""

    kills: int = 0
    killed_under_way: int = 0
    """Kills that hit a running process; the others came after it had finished."""
    left: dict[str, int] = field(default_factory=dict)
    """What a kill left: nothing, a partial download, staged files, a whole model."""
    resumed: int = 0
    """Requests that went on within a file."""
    corrupt: int = 0
    """Rounds after which the cache held anything but whole, right models. Must be 0."""
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def rows(self) -> dict[str, str | int | float]:
        return {
            "processes killed": self.kills,
            "of these under way": self.killed_under_way,
            **{f"rounds that left {what}": n for what, n in sorted(self.left.items())},
            "requests that went on within a file": self.resumed,
            "corrupt caches": self.corrupt,
            "errors": len(self.errors),
            "seconds": round(self.seconds, 1),
        }


def files(seed: int) -> dict[str, bytes]:
    """File name -> content of a model that the whisper family knows; its weights are noise."""
    import struct

    header = json.dumps({"w": {"dtype": "U8", "shape": [WEIGHTS_BYTES], "data_offsets": [0, WEIGHTS_BYTES]}}).encode()
    weights = struct.pack("<Q", len(header)) + header + random.Random(seed).randbytes(WEIGHTS_BYTES)
    config = json.dumps({"model_type": "whisper", "encoder_layers": 2}).encode()
    return {"config.json": config, "model.safetensors": weights, "tokenizer/vocab.json": b"{}"}


def espnet_files(seed: int) -> dict[str, bytes]:
    """The same of a pack of ESPnet's task `asr`."""
    import torch

    written = io.BytesIO()
    noise = torch.frombuffer(bytearray(random.Random(seed).randbytes(WEIGHTS_BYTES)), dtype=torch.uint8)
    torch.save({"w": noise}, written)
    meta = f"files: {{asr_model_file: {WEIGHTS[ESPNET]}}}\nyaml_files: {{asr_train_config: exp/config.yaml}}\n"
    return {"meta.yaml": meta.encode(), "exp/config.yaml": b"encoder: conformer\n", WEIGHTS[ESPNET]: written.getvalue()}


def run(kills: int, seed: int, home: Path) -> Report:
    """Kill `kills` pulls into the cache `home`, with moments drawn from `seed`."""
    right = {HUB: files(1), ARCHIVE: files(2), ESPNET: espnet_files(3)}
    server, url, counter = _serve(right)
    origins = {HUB: f"hub:{HUB}", ARCHIVE: f"{url}/packed.tar", ESPNET: f"espnet:{ESPNET}"}
    home.mkdir(parents=True, exist_ok=True)
    table = home / "table.csv"
    table.write_text(f"corpus,task,name,url,fs,lang\n,asr,{ESPNET},{url}{RECORD}?download=1,16000,en\n")
    os.environ[espnet_table.VARIABLE] = str(table)
    os.environ |= {"BOLI_HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "BOLI_OFFLINE": "0"}
    chance = random.Random(seed)
    report = Report()
    started = time.monotonic()
    _prepare()
    try:
        while report.kills < kills:
            name = chance.choice(list(right))
            _disturb(name, chance)
            running = [_pull(name, origins[name]) for _ in range(chance.choice([1, 1, 2]))]
            time.sleep(chance.uniform(0, LONGEST_S))
            for process in running:
                report.kills += 1
                report.killed_under_way += _kill(process)
            state = _state(name)
            report.left[state] = report.left.get(state, 0) + 1
            if wrong := _wrong(right):
                report.corrupt += 1
                report.errors += wrong
        for name in right:
            if status := _wait(_pull(name, origins[name])):
                report.errors.append(f"{name}: the last pull ended with {status}")
            if manager.find(name) is None:
                report.errors.append(f"{name}: not there after the last pull")
        report.errors += _wrong(right)
        report.resumed = int.from_bytes(counter[:8], "little")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
    report.seconds = time.monotonic() - started
    return report


def _serve(right: dict[str, dict[str, bytes]]) -> tuple[int, str, mmap.mmap]:
    """A slow LocalHub in a process of its own: its id, its address, and a counter of the ranges it was asked for."""
    counter = mmap.mmap(-1, 8)  # shared with the child
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        hub = LocalHub(default=Behaviour(block_pause_s=0.001), requests=_Counted(counter))
        hub.add(HUB, right[HUB])
        hub.files["/packed.tar"] = _packed(right[ARCHIVE])
        pack = hub.files[RECORD] = _packed(right[ESPNET])
        told = {"key": Path(RECORD).name, "size": len(pack), "checksum": f"md5:{hashlib.md5(pack).hexdigest()}"}
        hub.files["/api/records/1"] = json.dumps({"files": [told]}).encode()
        server = hub.server()
        os.write(writing, f"{hub.url}\n".encode())
        server.serve_forever()
    return process, os.read(reading, 100).decode().strip(), counter


def _packed(content: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


class _Counted(list):
    """A list of requests that counts those with a range where another process can read it."""

    def __init__(self, counter: mmap.mmap):
        super().__init__()
        self._counter = counter

    def append(self, request: tuple[str, str, str]) -> None:
        super().append(request)
        if request[2]:
            self._counter[:8] = (int.from_bytes(self._counter[:8], "little") + 1).to_bytes(8, "little")


def _prepare() -> None:
    """Import in the parent what a pull imports, so that the kills hit the pulling and not the importing."""
    import huggingface_hub  # noqa: F401
    from huggingface_hub import constants

    from zoo import registry
    from zoo.sources import espnet, folder, hub, url  # noqa: F401

    constants.HF_HUB_OFFLINE = False
    for family in registry.targets():
        registry.family(family)


def _pull(name: str, origin: str) -> int:
    """Start a process that pulls. Returns its id."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                manager.pull(name, Options(origin=origin))
            status = 0
        finally:
            os._exit(status)
    return process


def _kill(process: int) -> bool:
    """True when it was still running."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def _wait(process: int) -> int:
    return os.waitpid(process, 0)[1]


def _disturb(name: str, chance: random.Random) -> None:
    """Give the next pull something to do where the model is already whole."""
    entry = manager.find(name)
    if entry is None:
        return
    if chance.random() < 0.5:
        manager.remove(name)
    else:
        with (entry.folder / WEIGHTS[name]).open("r+b") as file:
            file.seek(chance.randrange(WEIGHTS_BYTES))
            file.write(_MARK)


def _state(name: str) -> str:
    if manager.find(name) is not None:
        return "a whole model"
    staging = cache.staging_folder(name)
    if list(staging.rglob("*.part")):
        return "a partial download"
    return "staged files" if staging.exists() else "nothing"


def _wrong(right: dict[str, dict[str, bytes]]) -> list[str]:
    """What is wrong with the cache: a folder without a record, or a model that is not byte for byte the server's.

    A copy that `_disturb` damaged, and that no pull got round to mending, is not the pull's doing: it is known by its
    mark, has to be noticed by `damages`, and is removed here.
    """
    found = [f"{folder} has no record" for folder in cache.unreadable()]
    for entry in cache.entries():
        there = [path for path in entry.manifest.files if (entry.folder / path).is_file()]
        content = {path: (entry.folder / path).read_bytes() for path in there}
        if content == right[entry.name]:
            found += [f"{entry.name}: {damage}" for damage in entry.damages(full=True)]
        elif _MARK in content.get(WEIGHTS[entry.name], b"") and entry.damages(full=True):
            manager.remove(entry.name)
        else:
            found.append(f"{entry.name} in {entry.folder} is not what the server has")
            manager.remove(entry.name)
    return found


app = typer.Typer(add_completion=False)


@app.command()
def main(
    kills: Annotated[int, typer.Option(help="How many processes to kill.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
) -> None:
    """Kill pulls at random moments and count corrupt caches."""
    with tempfile.TemporaryDirectory() as home:
        report = run(kills, seed, Path(home))
    for label, value in report.rows().items():
        print(f"{label:<40}{value:>8}")
    for error in report.errors[:20]:
        print(error, file=sys.stderr)
    if json_file is not None:
        json_file.write_text(json.dumps({"seed": seed} | asdict(report), indent=1) + "\n")
    if report.corrupt or report.errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
