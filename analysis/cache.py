"""What an analysis computed once is kept, under the checksum of all it was computed from.

An analysis is cut into items (one adapter under one layer's ablation, say), each a dict of numbers, texts and arrays.
An interrupted analysis goes on with the first item that is missing. An item is one file that appears whole; one that
cannot be read is computed again. The cache can be deleted at any time.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.result import plain
from training.data.files import written_whole

Item = dict[str, Any]
_PLAIN = "__plain__"


def default_folder() -> Path:
    """`BOLI_HOME/analysis`."""
    from zoo.cache import home

    return home() / "analysis"


def digest(key: Mapping[str, Any]) -> str:
    """32 hex digits of a key: plain values, in whatever order."""
    return hashlib.sha256(json.dumps(plain(key), sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


class Cache:
    """folder: where it lies; None: nothing is kept."""

    def __init__(self, folder: str | Path | None):
        self.folder = Path(folder).expanduser() if folder is not None else None
        self.found = 0
        """Items that were there already."""
        self.made = 0

    def item(self, kind: str, key: Mapping[str, Any], compute: Callable[[], Item]) -> Item:
        """The item of `kind` made from `key`, computed where it is not there yet.

        kind: name and version of the computation (`layers-1`): a change of the code gets a new one. key: checksums of
        all inputs, and the options. compute: gives a dict of plain values and numpy arrays. Raises DataError where the
        folder cannot be written.
        """
        if self.folder is None:
            self.made += 1
            return compute()
        path = self.folder / kind / f"{digest(key)}.npz"
        item = _read(path)
        if item is not None:
            self.found += 1
            return item
        item = compute()
        _write(path, item)
        self.made += 1
        return item


def _read(path: Path) -> Item | None:
    import zipfile

    import numpy as np

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files if name != _PLAIN}
            return json.loads(str(held[_PLAIN])) | arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, item: Item) -> None:
    import numpy as np

    arrays: dict[str, Any] = {name: value for name, value in item.items() if isinstance(value, np.ndarray)}
    rest = json.dumps({name: plain(value) for name, value in item.items() if name not in arrays}, ensure_ascii=False)
    with written_whole(path) as temporary:
        np.savez(temporary, **{**arrays, _PLAIN: np.array(rest)})
