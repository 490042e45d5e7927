"""Studies on a real SLURM, through the real commands."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from slurm import ledger, scheduler
from tests.slurm import private_slurm
from tests.slurm.conftest import REPOSITORY, Workplace, only
from tests.training.conftest import write_manifest

pytestmark = pytest.mark.usefixtures("cluster")

TRAIN = "python {train} --seed {seed} --folder {run}"
REFERENCE = {"command": TRAIN + " --steps {steps} --step-s 0", "grid": {"seed": [1], "steps": [40]}}


@pytest.fixture(scope="module", autouse=True)
def slow(cluster, tmp_path_factory) -> tuple[Workplace, Path]:
    """A study of what takes long; submitted before all other tests and looked at after them. SLURM lets a requeued
    job wait for some seconds, and a time limit is a minute at least."""
    workplace = Workplace(tmp_path_factory.mktemp("slow"))
    site = workplace.folder / "site.toml"
    site.write_text(site.read_text() + "max_restarts = 4\n")
    study = workplace.study({
        "train": {"command": TRAIN + " --steps {steps} --step-s 0.5", "grid": {"seed": [1], "steps": [100]},
                  "resources": {"time": "1m"}},
        "alone": {"command": TRAIN + " --steps {steps} --step-s 0", "grid": {"seed": [1], "steps": [100]}},
        "joined": {"command": TRAIN + "/$RANK --steps {steps} --step-s 0.5", "grid": {"seed": [1], "steps": [100]},
                   "resources": {"time": "1m", "nodes": 2, "gpus": 1, "launch": "torchrun"}},
        "again": {"command": "exit 75"},
    }, name="slow")  # fmt: skip
    workplace.submit_apart(study)
    return workplace, study


def ask(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def attempts(workplace, task: str) -> list[dict]:
    return workplace.read(task, "task.json")["attempts"]


def test_a_chain_of_arrays_runs_once_and_is_collected(workplace):
    study = workplace.study(
        {
            "pull": {"command": "echo {model}", "grid": {"model": ["a/b", "c/d"]}},
            "train": {
                "command": TRAIN, "needs": ["pull"], "cases": [{"size": "small"}, {"size": "large"}],
                "grid": {"seed": [1, 2, 3]}, "resources": "{size}", "parallel": 4,
            },
            "score": {
                "command": "echo '{{\"wer\": 0.'{seed}'}}' > {run}/metrics.json", "needs": {"train": "aftercorr"},
                "cases": [{"size": "small"}, {"size": "large"}], "grid": {"seed": [1, 2, 3]},
            },
        },
        resources={"small": {"memory": "100M", "time": "4m"}, "large": {"memory": "200M", "time": "9m"}},
    )  # fmt: skip
    said = workplace.boli("submit", study)
    assert "14 tasks submitted" in said
    rows = ask("squeue", "--noheader", "--array", "--states=all", "--name=trial.train", "--format=%F %K %l %m")
    arrays, limits = set(), {}
    for row in rows.splitlines():
        array, index, time_limit, memory = row.split()
        arrays.add(array)
        limits[int(index)] = (time_limit, memory)
    assert len(arrays) == 1  # one array, though its tasks ask for different amounts
    assert limits == {i: ("4:00", "100M") if i < 3 else ("9:00", "200M") for i in range(6)}
    workplace.until(study, only("done"))
    said = workplace.boli("collect", study)
    assert "are missing" not in said
    table = workplace.run_folder("results.csv").read_text().splitlines()
    assert len(table) == 15
    assert table[0].startswith("phase,task,state,model,step")
    assert "metrics.wer" in table[0]
    assert ",0.3," in table[-1]
    assert "There is nothing to submit" in workplace.boli("submit", study)
    assert all(len(attempts(workplace, f"train/{s}_{i}")) == 1 for s in ("small", "large") for i in (1, 2, 3))


def test_a_failure_is_named_blocks_its_dependants_and_is_mended_by_resubmit(workplace):
    mended = workplace.folder / "mended"
    study = workplace.study({
        "train": {"command": f"test {{i}} != 1 -o -e {mended} || {{{{ echo the reason; exit 3; }}}}",
                  "grid": {"i": [0, 1, 2]}},
        "each": {"command": "true", "grid": {"i": [0, 1, 2]}, "needs": {"train": "aftercorr"}},
        "all": {"command": "true", "needs": ["train"]},
        "last": {"command": "true", "needs": ["all"]},
        "anyway": {"command": "true", "needs": {"train": "afterany"}},
    })  # fmt: skip
    workplace.boli("submit", study)
    rows = workplace.until(study, only("done", "failed", "blocked"))
    assert {name: row["state"] for name, row in rows.items() if row["state"] != "done"} == {
        "train/1": "failed", "each/1": "blocked", "all/all": "blocked", "last/last": "blocked",
    }  # fmt: skip
    assert rows["train/1"]["note"] == "exit code 3: the reason"
    assert rows["each/1"]["note"] == "needs train/1, which did not succeed"
    said = workplace.boli("status", study, code=1)
    assert "exit code 3: the reason" in said
    said = workplace.boli("collect", study, code=1)
    assert "4 of 9 tasks are missing" in said
    assert "train/1  failed: exit code 3: the reason" in said
    said = workplace.boli("submit", study)
    assert "There is nothing to submit" in said
    assert "boli slurm resubmit --failed" in said
    mended.touch()
    said = workplace.boli("resubmit", "--failed", "--memory", "150M", study)
    assert "4 tasks submitted" in said
    assert "5 tasks are finished and are not run again" in said
    assert ask("squeue", "-h", "--states=all", "--name=trial.train", "--format=%m", "--sort=-i").split()[0] == "150M"
    workplace.until(study, only("done"))
    assert len(attempts(workplace, "train/1")) == 2
    assert len(attempts(workplace, "train/0")) == len(attempts(workplace, "each/0")) == 1


def test_requeued_or_preempted_in_mid_training_it_ends_with_the_same_weights(workplace):
    """SIGUSR1 to the batch script is what `--signal=B:USR1@...` sends before the time limit."""
    study = workplace.study({
        "train": {"command": "echo $WANDB_RUN_ID >> {run}/wandb; " + TRAIN + " --steps {steps} --step-s 0.1",
                  "grid": {"seed": [1], "steps": [60], "copy": [0, 1]}},
        "humble": {"command": TRAIN + " --steps {steps} --step-s 0.1", "grid": {"seed": [1], "steps": [60]},
                   "resources": {"partition": "low", "cpus": 14}},
        "alone": {"command": TRAIN + " --steps {steps} --step-s 0", "grid": {"seed": [1], "steps": [60]}},
    })  # fmt: skip
    workplace.boli("submit", study)
    begun = ("train/1_60_0", "train/1_60_1", "humble/1_60")
    rows = workplace.until(study, lambda s: all(s[name]["step"] >= 3 for name in begun))
    # of the array's last element SLURM_JOB_ID is the array's own: a script that trusts it requeues all of it
    ask("scancel", "--batch", "--signal=USR1", rows["train/1_60_1"]["job"])
    node = ask("squeue", "-h", f"--jobs={rows['humble/1_60']['job']}", "--format=%N")
    ask("sbatch", "--partition=gpu", f"--nodelist={node}", "--cpus-per-task=10", "--mem=100M", "--output=/dev/null",
        "--wrap=sleep 1")  # fmt: skip
    rows = workplace.until(study, only("done"))
    assert {name: row["restarts"] for name, row in rows.items()} == {
        "train/1_60_0": 0, "train/1_60_1": 1, "humble/1_60": 1, "alone/1_60": 0,
    }  # fmt: skip
    assert (
        attempts(workplace, "train/1_60_1")[0]["outcome"] == attempts(workplace, "humble/1_60")[0]["outcome"] == "again"
    )
    assert len({workplace.read(task, "weights.json") for task in rows}) == 1
    assert len(set((workplace.run_folder("train/1_60_1") / "wandb").read_text().split())) == 1


def test_real_trainings_requeued_end_with_the_same_adapter(workplace):
    """An array of `boli train adapter` on the debug model; one is stopped in the middle, resumed by SLURM."""
    train = write_manifest(workplace.folder / "train.jsonl", ("hi",), 40, 1)
    valid = write_manifest(workplace.folder / "valid.jsonl", ("hi",), 4, 2)
    study = workplace.study({"train": {
        "command": "{python} -m boli train adapter {recipe} data.train=[{train}] data.valid=[{valid}] run.device=cpu "
                   "run.root={run} run.name={name} run.resume_latest=true adapter.rank={rank} fit.steps=160 "
                   "fit.evaluate_every=80",
        "cases": [{"rank": 4, "copy": 0}, {"rank": 4, "copy": 1}], "task": "r{rank}_{copy}",
        "variables": {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
    }}, values={"python": sys.executable, "train": str(train), "valid": str(valid),
                "recipe": str(REPOSITORY / "training/recipes/debug/adapter.yaml")})  # fmt: skip
    workplace.boli("submit", study)
    rows = workplace.until(study, lambda s: 3 <= s["train/r4_0"]["step"] < 140)
    ask("scancel", "--batch", "--signal=USR1", rows["train/r4_0"]["job"])
    rows = workplace.until(study, only("done"), timeout_s=120)
    assert {name: row["restarts"] for name, row in rows.items()} == {"train/r4_0": 1, "train/r4_1": 0}
    adapters = [next(workplace.run_folder(task).glob("*/adapter/adapter_model.safetensors")) for task in rows]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert "metrics.valid_wer" in rows["train/r4_0"]


def test_the_controller_may_restart(workplace, cluster):
    # long enough to run on while the controller goes and the table is read
    study = workplace.study({"train": {"command": TRAIN + " --steps 100 --step-s 0.1", "grid": {"seed": [1, 2]}},
                             "later": {"command": "true"}})  # fmt: skip
    workplace.boli("submit", "--only", "train", study)
    workplace.until(study, lambda s: all(s[f"train/{i}"]["step"] >= 2 for i in (1, 2)))
    private_slurm.stop_daemon(cluster, "slurmctld")
    restart = threading.Timer(1.0, private_slurm.start_controller, [cluster])
    try:
        rows = workplace.states(study)
    finally:
        restart.start()  # whatever was read: the tests after this one need it
    assert "1 tasks submitted" in workplace.boli("submit", study)  # it waits for the controller
    restart.join()
    assert [rows[f"train/{i}"]["state"] for i in (1, 2)] == ["running", "running"]
    assert rows["later/later"]["state"] == "planned"
    workplace.until(study, only("done"), timeout_s=120)
    assert all(len(attempts(workplace, f"train/{i}")) == 1 for i in (1, 2))


def test_what_is_cancelled_does_not_come_back_until_it_is_resubmitted(workplace):
    study = workplace.study({
        "train": {"command": TRAIN + " --steps {steps} --step-s 0.1", "grid": {"seed": [1], "steps": [40]}},
        "after": {"command": "true", "needs": ["train"]},
        "alone": REFERENCE,
    })  # fmt: skip
    workplace.boli("submit", study)
    workplace.until(study, lambda s: s["train/1_40"]["step"] >= 3 and s["alone/1_40"]["state"] == "done")
    assert "2 tasks cancelled" in workplace.boli("cancel", study)
    rows = workplace.until(study, only("cancelled", "blocked", "done"))
    assert rows["train/1_40"]["state"] == "cancelled"
    deadline = time.monotonic() + 120  # a busy node takes a while to complete what was cancelled (seen: over 30 s)
    while ask("squeue", "-h", "--name=trial.train") and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.5)
    assert not ask("squeue", "-h", "--name=trial.train")
    step = workplace.read("train/1_40", "checkpoint.json")["step"]
    assert step >= 3
    workplace.boli("resubmit", "--failed", study)
    rows = workplace.until(study, only("done"))
    assert rows["train/1_40"]["restarts"] == 1
    assert workplace.read("train/1_40", "weights.json") == workplace.read("alone/1_40", "weights.json")


def test_eighty_tasks_as_one_array(workplace):
    grid = {"model": ["a", "b", "c", "d", "e"], "language": ["hi", "pa", "te", "it"], "rank": [8, 16, 32, 64]}
    study = workplace.study({"adapters": {"command": "echo '{{\"wer\": 0.5}}' > {run}/metrics.json", "grid": grid}})
    said = workplace.boli("plan", study)
    assert "Nothing was submitted" in said
    assert "#SBATCH --array=0-79\n" in (workplace.run_folder("plan") / "adapters.sbatch").read_text()
    workplace.boli("submit", study)
    workplace.until(study, only("done"), timeout_s=120)
    assert "80 rows" in workplace.boli("collect", study)
    assert "80" in workplace.boli("status", study)


def test_two_submissions_at_once_send_each_task_once(workplace):
    study = workplace.study({"train": {"command": "sleep 1", "grid": {"i": [0, 1, 2]}}})
    command = [sys.executable, "-m", "boli", "slurm", "submit", str(study)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert sorted("3 tasks submitted" in text for text in said) == [False, True]
    workplace.until(study, only("done"))


def test_an_interrupted_submission_is_found_again(workplace, monkeypatch):
    """`boli` dies between sbatch and its answer: the job exists, its id was never written down."""
    study = workplace.study({"train": {"command": "sleep 1"}})
    note = ledger.Ledger.note

    def die(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger.Ledger, "note", die)
    workplace.boli("submit", study, code=130)
    monkeypatch.setattr(ledger.Ledger, "note", note)
    assert workplace.states(study)["train/train"]["job"]
    assert "There is nothing to submit" in workplace.boli("submit", study)
    workplace.until(study, only("done"))


def test_slurms_own_words_reach_the_user(workplace):
    study = workplace.study({"train": {"command": "true", "resources": {"partition": "nowhere"}}})
    said = workplace.boli("submit", study, code=1)
    assert "boli: sbatch failed" in said
    assert "invalid partition specified: nowhere" in said
    assert workplace.states(study)["train/train"]["state"] == "planned"


def test_accounting_is_asked_before_the_queue(workplace, monkeypatch):
    """A job that the controller has forgotten and that wrote no last word: only sacct knows it ran out of memory."""
    study = workplace.study({"train": {"command": "sleep 30"}})
    workplace.boli("submit", study)
    job = workplace.until(study, only("running"))["train/train"]["job"]
    workplace.boli("cancel", study)
    workplace.until(study, only("cancelled"))
    forged = workplace.folder / "sacct"
    forged.write_text(f"#!/bin/sh\necho '{job}|OUT_OF_MEMORY|0:125|n1|trial.train'\n")
    forged.chmod(0o755)
    monkeypatch.setenv("PATH", f"{workplace.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(scheduler, "squeue", dict)
    row = workplace.states(study)["train/train"]
    assert row["state"] == "failed"
    assert row["note"].startswith("out of memory (it had 100M)")
    assert json.loads(json.dumps(row)) == row


def test_the_time_limit_is_survived_and_restarts_are_capped(slow, monkeypatch, capsys):
    """The real thing: SLURM sends SIGUSR1 before the limit, at a time of its choice (up to a minute early)."""
    workplace, study = slow
    workplace.capsys = capsys
    monkeypatch.chdir(workplace.folder)
    rows = workplace.until(study, only("done", "failed"), timeout_s=120)
    assert rows["train/1_100"]["state"] == "done"
    assert rows["train/1_100"]["restarts"] >= 1
    tasks = ("train/1_100", "joined/1_100/0", "joined/1_100/1", "alone/1_100")  # (torchrun: a folder for each rank)
    assert len({workplace.read(task, "weights.json", "slow") for task in tasks}) == 1
    assert rows["joined/1_100"]["restarts"] >= 1
    assert "time is nearly up" in next(workplace.run_folder("logs", "slow").glob("slow.train_*")).read_text()
    assert rows["again/again"]["note"] == "restarted 5 times (limits.max_restarts is 4)"


def test_a_lost_node_costs_only_the_steps_since_the_checkpoint(workplace):
    study = workplace.study({
        "train": {"command": TRAIN + " --steps {steps} --step-s 0.1", "grid": {"seed": [1], "steps": [40]}},
        "alone": REFERENCE,
    })  # fmt: skip
    workplace.boli("submit", study)
    rows = workplace.until(study, lambda s: s["train/1_40"]["step"] >= 3)
    node = ask("squeue", "-h", f"--jobs={rows['train/1_40']['job']}", "--format=%N")
    ask("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")
    try:
        rows = workplace.until(study, only("done"))
    finally:
        # (it may have come back by itself)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True)
    assert rows["train/1_40"]["restarts"] == 1
    assert workplace.read("train/1_40", "weights.json") == workplace.read("alone/1_40", "weights.json")
