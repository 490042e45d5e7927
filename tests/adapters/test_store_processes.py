"""Many processes, and processes that are killed: small runs of what `python -m adapters.reliability` does at length."""

import json
import subprocess
import sys
from pathlib import Path

from adapters.reliability import scale

REPOSITORY = Path(__file__).parents[2]


def found(tmp_path: Path, *options: str) -> dict:
    """What the command found. A process of its own: it forks, and torch has used threads in this one."""
    told = tmp_path / "found.json"
    call = [sys.executable, "-m", "adapters.reliability", *options, "--json", str(told)]
    subprocess.run(call, check=True, cwd=REPOSITORY, timeout=300, stdout=subprocess.DEVNULL)
    (rows,) = json.loads(told.read_text()).values()
    return rows


def test_kills_leave_nothing_corrupt(tmp_path):
    rows = found(tmp_path, "--kills", "15", "--seed", "1")
    assert rows["killed under way"] >= 15
    for label in ("corrupt adapters seen", "adapters in two versions", "leftovers that reindex did not clear"):
        assert rows[label] == 0
    assert rows["live publishers disturbed by reindex"] == 0


def test_eighty_publishers_and_a_reader(tmp_path):
    rows = found(tmp_path, "--publishers", "80")
    for label in ("processes that failed", "adapters lost", "adapters doubled", "staging folders left"):
        assert rows[label] == 0
    assert rows["adapters the reader saw half-made or vanish"] == 0
    assert rows["adapters the reader had seen at the end"] == 41
    assert rows["times the reader looked"] > 1


def test_look_up_does_not_grow_with_the_store(tmp_path):
    rows = scale(1000, tmp_path)
    assert rows["look-up by key, median of 1,000, ms"] < 1
    assert rows["find by model, language and rank, median, ms"] < 1
    assert rows["reindex, s"] < 10
