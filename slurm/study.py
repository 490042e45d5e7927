"""A study: phases of command lines over grids of values (YAML; `slurm/studies/` holds the ones that ship)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from slurm.errors import SlurmError
from slurm.reading import build, check_type, read_yaml

NEEDS = ("afterok", "aftercorr", "afterany")
RESERVED = ("study", "phase", "name", "run", "runs")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Phase:
    """Tasks that differ only in the values of a grid. Each field's text is the reference for study files."""

    command: str
    """The command line, with `{placeholders}`: the names of the grid, the cases and the study's `values`, and `{run}`
    (the task's own folder), `{runs}` (the study's, where phases hold tasks), `{name}`, `{phase}`, `{study}`. Values
    are quoted for the shell; a list becomes several words. Literal braces are written twice."""
    title: str = ""
    """One line that says what the phase is for."""
    grid: dict = field(default_factory=dict)
    """Name -> list of values: one task for every combination."""
    cases: list = field(default_factory=list)
    """List of mappings, crossed with the grid: values that belong together (`{model: ..., size: small}`)."""
    exclude: list = field(default_factory=list)
    """Combinations to leave out: mappings of some of the names to a value each."""
    task: str = ""
    """Name of a task, with placeholders; default: its values joined by `_`."""
    needs: Any = field(default_factory=list)
    """Phases that come first: a list (all must succeed), or a mapping to `afterok` (all succeeded), `aftercorr` (task
    i after task i) or `afterany` (all ended, well or not)."""
    resources: Any = field(default_factory=dict)
    """Name of an entry of the study's `resources` (placeholders allowed), or a mapping; `like: NAME` in it starts
    from that entry."""
    parallel: int = 0
    """At most this many tasks at once; 0: the site's limit."""
    inputs: list = field(default_factory=list)
    """Files (placeholders allowed) that a task depends on: when their content changes, it is to be run again."""
    variables: dict = field(default_factory=dict)
    """Environment variables of the tasks."""


@dataclass(frozen=True)
class Study:
    name: str
    """Also the name of its folder under the site's `runs`."""
    phases: dict
    """Name -> phase, in the order in which they are shown."""
    title: str = ""
    values: dict = field(default_factory=dict)
    """Values for placeholders, the same in all phases."""
    resources: dict = field(default_factory=dict)
    """Name -> what a task asks for: time, memory, gpus, cpus, nodes, partition, launch."""

    def order(self) -> list[str]:
        """Phase names, each after all that it needs."""
        sorter = TopologicalSorter({name: list(phase.needs) for name, phase in self.phases.items()})
        sorter.prepare()
        place = {name: number for number, name in enumerate(self.phases)}
        ready: set[str] = set()
        found: list[str] = []
        while sorter.is_active():
            ready.update(sorter.get_ready())
            found.append(min(ready, key=place.__getitem__))
            ready.remove(found[-1])
            sorter.done(found[-1])
        return found


def load_study(path: Path) -> Study:
    """Read and check a study file. Raises SlurmError naming the key, what it was, and what is valid."""
    data = read_yaml(path)
    where = f"Study {str(path)!r}"
    phases = data.get("phases")
    if not isinstance(phases, dict) or not phases:
        raise SlurmError(f"{where} has no phases", valid="phases: {NAME: {command: ...}}")
    for name in [data.get("name", ""), *phases]:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise SlurmError(f"{where} has the name {name!r}", valid="letters, digits and . _ + - (it names a folder)")
    data["phases"] = {name: _phase(phase, f"{where}, phase {name!r}") for name, phase in phases.items()}
    study = build(Study, data, where)
    for name, phase in study.phases.items():
        for need in phase.needs:
            if need not in study.phases:
                raise SlurmError(f"{where}, phase {name!r} needs the unknown phase {need!r}", valid=", ".join(phases))
    try:
        study.order()
    except CycleError as error:
        raise SlurmError(f"{where} has phases that wait for each other: {' -> '.join(error.args[1])}") from None
    return study


def _phase(data: Any, where: str) -> Phase:
    if isinstance(data, Mapping) and isinstance(data.get("needs", []), list):
        data = {**data, "needs": dict.fromkeys(data.get("needs", []), "afterok")}
    phase = build(Phase, data, where)
    if not isinstance(phase.needs, dict):
        raise SlurmError(f"{where}: needs is {phase.needs!r}", valid="a list of phases, or a mapping phase: afterok")
    for need, kind in phase.needs.items():
        if kind not in NEEDS:
            raise SlurmError(f"{where}: needs {need} as {kind!r}", valid=", ".join(NEEDS))
    if not isinstance(phase.resources, dict | str):
        raise SlurmError(f"{where}: resources is {phase.resources!r}", valid="a name or a mapping")
    if not phase.command.strip() or "\n" in phase.command.strip() or "\t" in phase.command:
        raise SlurmError(f"{where}: command is {phase.command!r}", valid="one line",
                         remedy="fold it with `command: >-`, or put several steps into a script")  # fmt: skip
    if phase.parallel < 0:
        raise SlurmError(f"{where}: parallel is {phase.parallel}", valid="0 or more")
    for name, values in phase.grid.items():
        check_type(values, list, f"{where}: grid {name}")
        if not values:
            raise SlurmError(f"{where}: grid {name} is empty", valid="at least one value")
    for case in [*phase.cases, *phase.exclude]:
        check_type(case, dict, f"{where}: cases and exclude")
    names = set(phase.grid).union(*phase.cases)
    if both := sorted(names.intersection(RESERVED) | (set(phase.grid) & set().union(*phase.cases))):
        raise SlurmError(f"{where}: the name {both[0]!r} is taken", valid="a name of its own for each value")
    for pattern in phase.exclude:
        if unknown := sorted(set(pattern) - names):
            raise SlurmError(f"{where}: exclude has the unknown name {unknown[0]!r}", valid=", ".join(sorted(names)))
    return phase
