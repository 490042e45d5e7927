"""A task: one command line of a study with its run folder, its resources and its fingerprint."""

import hashlib
import itertools
import json
import re
import shlex
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.errors import SlurmError
from slurm.reading import check_type
from slurm.resources import Resources
from slurm.site import Site
from slurm.study import Phase, Study


@dataclass(frozen=True)
class Task:
    phase: str
    name: str
    index: int
    """Place within its phase, from 0: always its number in the job array, also when it is submitted again."""
    values: dict[str, Any]
    """Grid and case values that made it."""
    command: str
    """Shell command line, all placeholders filled."""
    run: Path
    """Its folder, absolute."""
    resources: Resources
    fingerprint: str
    """16 hex digits over name, command, variables and inputs. Equal fingerprints mean the same work, so a finished task
    is never run twice, and a changed one never passes for finished."""

    @property
    def id(self) -> str:
        return f"{self.phase}/{self.name}"


def study_folder(study: Study, site: Site) -> Path:
    return Path(site.runs).resolve() / study.name


def expand(study: Study, site: Site) -> list[Task]:
    """All tasks of a study, phase by phase in the order of their needs.

    Raises SlurmError for an unknown placeholder, two tasks of one name, or `aftercorr` between phases of unequal size.
    """
    tasks: list[Task] = []
    sizes = {}
    for phase_name in study.order():
        phase = study.phases[phase_name]
        made = _tasks(study, phase_name, phase, site)
        names = [task.name for task in made]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SlurmError(f"Phase {phase_name!r} has two tasks named {min(twice)!r}",
                             remedy="give `task:` a template that names all values")  # fmt: skip
        sizes[phase_name] = len(made)
        for need, kind in phase.needs.items():
            if kind == "aftercorr" and sizes[need] != len(made):
                raise SlurmError(f"Phase {phase_name!r} ({len(made)} tasks) needs {need!r} ({sizes[need]} tasks) as "
                                 "aftercorr", valid="phases with equally many tasks", remedy="use afterok")  # fmt: skip
        tasks += made
    return tasks


def unused_values(phase: Phase) -> list[str]:
    """Names of the grid that the command does not mention: tasks that would do the same work under several names."""
    mentioned = {name for _, name, _, _ in string.Formatter().parse(phase.command)}
    return [name for name in phase.grid if name not in mentioned]


def _tasks(study: Study, phase_name: str, phase: Phase, site: Site) -> list[Task]:
    cases = phase.cases or [{}]
    combinations = [dict(zip(phase.grid, choice, strict=True)) for choice in itertools.product(*phase.grid.values())]
    tasks: list[Task] = []
    for case in cases:
        for combination in combinations:
            values = {**case, **combination}
            if any(all(values.get(k) == v for k, v in pattern.items()) for pattern in phase.exclude):
                continue
            tasks.append(_task(study, phase_name, phase, site, values, len(tasks)))
    if not tasks:
        raise SlurmError(f"Phase {phase_name!r} has no tasks", remedy="exclude less")
    return tasks


def _task(study: Study, phase_name: str, phase: Phase, site: Site, values: dict, index: int) -> Task:
    where = f"Phase {phase_name!r}"
    folder = study_folder(study, site)
    known = {**study.values, **values, "runs": str(folder), "study": study.name, "phase": phase_name}
    default = "_".join(str(value) for value in values.values()) or phase_name
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", _fill(phase.task, known, f"{where}: task") if phase.task else default)
    if not name.strip("-."):
        raise SlurmError(f"{where} has a task named {name!r}", valid="at least one letter or digit")
    known["name"] = name
    run = folder / phase_name / name
    asked = phase.resources
    if isinstance(asked, str):
        asked = {"like": asked}
    asked = dict(asked)
    if "like" in asked:
        like = _fill(asked.pop("like"), known, f"{where}: resources")
        if like not in study.resources:
            raise SlurmError(f"{where}: there are no resources {like!r}",
                             valid=", ".join(study.resources) or "none: the study has no `resources`")  # fmt: skip
        check_type(study.resources[like], dict, f"Study resources {like!r}")
        asked = study.resources[like] | asked
    resources = site.resources(asked, f"{where}: resources")
    inputs = {_fill(item, known, f"{where}: inputs"): "" for item in phase.inputs}
    for item in inputs:
        if not Path(item).is_file():
            raise SlurmError(
                f"{where}: the input {item!r} is no file", remedy="call boli slurm from the project's folder"
            )
        inputs[item] = hashlib.sha256(Path(item).read_bytes()).hexdigest()
    # The run folder is left out of the fingerprint: a project that was moved has not become another one.
    identity = [
        [study.name, phase_name, name],
        _fill(phase.command, known | {"run": "{run}", "runs": "{runs}"}, f"{where}: command", shell=True),
        phase.variables,
        inputs,
    ]
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    command = _fill(phase.command.strip(), known | {"run": str(run)}, f"{where}: command", shell=True)
    return Task(phase_name, name, index, values, command, run, resources, fingerprint)


def _fill(template: str, values: Mapping[str, Any], where: str, shell: bool = False) -> str:
    """`template` with its placeholders filled; `shell`: each value quoted, a list as several words."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            return " ".join(text(item) for item in value)
        if not isinstance(value, str | int | float):
            raise SlurmError(f"{where} uses {value!r}", valid="text, numbers, true and false, or a list of them")
        return shlex.quote(str(value)) if shell else str(value)

    filled = ""
    try:
        for literal, name, specification, conversion in string.Formatter().parse(template):
            filled += literal
            if name is None:
                continue
            if specification or conversion or name not in values:
                shown = f"{name}:{specification}" if specification else name
                raise SlurmError(f"{where} has the unknown placeholder {{{shown}}}", valid=", ".join(sorted(values)),
                                 remedy="write literal braces twice: {{ and }}")  # fmt: skip
            filled += text(values[name])
    except ValueError as error:
        raise SlurmError(f"{where} is {template!r}: {error}", remedy="write literal braces twice: {{ and }}") from None
    return filled
