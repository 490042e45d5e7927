"""`zoo.lock`: pins the revisions and checksums of the models that a project uses.

A JSON file that belongs into version control. Where it lies in the working directory (or where `BOLI_LOCK` points),
`boli zoo pull` brings exactly the pinned state, and `zoo.load` refuses any other.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import ModelError

NAME = "zoo.lock"
_FORMAT = 1


@dataclass(frozen=True)
class Pin:
    """One model of a lock."""

    source: str
    revision: str
    """Commit of a hub model; empty for sources that have none."""
    version: str
    """Name of its folder in the cache."""
    files: dict[str, str]
    """File name -> sha256."""


def path() -> Path:
    """`BOLI_LOCK`, by default zoo.lock in the working directory; it need not exist."""
    return Path(os.environ.get("BOLI_LOCK") or NAME).expanduser().absolute()


def read() -> dict[str, Pin]:
    """Name -> Pin; empty where there is no lock. Raises ModelError for a damaged one."""
    file = path()
    try:
        content = json.loads(file.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, known is {_FORMAT}")
        return {name: Pin(**pin) for name, pin in content["models"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{file} cannot be read as a lock ({type(error).__name__}: {error})",
            valid="a file that `boli zoo lock` wrote",
            remedy=f"rm {file} && boli zoo lock",
        ) from None


def write(pins: dict[str, Pin]) -> Path:
    """Replace the lock, atomically."""
    file = path()
    content = {"format": _FORMAT, "models": {name: vars(pin) for name, pin in sorted(pins.items())}}
    temporary = file.with_name(f"{file.name}.{os.getpid()}.new")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    temporary.replace(file)
    return file


def differences(pin: Pin, files: dict[str, str]) -> list[str]:
    """What a model with `files` (name -> sha256) has otherwise than `pin`, one line for each file."""
    found = [f"{name} is missing" for name in sorted(set(pin.files) - set(files))]
    found += [f"{name} is not pinned" for name in sorted(set(files) - set(pin.files))]
    both = sorted(set(pin.files) & set(files))
    return found + [
        f"{name} has sha256 {files[name]}, pinned is {pin.files[name]}"
        for name in both
        if files[name] != pin.files[name]
    ]
