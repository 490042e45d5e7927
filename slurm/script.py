"""Job scripts that a cluster user can read: one sbatch file and one table of tasks for each job array."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import count, groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slurm.resources import Resources, megabytes, seconds, slurm_memory, slurm_time
from slurm.site import Site
from slurm.study import Study
from slurm.task import Task


@dataclass(frozen=True)
class Array:
    """Tasks of one phase that are submitted as one job array."""

    phase: str
    tasks: tuple[Task, ...]
    offset: int = 0
    """Task number = array index + offset; above 0 where a phase is longer than the cluster's longest array."""
    part: int = 0
    """Number among the phase's arrays of this submission; 0 where it is the only one."""
    counterparts: tuple[str, ...] = ()
    """Job arrays whose elements of the same index these tasks wait for (`aftercorr`)."""

    @property
    def name(self) -> str:
        return f"{self.phase}.{self.part}" if self.part else self.phase

    @property
    def resources(self) -> Resources:
        """What the array asks for: the most that any of its tasks needs."""
        return replace(
            self.tasks[0].resources,
            time=slurm_time(max(seconds(task.resources.time) for task in self.tasks)),
            memory=slurm_memory(max(megabytes(task.resources.memory) for task in self.tasks)),
        )

    def element(self, task: Task) -> int:
        return task.index - self.offset

    def lowered(self) -> list[tuple[str, str, str]]:
        """(elements, time, memory) of tasks that need less than the array asks for: `scontrol update` lowers them."""
        asked: dict[tuple[int, int], list[int]] = {}
        for task in self.tasks:
            key = seconds(task.resources.time), megabytes(task.resources.memory)
            asked.setdefault(key, []).append(self.element(task))
        whole = seconds(self.resources.time), megabytes(self.resources.memory)
        return [(ranges(elements), slurm_time(time), slurm_memory(memory))
                for (time, memory), elements in sorted(asked.items()) if (time, memory) != whole]  # fmt: skip


def ranges(numbers: Iterable[int]) -> str:
    """`[0, 1, 2, 5]` as SLURM writes it: `0-2,5`."""
    counter = count()
    runs = [list(group) for _, group in groupby(sorted(numbers), key=lambda number: number - next(counter))]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def write_array(array: Array, study: Study, site: Site, folder: Path, logs: Path) -> Path:
    """Write `<array>.sbatch` and its table `<array>.tsv` into `folder`; returns the script's path."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / f"{array.name}.tsv"
    manifest.write_text("".join(_row(task) for task in array.tasks), encoding="utf-8")
    script = folder / f"{array.name}.sbatch"
    script.write_text(render(array, study, site, manifest, logs), encoding="utf-8")
    return script


def _row(task: Task) -> str:
    columns = (task.index, task.id, task.fingerprint, task.resources.memory, seconds(task.resources.time), task.run)
    return "\t".join([*map(str, columns), task.command]) + "\n"


def render(array: Array, study: Study, site: Site, manifest: Path, logs: Path) -> str:
    phase = study.phases[array.phase]
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                            keep_trailing_newline=True, autoescape=False)  # fmt: skip
    templates.filters["q"] = lambda value: shlex.quote(str(value))
    return templates.get_template("array.sbatch.j2").render(
        study=study.name, phase=array.phase, title=phase.title, count=len(array.tasks), offset=array.offset,
        directives=directives(array, study, site, logs), manifest=manifest, logs=logs,
        python=site.python, python_folder=Path(site.python).parent, attempt=Path(__file__).with_name("attempt.py"),
        setup=site.environment.setup, variables=site.environment.variables | phase.variables,
        max_restarts=site.limits.max_restarts, min_free_gb=site.limits.min_free_gb, grace_s=_grace(array, site),
        torchrun=array.resources.launch == "torchrun", processes=max(1, array.resources.gpus),
    )  # fmt: skip


def directives(array: Array, study: Study, site: Site, logs: Path) -> Sequence[str]:
    """The script's `#SBATCH` options."""
    resources, phase = array.resources, study.phases[array.phase]
    elements = ranges(array.element(task) for task in array.tasks)
    parallel = phase.parallel or site.limits.parallel
    partition = resources.partition or (site.cpu_partition if resources.gpus == 0 else "") or site.partition
    lines = [
        f"--job-name={study.name}.{array.phase}",
        f"--array={elements}{f'%{parallel}' if parallel else ''}",
        f"--partition={partition}" if partition else "",
        f"--account={site.account}" if site.account else "",
        f"--qos={site.qos}" if site.qos else "",
        f"--time={resources.time}",
        f"--mem={resources.memory}",
        f"--nodes={resources.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={resources.cpus}",
        f"--gres={site.gres}:{resources.gpus}" if resources.gpus else "",
        f"--chdir={_quoted(Path.cwd())}",
        f"--output={_quoted(logs)}/%x_%A_%a.out",
        "--open-mode=append",  # a requeued job goes on writing in the same file
        "--requeue",
        f"--signal=B:USR1@{_grace(array, site)}",
        f"--mail-type={site.mail.events}" if site.mail.user else "",
        f"--mail-user={site.mail.user}" if site.mail.user else "",
        *site.directives,
    ]
    return [line for line in lines if line]


def _quoted(path: Path) -> str:
    """sbatch reads its directives with a shell's quotes."""
    return shlex.quote(str(path))


def _grace(array: Array, site: Site) -> int:
    """Seconds between the signal and the time limit: never more than a third of the shortest task's time."""
    return min(site.limits.grace_s, min(seconds(task.resources.time) for task in array.tasks) // 3)
