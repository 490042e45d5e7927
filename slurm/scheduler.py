"""The few SLURM commands that boli calls, with their answers as typed values."""

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm.errors import SlurmError
from slurm.resources import megabytes

LIVE = {"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
        "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT"}  # fmt: skip
BUSY = re.compile(
    r"Socket timed out|Unable to contact|temporarily unable|Connection refused|Zero Bytes|try again", re.I
)
MEANING = {
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "its node was lost",
    "BOOT_FAIL": "its node did not boot",
    "TIMEOUT": "time limit reached before it could leave",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "preempted, not requeued by the cluster",
    "CANCELLED": "cancelled",
}
PATIENCE_S = 300.0  # how long a controller that does not answer (a restart) is waited for
ANSWER_S = 120.0  # how long one command may take


@dataclass(frozen=True)
class Job:
    """What SLURM says about one array element."""

    id: str
    """`123_4`."""
    state: str
    """SLURM's word: PENDING, RUNNING, COMPLETED, OUT_OF_MEMORY, ..."""
    reason: str = ""
    """Why it is pending: Resources, Priority, Dependency, JobHeldUser, ..."""
    exit_code: int = 0
    nodes: str = ""
    name: str = ""

    @property
    def live(self) -> bool:
        return self.state in LIVE


def call(arguments: Sequence[str], patience_s: float = 0.0) -> str:
    """Run a SLURM command; returns its stdout. A controller that is away is asked again for `patience_s` seconds.

    Raises SlurmError with SLURM's own words.
    """
    until = time.monotonic() + patience_s
    wait_s = 1.0
    while True:
        try:
            done = subprocess.run(arguments, capture_output=True, text=True, timeout=ANSWER_S, check=False)
            if done.returncode == 0:
                return done.stdout
            said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        except FileNotFoundError:
            remedy = "log in to the cluster, or run the study here: boli slurm run --local STUDY"
            raise SlurmError(f"There is no {arguments[0]!r} on this machine", remedy=remedy) from None
        except subprocess.TimeoutExpired:
            said = f"Socket timed out: no answer within {ANSWER_S:.0f} s"
        if not BUSY.search(said) or time.monotonic() + wait_s > until:
            raise SlurmError(f"{arguments[0]} failed: {' '.join(said.split())}")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, 15.0)


def sbatch(script: Path, options: Sequence[str], mark: str) -> str:
    """Submit `script`; returns the job's id.

    An answer that got lost must not submit twice: before a second try the queue is searched for `mark`, which the
    job carries as its comment.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            # --parsable prints ID, or ID;CLUSTER
            return call(["sbatch", "--parsable", f"--comment={mark}", *options, str(script)]).strip().split(";")[0]
        except SlurmError as error:
            if not BUSY.search(str(error)) or time.monotonic() > until:
                raise
        time.sleep(2.0)
        if job := marks().get(mark):
            return job


def marks() -> dict[str, str]:
    """Comment -> array id of all the user's jobs that the controller still knows."""
    answer = call(["squeue", "--noheader", "--me", "--states=all", "--format=%F|%k"], patience_s=PATIENCE_S)
    return {comment: job for job, _, comment in (line.partition("|") for line in answer.splitlines())}


def array_ids(ids: Sequence[str]) -> list[str]:
    return sorted({job.split("_")[0] for job in ids})


def squeue() -> dict[str, Job]:
    """All of the user's jobs that the controller still knows, finished ones included (for MinJobAge), by id."""
    layout = "JobArrayID:40,State:20,Reason:40,exit_code:12,NodeList:80,Name:128"
    widths = [int(column.split(":")[1]) for column in layout.split(",")]
    answer = call(["squeue", "--noheader", "--array", "--me", "--states=all", f"--Format={layout}"])
    jobs = {}
    for line in answer.splitlines():
        values, start = [], 0
        for width in widths:
            values.append(line[start : start + width].strip())
            start += width
        job, state, reason, code, nodes, name = values
        reason = "" if reason == "None" else reason
        jobs[job] = Job(job, state, reason, _exit_code(code), nodes, name)
    return jobs


def _exit_code(wait_status: str) -> int:
    """squeue prints the raw wait status: 256 × exit code, or the signal."""
    if not wait_status.isdigit():
        return 0
    status = int(wait_status)
    return status >> 8 if status & 0x7F == 0 else 128 + (status & 0x7F)


def sacct(arrays: Sequence[str]) -> dict[str, Job]:
    """The same from the accounting database, which forgets nothing; {} where a cluster keeps none."""
    if not arrays:
        return {}
    fields = "JobID,State,ExitCode,NodeList,JobName"
    try:
        answer = call(["sacct", "--allocations", "--noheader", "--parsable2", f"--format={fields}", "--jobs",
                       ",".join(arrays)])  # fmt: skip
    except SlurmError:  # no accounting here, or it is down: status files and squeue remain
        return {}
    return parse_sacct(answer)


def parse_sacct(answer: str) -> dict[str, Job]:
    """Rows like `123_4|CANCELLED by 1000|0:15|node7|study.adapters`; `123_[5-9%4]` are elements not yet split off."""
    jobs = {}
    for line in answer.splitlines():
        columns = line.split("|")
        if len(columns) != 5:
            continue
        job, state, code, nodes, name = columns
        exit_code, _, signal = code.partition(":")
        number = int(exit_code or 0) or (128 + int(signal) if signal not in ("", "0") else 0)
        for element in _elements(job):
            jobs[element] = Job(element, state.split()[0], "", number, nodes, name)
    return jobs


def _elements(job: str) -> list[str]:
    match = re.fullmatch(r"(\d+)_\[([^]%]+)(?:%\d+)?\]", job)
    if not match:
        return [job]
    found = []
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found += [f"{match[1]}_{number}" for number in range(int(first), int(last or first) + 1)]
    return found


def release(array: str, lowered: Sequence[tuple[str, str, str]]) -> list[str]:
    """Lower the limits of some elements of a held array, then let it go. Returns what the cluster refused to lower:
    those elements keep the larger limits, which costs priority but is right."""
    refused = []
    for elements, time_limit, memory in lowered:
        try:
            call(["scontrol", "update", f"JobId={array}_[{elements}]", f"TimeLimit={time_limit}",
                  f"MinMemoryNode={megabytes(memory)}"], patience_s=60)  # fmt: skip
        except SlurmError as error:
            refused.append(str(error))
    call(["scontrol", "release", array], patience_s=PATIENCE_S)
    return refused


def scancel(jobs: Sequence[str]) -> None:
    for start in range(0, len(jobs), 200):  # a command line has an end
        call(["scancel", *jobs[start : start + 200]], patience_s=60)
