"""What an attempt means: finished, changed, to be continued, failed and by what name."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slurm import attempt


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("SLURM_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "run"


def begin(folder, fingerprint="f1", **options):
    return attempt.begin(folder, "phase/task", fingerprint, **options)


def report(folder: Path, below: str = "", **fields):
    (folder / below).mkdir(exist_ok=True)
    (folder / below / "status.json").write_text(json.dumps({"state": "running", "step": 3, "metrics": {}, **fields}))


def status(folder: Path) -> dict:
    return attempt.read_json(attempt.find_status(folder))


def test_a_command_without_status_file_gets_one_with_its_metrics(folder):
    assert begin(folder) == attempt.RUN
    (folder / "metrics.json").write_text('{"wer": 0.25}')
    assert attempt.end(folder, 0) == 0
    assert status(folder)["state"] == "done"
    assert status(folder)["metrics"] == {"wer": 0.25}
    assert begin(folder) == attempt.FINISHED


def test_a_changed_task_starts_afresh_and_keeps_the_old_results(folder):
    begin(folder)
    attempt.end(folder, 0)
    assert begin(folder, "f2") == attempt.RUN
    assert attempt.find_status(folder) is None
    [aside] = [path for path in folder.parent.iterdir() if ".was-f1-" in path.name]
    assert attempt.is_finished(aside, "f1")


def test_a_run_folder_that_the_job_made_itself_is_found(folder):
    begin(folder)
    report(folder, "20260101_old", state="failed")
    time.sleep(0.01)
    report(folder, "20260102_new", state="done", metrics={"wer": 0.1})
    assert attempt.end(folder, 0) == 0
    assert status(folder)["metrics"] == {"wer": 0.1}
    assert not (folder / "status.json").exists()


def test_of_several_commands_the_first_ones_end_is_not_the_tasks(folder):
    begin(folder, command="train && evaluate")
    report(folder, state="done")
    assert begin(folder, command="train && evaluate") == attempt.RUN


def test_a_node_lost_after_the_last_word_costs_nothing(folder):
    begin(folder, command="train")
    report(folder, state="done")
    assert begin(folder, command="train") == attempt.FINISHED


def test_of_several_ranks_the_first_ones_end_is_not_the_tasks(folder):
    begin(folder, command="train")
    report(folder, "0")
    report(folder, "1", state="done")
    assert begin(folder, command="train") == attempt.RUN


@pytest.mark.parametrize(
    ("exit_code", "state", "options", "expected"),
    [
        (75, None, {}, attempt.AGAIN),
        (0, "preempted", {}, attempt.AGAIN),
        (143, None, {}, attempt.AGAIN),
        (138, None, {"told_to_stop": True}, attempt.AGAIN),
        (1, "running", {"told_to_stop": True}, attempt.AGAIN),
        (1, "failed", {"told_to_stop": True}, 1),
        (0, "running", {}, 0),
        (0, "failed", {}, attempt.GIVEN_UP),
        (1, "running", {}, 1),
        (137, "running", {}, 137),
    ],
)
def test_the_exit_code_and_the_status_decide(folder, exit_code, state, options, expected):
    begin(folder)
    if state:
        report(folder, state=state)
    assert attempt.end(folder, exit_code, **options) == expected
    assert status(folder)["state"] == {0: "done", attempt.AGAIN: "preempted"}.get(expected, "failed")


def test_a_status_from_an_earlier_attempt_decides_nothing(folder):
    begin(folder)
    report(folder, state="preempted")
    attempt.end(folder, 75)
    time.sleep(0.02)
    begin(folder)
    assert attempt.end(folder, 1) == 1
    assert status(folder)["state"] == "failed"


def test_a_preemption_is_seen_in_the_log(folder, tmp_path):
    """The batch shell is not told: SLURM signals the step alone."""
    log = tmp_path / "log"
    log.write_text(f"{attempt.MARK} 1\nslurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-21T08:33:44 ***\n")
    begin(folder)
    assert attempt.end(folder, 3, log=log) == attempt.AGAIN


@pytest.mark.parametrize(
    ("code", "log", "reported", "name"),
    [
        (1, "OSError: [Errno 28] No space left on device: 'x'", None, "the disk is full"),
        (1, "Disk quota exceeded", None, "the disk is full"),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", None, "out of GPU memory"),
        (1, "slurmstepd: error: Detected 1 oom_kill event in StepId=5.0.", None, "out of memory (it had 32G)"),
        (137, "", None, "out of memory (it had 32G)"),
        (1, "numpy._core._exceptions._ArrayMemoryError: ...\nMemoryError", None, "out of memory (it had 32G)"),
        (1, "Traceback", "Manifest 'x' is empty", "Manifest 'x' is empty"),
        (139, "", None, "killed by signal 11"),
        (127, "bash: line 1: bolli: command not found", None, "command not found: bash: line 1: bolli"),
        (2, "first\nlast words\nsrun: error: n1: task 0: Exited with exit code 2", None, "exit code 2: last words"),
        (2, "", None, "exit code 2: it printed nothing"),
    ],
)
def test_failures_have_names(code, log, reported, name):
    assert attempt.name_failure(code, log, reported, "32G").startswith(name)


def test_only_the_present_attempt_is_read_from_the_log(tmp_path):
    log = tmp_path / "log"
    log.write_text(f"{attempt.MARK} 1 of x\nNo space left on device\n{attempt.MARK} 2 of x\nfine\n")
    assert attempt.last_part(log) == "fine\n"


def test_restarts_are_capped(folder, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    assert begin(folder, max_restarts=2) == attempt.GIVEN_UP
    assert status(folder)["error"] == "restarted 3 times (limits.max_restarts is 2)"
    assert "restarted 3 times" in capsys.readouterr().err


def test_time_limits_without_one_more_step_are_not_repeated_for_days(folder, monkeypatch):
    for _ in range(2):
        begin(folder)
        task = attempt.read_json(folder / "task.json")
        task["attempts"][-1]["started_s"] -= 100
        attempt.write_atomically(folder / "task.json", task)
        report(folder, state="preempted", step=3)
        code = attempt.end(folder, 75, told_to_stop=True, limit_s=100)
        time.sleep(0.02)
    assert code == attempt.GIVEN_UP
    assert status(folder)["error"].startswith("two whole time limits passed")


def test_a_full_disk_stops_a_task_before_it_starts(folder, capsys):
    assert begin(folder, min_free_gb=1e9) == attempt.DISK_FULL
    assert "is full" in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_whole_files(folder, monkeypatch, capsys):
    begin(folder)
    report(folder)
    before = (folder / "status.json").read_text()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert attempt.end(folder, 1) == attempt.DISK_FULL
    assert (folder / "status.json").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["status.json", "task.json"]


def test_the_last_element_of_an_array_is_not_the_whole_array(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    assert attempt.job_id() == "70_9"


def test_it_runs_alone_with_any_python(folder):
    """As the job script calls it: a file, with nothing of boli importable."""
    command = [sys.executable, "-I", "-S", attempt.__file__]
    name = ["--name", "p/t", "--fingerprint", "f"]
    assert subprocess.run([*command, "begin", folder, *name], stdout=subprocess.DEVNULL).returncode == 0
    assert subprocess.run([*command, "end", folder, "--exit-code", "0"]).returncode == 0
    assert subprocess.run([*command, "begin", folder, *name], stdout=subprocess.DEVNULL).returncode == 10
