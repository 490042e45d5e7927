"""What state each task is in: its own status file first, then the accounting database, then the queue."""

import math
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from slurm import attempt, scheduler
from slurm.errors import SlurmError
from slurm.ledger import NEVER_SENT, Ledger
from slurm.site import Site
from slurm.study import Study
from slurm.task import Task, expand, study_folder

STATES = ("done", "running", "preempted", "queued", "failed", "blocked", "cancelled", "lost", "planned")
UNHAPPY = ("failed", "blocked", "cancelled", "lost")


@dataclass(frozen=True)
class TaskState:
    task: Task
    state: str
    """`planned` not submitted; `queued` waits in SLURM; `running`; `preempted` stopped in time, continues where it
    was; `done`; `failed`; `blocked` cancelled because a task that it needs failed; `cancelled`; `lost` said that it
    runs, but no job does."""
    job: str = ""
    """SLURM's id, `123_4`; empty where none was submitted."""
    live: bool = False
    """Whether SLURM (or a local run) has it in hand."""
    step: int = 0
    steps: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    eta_s: float | None = None
    restarts: int = 0
    host: str = ""
    note: str = ""
    """Why it failed, or what it waits for."""

    @property
    def wer(self) -> float | None:
        """The newest word error rate among the metrics, a share of 1 (not the best so far); None without one."""
        for name, value in reversed(self.metrics.items()):
            words = name.lower().replace("/", "_").split("_")
            if words[-1] == "wer" and words[0] != "best" and isinstance(value, int | float):
                return float(value)
        return None


@dataclass(frozen=True)
class Picture:
    """A study at one moment."""

    study: Study
    site: Site
    folder: Path
    tasks: list[TaskState]
    remarks: list[str]
    """What could not be found out, and why."""

    def counts(self) -> Counter:
        return Counter(state.state for state in self.tasks)

    def of(self, phase: str) -> list[TaskState]:
        return [state for state in self.tasks if state.task.phase == phase]


def look(study: Study, site: Site) -> Picture:
    """The state of every task of `study`. SLURM is asked only where jobs were submitted and are not yet done."""
    folder = study_folder(study, site)
    ledger = Ledger(folder)
    remarks: list[str] = []
    _find_orphans(ledger, remarks)
    submitted = ledger.jobs()
    tasks = expand(study, site)
    first = {task.id: from_files(task, site) for task in tasks}
    # a job that was submitted by hand, with sbatch, is known from its task.json
    asked = {task.id: submitted.get((task.id, task.fingerprint)) or first[task.id].job for task in tasks}
    open_jobs = [asked[i] for i, state in first.items() if state.state != "done" and asked[i]]
    jobs: dict[str, scheduler.Job] = {}
    if open_jobs:
        jobs = scheduler.sacct(scheduler.array_ids(open_jobs))
        try:
            # the queue knows better what is alive; the database, where there is one, what has died long ago
            jobs |= scheduler.squeue()
        except SlurmError as error:
            remarks.append(f"SLURM does not answer, so only status files are shown. {error}")
            jobs = {}
    # without any answer from SLURM, a job that was submitted is taken to be where its status file left it
    known = not remarks or bool(jobs)
    states = [with_job(first[t.id], asked[t.id], _job(jobs, asked[t.id]), known, study.name) for t in tasks]
    return Picture(study, site, folder, _with_blocked(states, study), remarks)


def _job(jobs: dict[str, scheduler.Job], job_id: str) -> scheduler.Job | None:
    """The answer about one element; one about the whole array stands where it was cancelled before it was split."""
    return jobs.get(job_id) or jobs.get(job_id.split("_")[0])


def _find_orphans(ledger: Ledger, remarks: list[str]) -> None:
    """A `boli` that was killed between sbatch and its answer left a job without an id: find it by its comment."""
    orphans = [(path, entry) for path, entry in ledger.entries() if not entry.array]
    if orphans:
        try:
            marks = scheduler.marks()
        except SlurmError:
            remarks.append("A submission was interrupted; whether its jobs exist is not known while SLURM is silent.")
            return
        for path, entry in orphans:
            ledger.note(path, entry.mark, marks.get(entry.mark, NEVER_SENT))


def from_files(task: Task, site: Site) -> TaskState:
    """What task.json and status.json say, as if there were no SLURM."""
    record = attempt.read_json(task.run / "task.json")
    if not record:
        return TaskState(task, "planned")
    if record.get("fingerprint") != task.fingerprint:
        return TaskState(task, "planned", note="changed since it last ran")
    path = attempt.find_status(task.run)
    status = attempt.read_json(path) if path else {}
    last = (record.get("attempts") or [{}])[-1]
    state = status.get("state", "running")
    live, note = False, status.get("error") or ""
    here = str(last.get("job", "")).startswith("local:")
    if attempt.is_finished(task.run, task.fingerprint):
        state = "done"
    elif "ended" not in last:
        live = here and _is_alive_here(last)
        state = "running"
        silent_s = time.time() - _seconds(status.get("updated"), default=last.get("started_s", time.time()))
        if silent_s > site.limits.silent_s:
            note = f"silent for {silent_s / 60:.0f} min"
    return TaskState(
        task, state if state in STATES else "failed", "" if here else last.get("job", ""), live=live, note=note,
        step=_number(status.get("step")), steps=_number(status.get("steps")),
        metrics=flat(status.get("metrics") or {}), eta_s=status.get("eta_s"),
        restarts=max(_number(status.get("restarts")), len(record.get("attempts", [])) - 1),
        host=status.get("host") or last.get("host", ""),
    )  # fmt: skip


def with_job(seen: TaskState, job_id: str, job: scheduler.Job | None, known: bool, study: str) -> TaskState:
    """`seen` corrected by what SLURM says about its job (None: nothing; `known`: although it answered)."""
    if seen.state == "done" or not job_id:
        unheard = seen.state == "running" and not seen.live  # a local run that is gone without a word
        return replace(seen, job=job_id, state="lost" if unheard else seen.state)
    if job is not None and job.name != "" and not job.name.startswith(study):
        job = None  # ids start again when a controller loses its state: this job is somebody else's
    seen = replace(seen, job=job_id)
    if job is None:
        if not known:
            return replace(seen, live=True, state="queued" if seen.state == "planned" else seen.state)
        if seen.state == "planned":
            return replace(seen, state="lost", note="submitted, but SLURM knows nothing of its job")
        return replace(seen, state="lost") if seen.state == "running" else seen
    if job.state in ("RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING"):
        silent = seen.note if seen.note.startswith("silent") else ""
        return replace(seen, state="running", live=True, note=silent, host=seen.host or job.nodes)
    if job.live:
        began = seen.state != "planned" and seen.state != "failed"
        return replace(seen, state="preempted" if began else "queued", live=True, note=_waits_for(job.reason))
    if job.state == "COMPLETED":
        return replace(seen, state="failed", note="its job ended well, but no status.json says that it is done")
    if job.state == "CANCELLED":
        blocked = job.reason.startswith("DependencyNever")
        return replace(seen, state="blocked" if blocked else "cancelled", note="" if blocked else "cancelled")
    named = scheduler.MEANING.get(job.state)
    if job.state == "OUT_OF_MEMORY":
        named = attempt.name_failure(attempt.KILLED, memory=seen.task.resources.memory)
    by_code = {attempt.DISK_FULL: "the disk is full", attempt.GIVEN_UP: "restarted too often"}
    words = named or seen.note or by_code.get(job.exit_code) or attempt.name_failure(job.exit_code or 1)
    return replace(seen, state="failed", note=words)


def _with_blocked(states: list[TaskState], study: Study) -> list[TaskState]:
    """Name what a blocked task waits for; sacct calls it CANCELLED like any other."""
    unhappy: dict[str, dict[int, str]] = {}
    result = []
    for state in states:  # in the order of needs
        culprits: list[str] = []
        for need, kind in study.phases[state.task.phase].needs.items():
            found = unhappy.get(need, {})
            if kind == "afterok":
                culprits += found.values()
            elif kind == "aftercorr" and state.task.index in found:
                culprits.append(found[state.task.index])
        if state.state == "blocked" or (state.state == "cancelled" and state.restarts == 0 and not state.host):
            if culprits:
                state = replace(state, state="blocked", note=f"needs {culprits[0]}, which did not succeed")
            elif state.state == "blocked":
                state = replace(state, note="what it needed had not succeeded; resubmit")
        if state.state in UNHAPPY:
            unhappy.setdefault(state.task.phase, {})[state.task.index] = state.task.id
        result.append(state)
    return result


def _waits_for(reason: str) -> str:
    words = {"Dependency": "waits for the phases it needs", "JobArrayTaskLimit": "waits for its turn (parallel)",
             "Resources": "waits for resources", "Priority": "waits for resources", "JobHeldUser": "held: scontrol "
             "release", "BeginTime": "requeued, starts shortly"}  # fmt: skip
    return words.get(reason, f"waits: {reason}" if reason else "")


def flat(metrics: dict, prefix: str = "") -> dict[str, Any]:
    """Nested metrics as `a.b.c`; lists (histories) are left out."""
    result: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            result[f"{prefix}{name}"] = value
    return result


def _is_alive_here(last: dict) -> bool:
    """Whether the local runner that began this attempt still lives; on another host it is given the benefit."""
    if last.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(last["job"].removeprefix("local:")), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _seconds(stamp: Any, default: float) -> float:
    try:
        return datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return default
