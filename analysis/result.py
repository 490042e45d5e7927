"""How every analysis returns, and how it is saved.

An analysis is a plain function that returns a frozen dataclass with

    provenance: Provenance                        # what it rests on
    tables() -> dict[str, list[dict]]             # every number, as rows of named tables

so that the report, the CSV files and the tests read one and the same thing (the Protocol `Result` below). What belongs
to it stands in files of its own:

    analysis/result.py     Result, Provenance, save, read
    analysis/cache.py      Cache.item: what was computed once is kept under the checksum of its inputs, item by item
    analysis/progress.py   steps: an iterator with a bar on stderr
    analysis/figures.py    figure, save_figure, heat_map, interval_bars, scatter, readable, colours
    analysis/inputs.py     open_store, choose, load_base, read_clips, adapter_labels: the same choices in every command
    analysis/deltas.py     read_adapters, site by site: what each adapter adds to the base, as factors
    analysis/commands/     one file a sub-command with `register(app)`; it is found by its being there

`save` writes `<name>.json` (provenance and all tables) and one `<name>_<table>.csv` a table; `boli analyze report`
reads nothing else than these results. Numbers are plain Python numbers; a rate is a fraction, None is "not measured".
"""

import csv
import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from training.data.files import written_whole
from zoo.errors import DataError

KIND = "boli.analysis"
PACKAGES = ("torch", "transformers", "numpy", "scipy", "scikit-learn", "umap-learn")
Row = dict[str, Any]


@dataclass(frozen=True)
class Provenance:
    """What an analysis rests on, enough to run it again and to refuse to compare what cannot be compared."""

    analysis: str
    """`similarity`, `spectrum`, ...; the name of its files."""
    base: str = ""
    base_sha256: str = ""
    """Of the base model's weights; empty where the adapters name none and no base was loaded."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Adapter's name -> sha256 of its weights."""
    manifests: Mapping[str, str] = field(default_factory=dict)
    """Manifest's file name -> sha256."""
    test_set: str = ""
    """Hash of the clips used (training/evaluation/metrics.py)."""
    seeds: Mapping[str, int] = field(default_factory=dict)
    """What was drawn -> seed."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """adapters, sites, clips, words, resamples, ...: what the numbers are over."""
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What was left out, assumed or not measured, in words for a reader."""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: Mapping[str, str] = field(default_factory=lambda: machine())


@runtime_checkable
class Result(Protocol):
    """What every analysis returns."""

    @property
    def provenance(self) -> Provenance: ...

    def tables(self) -> dict[str, list[Row]]:
        """Name of each table -> its rows; the rows of one table have the same keys."""


def machine() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version(), "processor": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy and torch numbers and arrays become Python's; NaN and infinities None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def save(result: Result, folder: str | Path) -> dict[str, Path]:
    """Write `<name>.json` and `<name>_<table>.csv` into `folder`, each whole or not at all; name -> path.

    CSV bears a byte-order mark, so that spreadsheets show every script. Raises DataError where nothing can be written.
    """
    folder = Path(folder)
    name, tables = result.provenance.analysis, result.tables()
    content = {"kind": KIND, "provenance": plain(asdict(result.provenance)), "tables": plain(tables)}
    written = {name: folder / f"{name}.json"}
    with written_whole(written[name]) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for table, rows in tables.items():
        written[f"{name}_{table}"] = _write_csv(folder / f"{name}_{table}.csv", rows)
    return written


def read(path: str | Path) -> tuple[Provenance, dict[str, list[Row]]]:
    """Provenance and tables of a `<name>.json`. Raises DataError where it is none."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != KIND:
            raise ValueError(f"its kind is {content['kind']!r}")
        about = content["provenance"] | {"notes": tuple(content["provenance"]["notes"])}
        return Provenance(**about), content["tables"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no result of an analysis: {error}", valid=f"a file of kind {KIND}", remedy="boli analyze --help"
        ) from None


def _write_csv(path: Path, rows: Sequence[Row]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return path


def _cell(value: Any) -> Any:
    value = plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
