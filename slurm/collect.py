"""Gather the results of a study: one row per task, missing ones included and named."""

import csv
from pathlib import Path
from typing import Any

from slurm.errors import SlurmError
from slurm.state import Picture

FIXED = ("phase", "task", "state", "step", "steps", "restarts", "host", "job", "note", "run")


def rows(picture: Picture) -> list[dict[str, Any]]:
    """A row per task: what it is, its state, the grid's values and `metrics.<name>` of its status.json."""
    result = []
    for state in picture.tasks:
        task = state.task
        row: dict[str, Any] = {"phase": task.phase, "task": task.name, "state": state.state}
        # a grid value may be called like one of ours
        row |= {f"value.{name}" if name in FIXED else name: value for name, value in task.values.items()}
        row |= {"step": state.step, "steps": state.steps, "restarts": state.restarts, "host": state.host}
        row |= {f"metrics.{name}": value for name, value in state.metrics.items()}
        row |= {"job": state.job, "note": state.note, "run": str(task.run)}
        result.append(row)
    return result


def write(table: list[dict[str, Any]], path: Path) -> None:
    """Write `.csv` or `.parquet`, by the ending. Raises SlurmError for another one."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    columns.sort(key=lambda name: (name in ("job", "note", "run"), name.startswith("metrics.")))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(table)
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: _column([row.get(name) for row in table]) for name in columns}), path)
    else:
        raise SlurmError(f"Results cannot be written as {path.name!r}", valid="a name that ends in .csv or .parquet")


def _column(values: list[Any]) -> list[Any]:
    """A parquet column has one type: numbers stay numbers where all are, anything else becomes text."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return values
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        whole = all(isinstance(value, int) for value in present)
        return values if whole else [None if value is None else float(value) for value in values]
    return [None if value is None else str(value) for value in values]
