"""Submit tasks as job arrays that wait for each other, or show what would be submitted."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from slurm import scheduler
from slurm.errors import SlurmError
from slurm.ledger import Ledger
from slurm.script import Array, write_array
from slurm.state import Picture, TaskState
from slurm.task import Task

# (script, sbatch options, array, folder) -> job id
PATIENCE_S = 60.0  # how long another `boli slurm` on the same study is waited for

Sender = Callable[[Path, Sequence[str], Array, Path], str]


@dataclass
class Submission:
    """What was submitted (or, in a plan, what would be)."""

    folder: Path
    arrays: list[tuple[Array, str, tuple[str, ...]]] = field(default_factory=list)
    """(array, its job id, the sbatch options it was given)."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Phase -> why some of its tasks could not be submitted."""
    remarks: list[str] = field(default_factory=list)

    @property
    def tasks(self) -> int:
        return sum(len(array.tasks) for array, _, _ in self.arrays)


def plan(picture: Picture, chosen: Iterable[Task]) -> Submission:
    """Write the scripts into `<study folder>/plan` and submit nothing; ids stand as `<phase>`."""
    folder = picture.folder / "plan"
    for old in [*folder.glob("*.sbatch"), *folder.glob("*.tsv")]:
        old.unlink()
    return _arrange(picture, chosen, Submission(folder), lambda script, options, array, where: f"<{array.name}>")


def submit(picture: Picture, chosen: Iterable[Task]) -> Submission:
    """Submit the chosen tasks; each id is on disk before the next array is sent.

    The caller holds `lock(...)` and has looked at the study inside it, so that two submissions at once cannot both
    send the same task. Raises SlurmError with SLURM's words; what was sent until then stays known.
    """
    ledger = Ledger(picture.folder)
    result = Submission(ledger.new_submission())

    def send(script: Path, options: Sequence[str], array: Array, folder: Path) -> str:
        entry = ledger.intend(folder, array)
        job = scheduler.sbatch(script, options, entry.mark)
        ledger.note(folder, entry.mark, job)
        if lowered := array.lowered():
            result.remarks += scheduler.release(job, lowered)
        return job

    return _arrange(picture, chosen, result, send)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Held while a study is looked at and submitted, or run here. Raises SlurmError where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=PATIENCE_S):
            yield
    except Timeout:
        raise SlurmError(f"Another `boli slurm` is submitting or running {str(folder)!r}",
                         remedy="wait for it, or end it") from None  # fmt: skip


def _arrange(picture: Picture, chosen: Iterable[Task], result: Submission, send: Sender) -> Submission:
    by_id = {state.task.id: state for state in picture.tasks}
    sent: dict[str, str] = {}  # task id -> array that it was sent with just now
    chosen = list(chosen)
    logs = picture.folder / picture.site.logs
    logs.mkdir(parents=True, exist_ok=True)
    for phase in picture.study.order():
        tasks = [task for task in chosen if task.phase == phase]
        if not tasks:
            continue
        tasks, dependency, counterparts, why = _dependencies(picture, phase, tasks, by_id, sent)
        if why:
            result.skipped[phase] = why
        for array in _arrays(tasks, counterparts, picture.site.limits.max_array):
            script = write_array(array, picture.study, picture.site, result.folder, logs)
            wants = [*dependency, *(f"aftercorr:{job}" for job in array.counterparts)]
            options = [f"--dependency={','.join(wants)}", "--kill-on-invalid-dep=yes"] if wants else []
            if array.lowered():
                options.append("--hold")
            job = send(script, options, array, result.folder)
            sent |= {task.id: job for task in array.tasks}
            result.arrays.append((array, job, tuple(options)))
    return result


def _dependencies(
    picture: Picture, phase: str, tasks: list[Task], by_id: dict[str, TaskState], sent: dict[str, str]
) -> tuple[list[Task], list[str], dict[str, tuple[str, ...]], str]:
    """Returns (tasks that can be sent, dependencies of all of them, task id -> its own counterparts, what is amiss)."""
    shared: list[str] = []
    counterparts: dict[str, tuple[str, ...]] = {task.id: () for task in tasks}
    why = ""
    for need, kind in picture.study.phases[phase].needs.items():
        needed = [state.task for state in picture.of(need)]
        missing = {task.id for task in needed if not _will_be(task, kind, by_id, sent)}
        if kind == "aftercorr":
            names = [task.id for task in needed]
            tasks = [task for task in tasks if names[task.index] not in missing]
            for task in tasks:
                if job := _job_array(names[task.index], by_id, sent):
                    counterparts[task.id] += (job,)
        elif missing:
            tasks = []
        else:
            # what was sent just now is named as a whole; of older arrays only what still runs, because an element
            # that failed there and was submitted again elsewhere would make the whole array's success impossible
            jobs = dict.fromkeys(sent.get(t.id) or by_id[t.id].job for t in needed if t.id in sent or by_id[t.id].live)
            if jobs:
                shared.append(":".join([kind, *jobs]))
        if missing:
            unsubmitted = sum(by_id[name].state in ("planned", "preempted") for name in missing)
            why = f"needs {need!r}: {len(missing) - unsubmitted} tasks did not succeed, {unsubmitted} are not submitted"
    return tasks, shared, counterparts, why


def _will_be(task: Task, kind: str, by_id: dict[str, TaskState], sent: dict[str, str]) -> bool:
    """Whether a task has met, or may yet meet, what `kind` asks of it."""
    state = by_id[task.id]
    ended = kind == "afterany" and state.state in ("failed", "cancelled", "lost", "blocked")
    return state.state == "done" or task.id in sent or state.live or ended


def _job_array(name: str, by_id: dict[str, TaskState], sent: dict[str, str]) -> str:
    """The job array in which a task runs or waits; empty where it is done."""
    return sent.get(name) or (by_id[name].job.split("_")[0] if by_id[name].live else "")


def _arrays(tasks: list[Task], counterparts: dict[str, tuple[str, ...]], longest: int) -> list[Array]:
    """One array where possible. Several where tasks differ in GPUs, cores, nodes, partition or launcher, wait for
    different arrays element by element, or are more than the cluster takes in one."""
    groups: dict[tuple, list[Task]] = {}
    for task in tasks:
        key = (task.index // longest, counterparts[task.id], task.resources.shape)
        groups.setdefault(key, []).append(task)
    return [Array(group[0].phase, tuple(group), chunk * longest, number if len(groups) > 1 else 0, waits_for)
            for number, ((chunk, waits_for, _), group) in enumerate(groups.items(), 1)]  # fmt: skip
