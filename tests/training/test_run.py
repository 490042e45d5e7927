"""The run folder, its trackers and its checkpoints."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training import checkpoints
from training.recipe import RunOptions
from training.run import Run, read_status
from zoo.errors import DataError, RecipeError


def test_files_of_a_run(tmp_path):
    run = Run.start(RunOptions(root=str(tmp_path), tensorboard=True), "a: 1\n", "try")
    for step in (10, 20):
        run.log(step, {"loss": 1 / step, "valid_wer": 0.5}, 20, 1.0)
    run.table("results", [{"wer": 0.5}, {"wer": 0.4, "cer": 0.1}])
    run.finish({"wer": 0.4})
    status = json.loads((run.folder / "status.json").read_text())
    assert set(status) == {"state", "step", "steps", "metrics", "eta_s", "updated", "host", "restarts", "error"}
    assert (status["state"], status["step"], status["steps"], status["metrics"]["wer"]) == ("done", 20, 20, 0.4)
    assert (run.folder / "config.yaml").read_text() == "a: 1\n"
    assert (run.folder / "results.csv").read_text().splitlines() == ["wer,cer", "0.5,", "0.4,0.1"]
    assert (run.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "step 10  loss 0.1" in (run.folder / "train.log").read_text()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [round(event.value, 4) for event in events.Scalars("loss")] == [0.1, 0.05]


def test_wandb_offline_holds_what_was_logged(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = Run.start(RunOptions(root=str(tmp_path), wandb="offline"), "a: 1\n", "try")
    run.log(10, {"loss": 0.25}, 20)
    run.log(20, {"loss": 0.125}, 20)
    run.finish({})
    (log,) = (run.folder / "wandb").glob("offline-run-*/*.wandb")
    wanted, end = (b"loss", b"0.25", b"0.125", b"_step"), time.monotonic() + 60
    while (missing := [text for text in wanted if text not in log.read_bytes()]) and time.monotonic() < end:
        time.sleep(0.2)  # wandb's own process writes it; on a busy machine it may still be at it
    assert not missing


def test_two_jobs_of_one_second_get_two_folders(tmp_path):
    runs = [Run.start(RunOptions(root=str(tmp_path)), "", "same") for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    for run in runs:
        run.finish({}, "failed", "stopped")
        assert read_status(run.folder).error == "stopped"


def test_resume_keeps_curves_up_to_the_checkpoint(tmp_path):
    run = Run.start(RunOptions(root=str(tmp_path)), "", "try")
    for step in (1, 2, 3):
        run.log(step, {"loss": step})
    run.update("running", force=True)
    again = Run.resume(run.folder, run.options)
    again.rewind(2)
    again.log(3, {"loss": 30})
    again.finish({})
    run.finish({}, "preempted")
    rows = json.loads((run.folder / "metrics.json").read_text())["history"]
    assert read_status(again.folder).restarts in (0, 1)
    assert [row["loss"] for row in again.history] == [1, 2, 30]
    assert rows
    with pytest.raises(RecipeError, match="has no status"):
        Run.resume(tmp_path / "nothing", run.options)


def test_a_reader_never_sees_half_a_status(tmp_path):
    run = Run.start(RunOptions(root=str(tmp_path)), "", "try")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            run.status.metrics = {f"m{i}": i for i in range(300)}
            run.update("running", force=True)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            assert read_status(run.folder).state == "running"
    finally:
        stop.set()
        writer.join()
        run.finish({})


def test_checkpoints_keep_latest_and_best(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "x").write_text("1")

    for step, best in ((1, False), (2, True), (3, False), (4, False)):
        checkpoints.write(tmp_path, step, fill, best)
    assert checkpoints.read(tmp_path).name == "step-00000004"
    assert checkpoints.read(tmp_path, "best").name == "step-00000002"
    assert len(list(tmp_path.glob("step-*"))) == 2
    checkpoints.write(tmp_path, 4, fill)
    assert checkpoints.read(tmp_path).name == "step-00000004.1"
    assert checkpoints.read(tmp_path / "empty") is None


def test_killed_in_mid_save_leaves_the_last_whole_checkpoint(tmp_path):
    """SIGKILL while checkpoint 2 is written: `latest` is checkpoint 1, and whole."""
    script = f"""
import time
from pathlib import Path
from training import checkpoints
folder = Path({str(tmp_path)!r})
checkpoints.write(folder, 1, lambda f: (f / "state").write_text("whole"))
def slow(f):
    (f / "state").write_text("ha")
    (folder / "saving").touch()
    time.sleep(60)
checkpoints.write(folder, 2, slow)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=os.getcwd())
    deadline = time.monotonic() + 60
    while not (tmp_path / "saving").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (checkpoints.read(tmp_path) / "state").read_text() == "whole"
    checkpoints.write(tmp_path, 3, lambda folder: (folder / "state").write_text("next"))
    left = [path.name for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]
    assert left == ["step-00000003"]


def test_disk_full_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    import errno

    checkpoints.write(tmp_path, 1, lambda folder: (folder / "state").write_text("whole"))

    def full(folder: Path) -> None:
        (folder / "state").write_text("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"No space left.*step-00000002.*free space"):
        checkpoints.write(tmp_path, 2, full)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]
    assert (checkpoints.read(tmp_path) / "state").read_text() == "whole"
