"""Study and site files: what they become, and what each mistake is told."""

from pathlib import Path

import pytest

from slurm.errors import SlurmError
from slurm.resources import megabytes, seconds, slurm_memory, slurm_time
from slurm.site import Site, load_site
from slurm.study import load_study
from slurm.task import expand


def tasks(path: Path, text: str, site: Site | None = None):
    file = path / "study.yaml"
    file.write_text(text)
    return expand(load_study(file), site or Site())


def test_grid_times_cases_less_exclude(tmp_path):
    made = tasks(tmp_path, """
name: s
values: {data: /d/x y}
resources: {small: {time: 8h, memory: 32G}, large: {time: 2-00:00:00, memory: 64G}}
phases:
  last: {command: "true", needs: [train]}
  train:
    command: go --model {model} --lang {lang} --data {data} --out {run}
    cases: [{model: a/b, size: small}, {model: c, size: large}]
    grid: {lang: [hi, no], rank: [8, 16]}
    exclude: [{model: c, rank: 16}]
    task: "{model}_{lang}_r{rank}"
    resources: "{size}"
""")  # fmt: skip
    assert [task.id for task in made] == [
        "train/a-b_hi_r8", "train/a-b_hi_r16", "train/a-b_no_r8", "train/a-b_no_r16", "train/c_hi_r8", "train/c_no_r8",
        "last/last",
    ]  # fmt: skip
    first = made[0]
    assert first.command == f"go --model a/b --lang hi --data '/d/x y' --out {Path.cwd()}/runs/s/train/a-b_hi_r8"
    assert (first.resources.memory, made[4].resources.memory) == ("32G", "64G")
    assert [task.index for task in made] == [0, 1, 2, 3, 4, 5, 0]
    assert len({task.fingerprint for task in made}) == 7


def test_the_fingerprint_follows_the_work_and_nothing_else(tmp_path):
    text = "name: s\nphases: {p: {command: 'do FILE {run}', inputs: [FILE], resources: {time: 1h}}}"
    recipe = tmp_path / "recipe"
    recipe.write_text("a")
    text = text.replace("FILE", str(recipe))

    def fingerprint(text=text, site=None):
        return tasks(tmp_path, text, site)[0].fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(text.replace("1h", "2h")) == first
    assert fingerprint(site=Site(runs=str(tmp_path / "elsewhere"))) == first
    assert fingerprint(text.replace("do ", "do -v ")) != first
    recipe.write_text("b")
    assert fingerprint() != first


def test_values_are_quoted_and_lists_become_words(tmp_path):
    [task] = tasks(tmp_path, "name: s\nvalues: {v: [a b, \"it's\", true, 3]}\nphases: {p: {command: 'x {v} {{y}}'}}")
    assert task.command == "x 'a b' 'it'\"'\"'s' true 3 {y}"


MISTAKES = {
    "no file": (None, "cannot be read"),
    "not YAML": ("a: [", "is not YAML"),
    "twice": ("name: a\nname: b\nphases: {p: {command: x}}", "key 'name' stands twice"),
    "no phases": ("name: a", "has no phases"),
    "bad name": ("name: a b\nphases: {p: {command: x}}", "has the name 'a b'"),
    "unknown key": ("name: a\nphases: {p: {comand: x}}", "unknown key 'comand'. Valid: command, title"),
    "no command": ("name: a\nphases: {p: {grid: {a: [1]}}}", "has no 'command'"),
    "two lines": ("name: a\nphases: {p: {command: \"x\\ny\"}}", "Valid: one line"),
    "placeholder": ("name: a\nphases: {p: {command: 'x {y}'}}", "unknown placeholder {y}. Valid: name, phase, run"),
    "brace": ("name: a\nphases: {p: {command: 'x {'}}", "write literal braces twice"),
    "needs": ("name: a\nphases: {p: {command: x, needs: [q]}}", "needs the unknown phase 'q'. Valid: p"),
    "kind": ("name: a\nphases: {p: {command: x}, q: {command: x, needs: {p: after}}}", "Valid: afterok, aftercorr"),
    "circle": ("name: a\nphases: {p: {command: x, needs: [q]}, q: {command: x, needs: [p]}}", "wait for each other"),
    "unequal": ("name: a\nphases: {p: {command: x}, q: {command: x, grid: {i: [1, 2]}, needs: {p: aftercorr}}}",
                "phases with equally many tasks"),
    "same names": ("name: a\nphases: {p: {command: 'x {i}', grid: {i: [1, 2]}, task: t}}", "two tasks named 't'"),
    "empty grid": ("name: a\nphases: {p: {command: x, grid: {i: []}}}", "grid i is empty"),
    "grid no list": ("name: a\nphases: {p: {command: x, grid: {i: 3}}}", "Valid: a list"),
    "reserved": ("name: a\nphases: {p: {command: x, grid: {run: [1]}}}", "the name 'run' is taken"),
    "exclude": ("name: a\nphases: {p: {command: x, grid: {i: [1]}, exclude: [{j: 1}]}}", "unknown name 'j'. Valid: i"),
    "all excluded": ("name: a\nphases: {p: {command: x, grid: {i: [1]}, exclude: [{i: 1}]}}", "has no tasks"),
    "resources": ("name: a\nresources: {s: {}}\nphases: {p: {command: x, resources: t}}", "no resources 't'. Valid: s"),
    "time": ("name: a\nphases: {p: {command: x, resources: {time: soon}}}", "Valid: 12h, 90m"),
    "memory": ("name: a\nphases: {p: {command: x, resources: {memory: 32}}}", "Valid: 500M, 32G"),
    "gpus": ("name: a\nphases: {p: {command: x, resources: {gpus: -1}}}", "gpus is -1"),
    "nodes": ("name: a\nphases: {p: {command: x, resources: {nodes: 2}}}", "set launch: torchrun"),
    "launch": ("name: a\nphases: {p: {command: x, resources: {launch: mpi}}}", "Valid: plain, torchrun"),
    "input": ("name: a\nphases: {p: {command: x, inputs: [nothing.yaml]}}", "is no file"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_study_are_named(workplace, name):
    text, message = MISTAKES[name]
    file = workplace.folder / "wrong.yaml"
    if text is not None:
        file.write_text(text)
    said = workplace.boli("plan", file, code=1)
    assert said.startswith("boli: ")
    assert message in said
    assert "Traceback" not in said


SITE_MISTAKES = {
    "unknown": ("partitoin = 'x'", "unknown key 'partitoin'. Valid: partition, cpu_partition"),
    "section": ("[limits]\nparalel = 3", "[limits] has the unknown key 'paralel'"),
    "type": ("account = 3", "account is 3. Valid: text"),
    "memory": ("memory = 'much'", "Memory 'much' is not understood"),
    "not TOML": ("partition = x", "is not TOML"),
    "directive": ("directives = ['x']", "Site directive 'x' is no option"),
    "negative": ("[limits]\nparallel = -1", "Site limits.parallel is -1"),
    "boolean": ("cpus = true", "cpus is True. Valid: a whole number"),
}


@pytest.mark.parametrize("name", SITE_MISTAKES)
def test_mistakes_in_a_site_file_are_named(tmp_path, name):
    text, message = SITE_MISTAKES[name]
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(SlurmError) as error:
        load_site(file)
    assert message in str(error.value)


def test_the_site_file_is_found(workplace, monkeypatch):
    assert load_site().cpus == 1  # ./site.toml
    other = workplace.folder / "other.toml"
    other.write_text("cpus = 3")
    monkeypatch.setenv("BOLI_SITE", str(other))
    assert load_site().cpus == 3
    assert load_site(workplace.folder / "site.toml").cpus == 1


def test_times_and_memory():
    assert [seconds(t) for t in ("90m", "12h", "2d", "1:00:00", "2-12:00:00", "1.5h")] == [
        5400, 43200, 172800, 3600, 216000, 5400]  # fmt: skip
    assert slurm_time(216000) == "2-12:00:00"
    assert slurm_time(5400) == "01:30:00"
    assert [slurm_memory(megabytes(m)) for m in ("32G", "1T", "1.5G", "500MB")] == ["32G", "1024G", "1536M", "500M"]
