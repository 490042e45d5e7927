#!/usr/bin/env python3
"""One attempt at a task, bracketed by the job script: `attempt.py begin FOLDER`, the command, `attempt.py end FOLDER`.

`begin` says whether to run at all: nothing finished runs twice, restarts are capped, a full disk is named.
`end` says what the exit code meant, names the failure, and leaves a truthful `status.json` also for a command that
writes none or was killed in mid-sentence. Standard library only and no import of boli: it runs on the compute node
with whatever Python is there.

A task's folder holds `task.json` (what the task is, its attempts) and the job's `status.json`, which may also lie one
folder below (`FOLDER/<timestamp>_<name>/status.json`, where the job makes its own run folder; the newest counts).
"""

import argparse
import errno
import json
import os
import re
import socket
import sys
import time
from pathlib import Path

# exit codes of `begin` and `end`, from sysexits.h where it has one
RUN, FINISHED = 0, 10
AGAIN = 75  # EX_TEMPFAIL: stopped in time, to be requeued
DISK_FULL = 74  # EX_IOERR
GIVEN_UP = 70  # EX_SOFTWARE: restarted too often, or without making a step
KILLED = 137  # 128 + SIGKILL

MEMORY = re.compile(
    r"oom.kill|Out Of Memory|\bMemoryError\b|Cannot allocate memory|can't allocate memory|std::bad_alloc"
)
LOG_TAIL_BYTES = 65536
MARK = "=== boli attempt"  # begins each attempt's part of the log, which requeued jobs append to


def write_atomically(path, data):
    """Replace `path` by `data` as JSON: a reader sees the old or the new file, never a part."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(staged, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise


def read_json(path):
    """The object in `path`, or {} where there is none or it is damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def find_status(folder):
    """Path of the newest status.json in a task's folder or one folder below; None where there is none."""
    found = [path for path in [folder / "status.json", *folder.glob("*/status.json")] if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def is_finished(folder, fingerprint):
    """Whether this very task (same fingerprint) is done.

    A status.json that says so is not enough while the attempt is open: of several commands, or several ranks, one may
    have ended before the others. Only a single command with a single status.json is believed (its node may have been
    lost while it was tidying up).
    """
    task = read_json(folder / "task.json")
    path = find_status(folder)
    if task.get("fingerprint") != fingerprint or path is None or read_json(path).get("state") != "done":
        return False
    if "ended" in (task.get("attempts") or [{}])[-1]:
        return True
    several = len(list(folder.glob("status.json")) + list(folder.glob("*/status.json"))) > 1
    return not several and not re.search(r"[;&|]", task.get("command", ""))


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def job_id():
    """This job as SLURM's tools name it: `123_4`. Of an array's last task SLURM_JOB_ID alone means the whole array."""
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        return "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    return os.environ.get("SLURM_JOB_ID", f"local:{os.getpid()}")


def begin(folder, name, fingerprint, command="", max_restarts=20, min_free_gb=0.0):
    """Prepare the folder; returns RUN, FINISHED, DISK_FULL or GIVEN_UP. What is wrong is printed."""
    folder = Path(folder)
    if is_finished(folder, fingerprint):
        print(f"boli: {name} is finished already", flush=True)
        return FINISHED
    task = read_json(folder / "task.json")
    if task.get("fingerprint", fingerprint) != fingerprint:
        # another command left this folder: its checkpoints must not be continued, its results not be lost
        aside = folder.with_name(f"{folder.name}.was-{task['fingerprint'][:8]}-{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(folder, aside)
        print(f"boli: the task has changed; its earlier run is now {aside}", flush=True)
        task = {}
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    attempts = [*task.get("attempts", []), {
        "job": job_id(), "host": socket.gethostname(), "restart": restarts, "started": now(), "started_s": time.time(),
    }]  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(folder)
        free_gb = disk.f_bavail * disk.f_frsize / 1e9
        if free_gb < min_free_gb:
            raise OSError(errno.ENOSPC, f"{free_gb:.2f} GB are free, {min_free_gb:g} GB are wanted")
        write_atomically(folder / "task.json", {
            "name": name, "fingerprint": fingerprint, "command": command, "attempts": attempts,
        })  # fmt: skip
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"boli: the disk of {folder} is full: {error}", file=sys.stderr, flush=True)
        return DISK_FULL
    if restarts > max_restarts:
        print(f"boli: restarted {restarts} times, more than {max_restarts}", file=sys.stderr, flush=True)
        settle(folder, "failed", f"restarted {restarts} times (limits.max_restarts is {max_restarts})")
        return GIVEN_UP
    print(f"{MARK} {len(attempts)} of {name}, job {job_id()}, restart {restarts}, {now()}", flush=True)
    return RUN


def end(folder, exit_code, told_to_stop=False, log=None, memory="", limit_s=0):
    """Judge an attempt by its exit code and its status.json; returns 0, AGAIN, or the code of the failure."""
    folder = Path(folder)
    task = read_json(folder / "task.json")
    attempt = task.get("attempts", [{}])[-1]
    path = find_status(folder)
    status = read_json(path) if path else {}
    # a status.json from an earlier attempt says nothing about this one; both times are the file server's own
    fresh = path is not None and path.stat().st_mtime >= (folder / "task.json").stat().st_mtime
    state = status.get("state") if fresh else None
    said = last_part(log)
    # SLURM tells the step alone when it preempts or cancels a job: the log is the only witness in the batch shell
    told_to_stop |= bool(re.search(r"STEP \S+ ON \S+ CANCELLED AT", said)) and not MEMORY.search(said)
    error, code = None, 0
    if exit_code == 0 and state not in ("preempted", "failed"):
        outcome = "done"
    elif state == "preempted" or exit_code in (AGAIN, 128 + 10, 128 + 15) or (told_to_stop and state != "failed"):
        outcome, code = "again", AGAIN
    else:
        outcome, code = "failed", exit_code or GIVEN_UP
        error = name_failure(exit_code or 1, said, status.get("error") if fresh else None, memory)
    elapsed_s = time.time() - attempt.get("started_s", time.time())
    step = status.get("step")
    attempt.update(ended=now(), exit_code=exit_code, outcome=outcome, step=step)
    attempt["used_its_time"] = bool(limit_s) and told_to_stop and elapsed_s > limit_s / 2
    if outcome == "again" and isinstance(step, int) and attempt["used_its_time"]:
        before = [a for a in task["attempts"][:-1] if a.get("used_its_time")]
        if before and before[-1] is task["attempts"][-2] and before[-1].get("step") == step:
            outcome, code = "failed", GIVEN_UP
            error = "two whole time limits passed without one more step: give it more time"
            attempt["outcome"] = outcome
    if error:
        attempt["error"] = error
        print(f"boli: {error}", file=sys.stderr, flush=True)
    try:
        write_atomically(folder / "task.json", task)
        settle(folder, {"again": "preempted"}.get(outcome, outcome), error)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"boli: the disk of {folder} is full: {problem}", file=sys.stderr, flush=True)
        return DISK_FULL if code else code
    return code


def settle(folder, state, error=None):
    """Make status.json say `state`; where the command wrote none, write one (metrics from its metrics.json)."""
    path = find_status(folder)
    status = read_json(path) if path else {}
    if path and status.get("state") == state and (error is None or status.get("error") == error):
        return
    if not status:
        path = folder / "status.json"
        status = {"state": state, "step": 0, "steps": 0, "metrics": {}, "eta_s": None}
        status["restarts"] = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    if state == "done" and not status.get("metrics"):
        status["metrics"] = read_json(folder / "metrics.json")
    status.update(state=state, error=error, updated=now(), host=socket.gethostname())
    write_atomically(path, status)


def last_error(folder):
    """What the last attempt died of; empty where it did not."""
    return (read_json(folder / "task.json").get("attempts") or [{}])[-1].get("error", "")


def last_part(log):
    """What the log holds of the present attempt (its last 64 kB)."""
    if not log:
        return ""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return text.rsplit(MARK, 1)[-1].partition("\n")[2] if MARK in text else text


def name_failure(exit_code, log="", reported=None, memory=""):
    """One line that says why a command failed: full disk, memory of the GPU or the node, signal, or its own words."""
    text = f"{log}\n{reported or ''}"
    asked = f" (it had {memory})" if memory else ""
    if re.search(r"No space left on device|Disk quota exceeded|Errno 28\b|Errno 122\b", text):
        return "the disk is full: free some space, then `boli slurm resubmit --failed`"
    if re.search(r"CUDA out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY", text):
        return "out of GPU memory: use a smaller batch with gradient accumulation, or a larger GPU"
    if exit_code == KILLED or MEMORY.search(text):
        return f"out of memory{asked}: `boli slurm resubmit --failed --memory MORE`"
    if reported:
        return str(reported)
    if exit_code == 127:
        return f"command not found: {_last_line(log)}"
    if exit_code > 128:
        return f"killed by signal {exit_code - 128}"
    return f"exit code {exit_code}: {_last_line(log)}"


def _last_line(log):
    """The last line the command wrote itself; srun's own remarks about it say nothing new."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = [line for line in lines if not re.match(r"(srun|slurmstepd\S*): ", line)]
    return (said or lines or ["it printed nothing"])[-1][:300]


def main(argv=None):
    parser = argparse.ArgumentParser(description="Bracket one attempt at a task (called by job scripts).")
    commands = parser.add_subparsers(dest="what", required=True)
    first = commands.add_parser("begin")
    first.add_argument("folder")
    first.add_argument("--name", required=True)
    first.add_argument("--fingerprint", required=True)
    first.add_argument("--command", default="")
    first.add_argument("--max-restarts", type=int, default=20)
    first.add_argument("--min-free-gb", type=float, default=0.0)
    last = commands.add_parser("end")
    last.add_argument("folder")
    last.add_argument("--exit-code", type=int, required=True)
    last.add_argument("--told-to-stop", action="store_true")
    last.add_argument("--log")
    last.add_argument("--memory", default="")
    last.add_argument("--limit-s", type=int, default=0)
    options = vars(parser.parse_args(argv))
    return {"begin": begin, "end": end}[options.pop("what")](**options)


if __name__ == "__main__":
    sys.exit(main())
