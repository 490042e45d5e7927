"""Weights that run code when they are read are not kept: safetensors only."""

import json
import struct
import zipfile
from pathlib import Path

from zoo.errors import ModelError

PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".mar", ".nemo"}
_PROTOCOLS = {bytes([0x80, protocol]) for protocol in range(2, 6)}
_MAX_HEADER_BYTES = 100 << 20  # what the safetensors library itself accepts


def pickled(folder: Path) -> list[Path]:
    """Files under `folder` that are pickles, by their name or by their first bytes."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_pickled(path)]


def _is_pickled(path: Path) -> bool:
    if path.suffix.lower() in PICKLED:
        return True
    if path.suffix == ".safetensors":
        return False  # its own reader refuses anything else, see `check_safetensors`
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] in _PROTOCOLS:
        return True
    if magic == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    return False


def check_tensors(path: Path, name: str) -> None:
    """Raises ModelError where a pickle holds more than tensors and plain values. No code of it runs: torch's own
    restricted reader (`weights_only`) reads it."""
    import pickle

    import torch

    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        why = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), str(error))
        raise ModelError(
            f"{path.name} of {name} cannot be read as tensors alone: {why.strip().splitlines()[0]}",
            valid="checkpoints that hold tensors and plain values, which torch.load(..., weights_only=True) reads",
            remedy=f"ask whoever packed {name} for its weights alone (a state dict)",
        ) from None


def refusal(name: str, found: list[str], get: str) -> ModelError:
    """The error for a model that has only pickled weights.

    found: the files' names. get: the command that brings the files into FOLDER and enters it.
    """
    return ModelError(
        f"{name} has pickled weights only ({', '.join(found[:3])}): reading them can run any code",
        valid="safetensors, or a family that checks pickles itself (`boli zoo pull --family`)",
        remedy=f"if you trust it: {get}"
        ' && python -c "import torch; from safetensors.torch import save_file; '
        f"save_file({{k: v.clone() for k, v in torch.load('{found[0]}', weights_only=True).items()}}, "
        f"'model.safetensors', metadata={{'format': 'pt'}})\" && boli zoo pull {name} --from .",
    )


def check_safetensors(path: Path, name: str) -> None:
    """Raises ModelError unless `path` is a whole safetensors file. Reads the header only."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER_BYTES, size):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(file.read(length))
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        end = 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        if end != size:
            raise ValueError(f"{size:,} bytes where its header announces {end:,}")
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise ModelError(
            f"{path.name} of {name} is no whole safetensors file ({error})",
            valid="a file that safetensors wrote, untouched",
            remedy="download or copy it again from where it is whole, then pull again",
        ) from None
