import json
import os
import signal

import pytest

from training.job import carry_out
from training.recipe import RunOptions
from training.run import Run
from training.signals import Preempted


def started(tmp_path) -> Run:
    return Run.start(RunOptions(root=str(tmp_path)), "seed: 1", "job")


def status(run: Run) -> dict:
    return json.loads((run.folder / "status.json").read_text(encoding="utf-8"))


def test_the_final_metrics_are_written(tmp_path):
    run = started(tmp_path)
    assert carry_out(run, lambda stop: {"wer": 0.25}) == run.folder
    assert (status(run)["state"], status(run)["metrics"]) == ("done", {"wer": 0.25})


def test_a_job_that_is_asked_to_leave_is_preempted(tmp_path):
    run = started(tmp_path)
    before = signal.getsignal(signal.SIGUSR1)

    def work(stop):
        assert not stop
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop
        raise Preempted(f"{stop.received} at step 3")

    with pytest.raises(Preempted):
        carry_out(run, work)
    assert (status(run)["state"], status(run)["error"]) == ("preempted", "SIGUSR1 at step 3")
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.parametrize("error", [ValueError("3 is odd"), KeyboardInterrupt("3 is odd")])
def test_a_job_that_fails_says_why(tmp_path, error):
    run = started(tmp_path)

    def work(stop):
        raise error

    with pytest.raises(type(error)):
        carry_out(run, work)
    assert status(run)["state"] == "failed"
    assert status(run)["error"] == f"{type(error).__name__}: 3 is odd"
