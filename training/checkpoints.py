"""Checkpoints that are whole or not there.

A checkpoint is a folder `step-<n>`, written under another name, synced and renamed. `latest` and `best` are links
replaced atomically, so a job killed at any moment leaves the last whole checkpoint behind them.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from training.data.files import cannot_write

LINKS = ("latest", "best")


def write(folder: Path, step: int, fill: Callable[[Path], None], best: bool = False) -> Path:
    """Write checkpoint `step` through `fill(staging folder)`, point `latest` (and `best`) to it, drop older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"step-{step:08d}{f'.{again}' if again else ''}" for again in range(1_000_000))
    final = next(folder / name for name in names if not (folder / name).exists())  # a resumed job may come by again
    staged = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir()
        fill(staged)
        sync(staged)
        os.rename(staged, final)
    except Exception as error:
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError):
            raise cannot_write(final, error) from error
        if "No space left" in str(error):  # safetensors and torch wrap what the system said
            raise cannot_write(final, OSError(errno.ENOSPC, str(error))) from error
        raise
    _point(folder / "latest", final.name)
    if best:
        _point(folder / "best", final.name)
    prune(folder)
    return final


def read(folder: Path, name: str = "latest") -> Path | None:
    """The folder that link `name` points to, or the newest whole checkpoint where the link is lost; None: no one."""
    link = folder / name
    if link.is_dir():
        return link.resolve()
    whole = sorted(folder.glob("step-*"))
    return whole[-1] if whole and name == "latest" else None


def prune(folder: Path) -> None:
    """Remove checkpoints that no link points to, and what killed jobs left half-written."""
    kept = {os.readlink(folder / name) for name in LINKS if (folder / name).is_symlink()}
    for path in folder.iterdir():
        stale = path.name.startswith("step-") and path.name not in kept
        if stale or (path.name.startswith(".step-") and path.is_dir()):
            shutil.rmtree(path, ignore_errors=True)


def sync(folder: Path) -> None:
    """Flush every file of `folder`, and the folder, to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _point(link: Path, target: str) -> None:
    staged = link.with_name(f".{link.name}.{os.getpid()}")
    staged.unlink(missing_ok=True)
    os.symlink(target, staged)
    os.replace(staged, link)
