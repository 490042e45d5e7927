"""Which weights and which tokenizer a folder holds, as checksums that adapters' records can name."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from zoo.checksum import sha256
from zoo.errors import ModelError

WEIGHT_SUFFIXES = (".safetensors", ".pth")
NOT_ADAPTED = ("ctc.safetensors",)
"""Heads beside the model: adapters fit whatever they are."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "bpe.model", "tokens.txt")


def weights_sha256(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> str:
    """Sha256 over the sha256 of each weight file, in name order; of the one file itself where there is one.

    known: file name -> sha256 that was verified already (a card's files), so that gigabytes are not read again."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in WEIGHT_SUFFIXES and path.is_file() and path.name not in NOT_ADAPTED
    )
    if not files:
        raise ModelError(f"{folder} holds no weights", valid=" or ".join(WEIGHT_SUFFIXES))
    sums = [known.get(path.name) or sha256(path) for path in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def tokenizer_sha256(folder: Path) -> str:
    """Sha256 of what turns text into ids and back: vocabulary, merges and added tokens, however a tokenizer.json writes them
    down (each release of its library writes the same tokenizer in other bytes). Of the first tokenizer file where there is no
    tokenizer.json; empty where there is none."""
    if not (folder / TOKENIZER_FILES[0]).is_file():
        return tokenizer_file_sha256(folder)
    content = json.loads((folder / TOKENIZER_FILES[0]).read_text(encoding="utf-8"))
    model = content["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges", [])]
    added = [[token["id"], token["content"]] for token in content.get("added_tokens", [])]
    vocabulary = model["vocab"]
    said = [sorted(vocabulary.items()) if isinstance(vocabulary, dict) else vocabulary, merges, sorted(added)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def tokenizer_file_sha256(folder: Path) -> str:
    """Sha256 of the first tokenizer file there is; empty where there is none."""
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            return sha256(folder / name)
    return ""


def tokenizer_as_named(base, named: str) -> str:
    """The checksum of the base's tokenizer in the terms of a record that names one: records written before 2026-12 name the
    file, later ones what it does."""
    folder = getattr(base, "folder", None)
    return named if folder is not None and named == tokenizer_file_sha256(folder) else base.tokenizer_sha256
