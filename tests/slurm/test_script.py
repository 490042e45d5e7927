"""Job scripts, held to golden files that a person has read; and the shapes of arrays."""

import os
import subprocess
from pathlib import Path

import pytest

import slurm
from slurm.script import Array, ranges, write_array
from slurm.site import load_site
from slurm.study import load_study
from slurm.task import expand

GOLDEN = Path(__file__).with_name("golden")
REPOSITORY = Path(slurm.__file__).parent.parent

SITE = """
partition = "gpu-a100"
cpu_partition = "cpu"
account = "speech"
gres = "gpu:a100"
directives = ["--constraint=a100_80g"]
[mail]
user = "somebody@example.org"
[environment]
setup = ["module load cuda/12.4"]
variables = { HF_HOME = "/scratch/hub cache" }
python = "/opt/boli/bin/python"
[limits]
parallel = 8
"""
STUDY = """
name: study
resources:
  small: {time: 8h, memory: 32G}
  large: {time: 48h, memory: 64G}
phases:
  pull:
    command: boli zoo pull {model}
    grid: {model: [openai/whisper-small, openai/whisper-large-v3]}
    resources: {time: 2h, memory: 8G, gpus: 0, cpus: 2}
  adapters:
    title: LoRA adapters, one per model, language and rank
    needs: [pull]
    command: boli train adapter recipe.yaml model={model} language={language} rank={rank} run.root={run}
    cases:
      - {model: openai/whisper-small, size: small}
      - {model: openai/whisper-large-v3, size: large}
    grid: {language: [hi, pa], rank: [8, 16]}
    task: "{model}_{language}_r{rank}"
    resources: "{size}"
    parallel: 4
  full:
    title: every weight trained, two nodes
    command: boli train adapter full.yaml run.root={run}
    resources: {like: large, nodes: 2, gpus: 4}
    variables: {NCCL_DEBUG: WARN}
""".replace("gpus: 4}", "gpus: 4, launch: torchrun}")


def write_all(folder: Path) -> None:
    """The scripts and tables of STUDY, with this machine's folders taken out."""
    (folder / "site.toml").write_text(SITE)
    (folder / "study.yaml").write_text(STUDY)
    study, site = load_study(folder / "study.yaml"), load_site(folder / "site.toml")
    tasks = expand(study, site)
    for phase in study.phases:
        array = Array(phase, tuple(task for task in tasks if task.phase == phase))
        script = write_array(array, study, site, folder / "plan", folder / "runs/study/logs")
        for path in (script, script.with_suffix(".tsv")):
            text = path.read_text().replace(str(folder), "/home/somebody/project").replace(str(REPOSITORY), "/opt/boli")
            path.write_text(text)


@pytest.mark.parametrize("name", ["pull.sbatch", "adapters.sbatch", "full.sbatch", "adapters.tsv"])
def test_scripts_are_those_that_were_read(tmp_path, monkeypatch, name):
    """To write them anew after a wanted change: BOLI_WRITE_GOLDEN=1 pytest tests/slurm/test_script.py"""
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path)
    text = (tmp_path / "plan" / name).read_text()
    if os.environ.get("BOLI_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", ["pull", "adapters", "full"])
def test_bash_understands_them(name):
    assert subprocess.run(["bash", "-n", GOLDEN / f"{name}.sbatch"]).returncode == 0


def test_one_array_asks_for_the_most_and_lowers_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    study = load_study(tmp_path / "study.yaml")
    tasks = [task for task in expand(study, load_site()) if task.phase == "adapters"]
    array = Array("adapters", tuple(tasks))
    assert (array.resources.time, array.resources.memory) == ("2-00:00:00", "64G")
    assert array.lowered() == [("0-3", "08:00:00", "32G")]


def test_ranges():
    assert ranges([5, 0, 1, 2, 9, 8]) == "0-2,5,8-9"


def test_more_tasks_than_the_cluster_takes_in_one_array(workplace):
    site = workplace.folder / "site.toml"
    site.write_text(site.read_text() + "max_array = 4\n")
    study = workplace.study({
        "p": {"command": "x {i}", "grid": {"i": list(range(10))}},
        "q": {"command": "x {i}", "grid": {"i": list(range(10))}, "needs": {"p": "aftercorr"}},
    })  # fmt: skip
    said = workplace.boli("plan", study)
    plan = workplace.run_folder("plan")
    arrays = [path.read_text().split("--array=")[1].split("\n")[0] for path in sorted(plan.glob("p.*.sbatch"))]
    assert arrays == ["0-3", "0-3", "0-1"]
    assert "number=$((SLURM_ARRAY_TASK_ID + 8))" in (plan / "p.3.sbatch").read_text()
    assert "aftercorr:<p.3>" in said


def test_different_gpus_are_different_arrays(workplace):
    study = workplace.study({"p": {"command": "x {i}", "grid": {"i": [1, 2, 3]}, "cases": [{"g": "a"}, {"g": "b"}],
                                   "resources": "{g}"}}, resources={"a": {"gpus": 1}, "b": {"gpus": 2}})  # fmt: skip
    assert "6" in workplace.boli("plan", study)
    assert len(list(workplace.run_folder("plan").glob("p.*.sbatch"))) == 2


def test_plan_warns_of_values_and_programs_that_would_do_nothing(workplace):
    study = workplace.study({"p": {"command": "nosuchprogram", "grid": {"rank": [8, 16]}}})
    said = workplace.boli("plan", study)
    assert "phase 'p' has 'rank' in its grid, but not in its command" in said
    assert "'nosuchprogram' is not found on this machine" in said
    assert "Nothing was submitted" in said
