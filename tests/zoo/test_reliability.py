"""A few kills of the kill script; `python -m zoo.reliability --kills 200` does the rest."""

import json
import os
import subprocess
import sys

from zoo import manager


def test_killed_pulls_leave_a_right_cache(tmp_path):
    call = [sys.executable, "-m", "zoo.reliability", "--kills", "12", "--json", str(tmp_path / "report.json")]
    root = str(manager.CARDS.parent.parent)
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["kills"] >= 12
    assert report["corrupt"] == 0
    assert report["errors"] == []
    assert "corrupt caches" in done.stdout
