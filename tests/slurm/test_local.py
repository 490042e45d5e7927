"""A study on this machine, without SLURM."""

import os
import signal
import subprocess
import sys
import time

from slurm import attempt
from tests.slurm.conftest import REPOSITORY

TRAIN = "python {train} --seed {seed} --folder {run}"


def local(workplace, study, *options, code=0):
    return workplace.boli("run", "--local", *options, study, code=code)


def test_needs_are_kept_failures_block_and_nothing_runs_twice(workplace):
    mended = workplace.folder / "mended"
    study = workplace.study({
        "train": {"command": f"echo run >> {{run}}/count; test {{i}} != 1 -o -e {mended}", "grid": {"i": [0, 1, 2]}},
        "each": {"command": "test -e {runs}/train/{i}/count", "grid": {"i": [0, 1, 2]},
                 "needs": {"train": "aftercorr"}},
        "all": {"command": "true", "needs": ["train"]},
        "anyway": {"command": "true", "needs": {"train": "afterany"}},
    })  # fmt: skip
    said = local(workplace, study, "-j", "2", code=1)
    assert "failed   train/1" in said
    assert "exit code 1: it printed nothing" in said
    assert "blocked  each/1" in said
    assert "5 of 8 tasks done" in said
    mended.touch()
    assert "3 of 3 tasks done, 5 were finished before" in local(workplace, study)
    assert "0 of 0 tasks done" in local(workplace, study)
    assert (workplace.run_folder("train/0") / "count").read_text() == "run\n"
    assert all(row["state"] == "done" for row in workplace.states(study).values())
    assert "8 rows" in workplace.boli("collect", study)


def test_what_comes_first_in_the_file_runs_first_once_it_is_ready(workplace):
    """`long` waits for `first`; it does not queue behind the tasks that could begin at once."""
    study = workplace.study({
        "first": {"command": "true"},
        "long": {"command": "true", "needs": ["first"]},
        "many": {"command": "true", "grid": {"i": [0, 1, 2]}},
    })  # fmt: skip
    said = local(workplace, study, "-j", "1")
    begun = [line.split()[1].split("/")[0] for line in said.splitlines() if line.startswith("start ")]
    assert begun == ["first", "long", "many", "many", "many"]


def test_what_was_not_asked_for_is_not_said_to_be_finished(workplace):
    study = workplace.study({"one": {"command": "true", "grid": {"i": [0, 1]}}, "other": {"command": "true"}})
    assert local(workplace, study, "--only", "one").endswith("2 of 2 tasks done\n")
    assert "1 of 1 tasks done, 2 were finished before" in local(workplace, study)


def test_it_stops_with_checkpoints_and_goes_on(workplace):
    """Ctrl-C reaches the runner alone; the tasks are told to checkpoint."""
    study = workplace.study(
        {
            "train": {"command": TRAIN + " --steps 60 --step-s 0.05", "grid": {"seed": [1, 2]}},
            "alone": {"command": TRAIN + " --steps 60 --step-s 0", "grid": {"seed": [1]}},
        }
    )
    command = [sys.executable, "-m", "boli", "slurm", "run", "--local", "-j", "2", "--only", "train", str(study)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    # (status lines come from files: look until both have begun)
    workplace.until(study, lambda s: all(s[f"train/{i}"]["step"] >= 2 for i in (1, 2)))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    rows = workplace.states(study)
    assert [rows[f"train/{i}"]["state"] for i in (1, 2)] == ["preempted", "preempted"]
    local(workplace, study, "-j", "2")
    assert workplace.read("train/1", "weights.json") == workplace.read("alone/1", "weights.json")
    assert workplace.states(study)["train/1"]["restarts"] == 1


def test_a_runner_that_died_leaves_lost_tasks_that_go_on(workplace):
    study = workplace.study({"train": {"command": TRAIN + " --steps 3", "grid": {"seed": [1]}}})
    folder = workplace.run_folder("train/1")
    dead = subprocess.Popen(["true"])
    dead.wait()
    attempt.begin(folder, "train/1", _fingerprint(study), "x")
    task = attempt.read_json(folder / "task.json")
    task["attempts"][-1]["job"] = f"local:{dead.pid}"
    attempt.write_atomically(folder / "task.json", task)
    assert workplace.states(study)["train/1"]["state"] == "lost"
    assert "1 of 1 tasks done" in local(workplace, study)


def _fingerprint(study) -> str:
    from slurm.site import load_site
    from slurm.study import load_study
    from slurm.task import expand

    return expand(load_study(study), load_site())[0].fingerprint


def test_each_task_has_a_gpu_and_the_sites_variables(workplace):
    site = workplace.folder / "site.toml"
    site.write_text(site.read_text() + '[environment]\nvariables = { COLOUR = "green" }\n')
    command = "echo $CUDA_VISIBLE_DEVICES $COLOUR $SHAPE $BOLI_TASK > {run}/seen; sleep 0.3"
    study = workplace.study({"p": {
        "command": command, "grid": {"i": [0, 1, 2, 3]}, "resources": {"gpus": 1}, "variables": {"SHAPE": "round"},
    }})  # fmt: skip
    local(workplace, study, "-j", "4", "--gpus", "2,5")
    seen = [(workplace.run_folder(f"p/{i}") / "seen").read_text().split() for i in range(4)]
    assert {line[0] for line in seen} == {"2", "5"}
    assert seen[3][1:] == ["green", "round", "p/3"]


def test_a_task_that_asks_to_be_continued_is(workplace):
    study = workplace.study({"p": {"command": "echo x >> {run}/n; test $(wc -l < {run}/n) = 3 || exit 75"}})
    local(workplace, study)
    assert workplace.states(study)["p/p"]["restarts"] == 2


def test_two_runners_do_not_share_a_study(workplace, monkeypatch):
    study = workplace.study({"p": {"command": "sleep 2"}})
    command = [sys.executable, "-m", "boli", "slurm", "run", "--local", str(study)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    workplace.until(study, lambda s: s["p/p"]["state"] == "running")
    monkeypatch.setattr("slurm.submission.PATIENCE_S", 0.1)
    said = local(workplace, study, code=1)
    assert "Another `boli slurm` is submitting or running" in said
    assert first.wait(timeout=30) == 0
    time.sleep(0.1)


def test_without_local_it_says_what_to_do(workplace):
    study = workplace.study({"p": {"command": "true"}})
    assert "boli slurm run --local -j 2 STUDY" in workplace.boli("run", study, code=1)


def test_without_slurm_submit_says_what_to_do(workplace, monkeypatch):
    study = workplace.study({"p": {"command": "true"}})
    monkeypatch.setenv("PATH", str(workplace.folder))
    assert "boli slurm run --local STUDY" in workplace.boli("submit", study, code=1)
