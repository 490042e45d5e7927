"""The README's commands run as they stand, from the clone, as a newcomer would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind):
    """Code blocks marked `<!-- run: KIND -->`."""
    return re.findall(rf"<!-- run: {kind} -->\n```{kind}\n(.*?)```", README, flags=re.S)


def run(arguments, tmp_path, **options):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "BOLI_HOME": str(tmp_path / "home"), "BOLI_OFFLINE": "1"}
    return subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, **options)


def test_there_is_something_to_run():
    assert len(blocks("python")) >= 1
    assert len(blocks("sh")) >= 1


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks(code, tmp_path):
    result = run([sys.executable, "-c", code], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "te" in result.stdout


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if line.strip()])
def test_shell_lines(line, tmp_path):
    """Each by itself; what a line writes goes to a folder of the test."""
    line = line.replace("> ", f"> {tmp_path}/")
    if not (Path(sys.executable).parent / "boli").exists():
        line = re.sub(r"^boli ", f"{sys.executable} boli.py ", line)
    result = run(["bash", "-c", line], tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout or any(tmp_path.iterdir())


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"\]\(([\w./-]+)\)", README))
    named |= {f"{room}/{file}" for room, file in re.findall(r"`(zoo|adapters|router|training)/([\w./]+\.py)`", README)}
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert missing == []


def test_the_demo(tmp_path):
    """What `make demo` runs once everything is installed."""
    result = run([sys.executable, "-m", "router.demo"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert "te_human.ogg" in result.stdout
    assert "word errors in" in result.stdout
