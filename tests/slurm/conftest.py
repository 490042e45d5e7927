"""A real SLURM for the tests that need one, and a folder to work in."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml

import boli
from tests.slurm import private_slurm

SITE = """
cpus = 1
gpus = 0
memory = "100M"
time = "5m"
[limits]
min_free_gb = 0
"""
REPOSITORY = Path(__file__).parent.parent.parent
TRAINING = Path(__file__).with_name("pretend_training.py")


@pytest.fixture(scope="session")
def cluster():
    """Folder of a private SLURM that runs for the whole session; skips, saying why, where none can run."""
    if reason := private_slurm.why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))  # short: it holds a unix socket
    before = dict(os.environ)
    private_slurm.start(folder)
    os.environ |= private_slurm.variables(folder)
    try:
        yield folder
    finally:
        private_slurm.stop(folder)
        os.environ.clear()
        os.environ |= before
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workplace(tmp_path, monkeypatch, capsys):
    """An empty project folder, made the working folder, and `boli slurm` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOLI_SITE", raising=False)
    return Workplace(tmp_path, capsys)


class Workplace:
    def __init__(self, folder: Path, capsys=None):
        self.folder, self.capsys = folder, capsys
        (folder / "site.toml").write_text(SITE)

    def study(self, phases: dict, name: str = "trial", **more) -> Path:
        """Write a study file; `{train}` in its commands is the pretended training."""
        values = {"train": str(TRAINING)} | more.pop("values", {})
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "values": values, "phases": phases, **more}, sort_keys=False))
        return path

    def boli(self, *arguments: object, code: int = 0) -> str:
        """Run `boli slurm ARGUMENTS`, check its exit code, return what it printed on both streams."""
        self.capsys.readouterr()
        got = boli.main(["slurm", *map(str, arguments)])
        said = self.capsys.readouterr()
        assert got == code, said.out + said.err
        return said.out + said.err

    def submit_apart(self, study: Path) -> None:
        """`boli slurm submit` in a process of its own: module-wide fixtures have no working folder of theirs."""
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "boli", "slurm", "submit", str(study)]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, stdout=subprocess.DEVNULL)

    def states(self, study: Path) -> dict[str, dict]:
        """phase/task -> its row of `boli slurm status --json`."""
        self.capsys.readouterr()
        boli.main(["slurm", "status", "--json", str(study)])
        rows = [json.loads(line) for line in self.capsys.readouterr().out.splitlines()]
        return {f"{row['phase']}/{row['task']}": row for row in rows}

    def until(self, study: Path, condition, timeout_s: float = 60.0) -> dict[str, dict]:
        """Look until `condition(states)` holds; fails with the states as they were."""
        end = time.monotonic() + timeout_s
        while not condition(states := self.states(study)):
            assert time.monotonic() < end, {name: (row["state"], row["note"]) for name, row in states.items()}
            time.sleep(0.3)
        return states

    def run_folder(self, task: str, study: str = "trial") -> Path:
        return self.folder / "runs" / study / task

    def read(self, task: str, name: str, study: str = "trial"):
        return json.loads((self.run_folder(task, study) / name).read_text())


def only(*states: str):
    """Condition for `until`: every task is in one of these states."""
    return lambda rows: all(row["state"] in states for row in rows.values())
