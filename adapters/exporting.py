"""Exporting: a stored adapter as a folder that PEFT loads, with its record, so that another store can take it in."""

import os
import shlex
import shutil
import uuid
from pathlib import Path

from adapters.index import RECORD
from adapters.peft_files import CONFIG, WEIGHTS
from adapters.store import StoredAdapter
from zoo.errors import StoreError


def export(stored: StoredAdapter, target: str | Path) -> Path:
    """Copy its three files into the new folder `target`, which appears whole.

    Raises StoreError where it exists already, AdapterError where the stored files are damaged."""
    target = Path(target).expanduser()
    staged = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    stored.check()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(
            f"{target} exists already",
            valid="a new or empty folder",
            remedy=f"boli adapters export {stored.key}@{stored.version} {shlex.quote(str(target))}-2",
        )
    try:
        staged.mkdir(parents=True)
        for name in (CONFIG, WEIGHTS, RECORD):
            shutil.copyfile(stored.folder / name, staged / name)
        os.rename(staged, target)
    except OSError as error:
        raise StoreError(
            f"{stored.name} could not be written to {target}: {error.strerror or error}",
            valid="a folder that you may write to, on a disk with room",
            remedy=f"boli adapters export {stored.key}@{stored.version} OTHER_FOLDER",
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return target
