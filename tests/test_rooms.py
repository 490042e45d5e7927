"""The plan of the house holds: who imports whom, what an import costs, what the console script says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "zoo": set(),
    "adapters": {"zoo"},
    "router": {"adapters", "zoo"},
    "training": {"router", "adapters", "zoo"},
    "analysis": {"training", "router", "adapters", "zoo"},
    "slurm": set(),
}
ROOMS = set(MAY_IMPORT)
FORBIDDEN = {"torchvision", "torchaudio"}


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_run_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        found = imports(path)
        wrong = (found & ROOMS) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"
        assert not found & FORBIDDEN, f"{path.relative_to(ROOT)} imports {sorted(found & FORBIDDEN)}"


def test_no_file_imports_upwards_relatively():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} imports relatively"


@pytest.mark.parametrize("room", [*sorted(ROOMS), "boli"])
def test_importing_a_room_is_cheap(room):
    """No heavy package comes along."""
    code = f"import sys, {room}; print([m for m in ('torch', 'transformers', 'peft', 'librosa', 'matplotlib') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_foreign_package_called_adapters_is_noticed(tmp_path):
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import router"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "is not boli's" in result.stderr
    assert "pip uninstall adapters" in result.stderr


def boli(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "boli.py"), *arguments], capture_output=True, text=True, cwd=ROOT, **options
    )


def test_help_lists_the_commands_and_every_command_has_help():
    import boli as script

    result = boli("--help")
    assert result.returncode == 0
    for name in script.COMMANDS:
        assert name in result.stdout
        if script.COMMANDS[name][0]:
            shown = boli(name, "--help")
            assert shown.returncode == 0, shown.stderr
            assert "Traceback" not in shown.stderr
    for name in script.BENCHES:
        assert boli("bench", name, "--help").returncode == 0


def test_an_unknown_command_lists_the_valid_ones():
    result = boli("transcrib")
    assert result.returncode == 2
    assert "no command 'transcrib'" in result.stderr
    assert "transcribe" in result.stderr


def test_errors_are_one_line_without_a_traceback(tmp_path):
    result = boli("transcribe", str(tmp_path / "no.wav"), "--model", "no-such-model")
    assert result.returncode == 1
    assert result.stderr.startswith("boli: ")
    assert "Traceback" not in result.stderr
