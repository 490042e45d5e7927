"""Results as tables, the display, and what SLURM's answers mean."""

import csv

import pytest
from pyarrow import parquet

from slurm import scheduler, table
from slurm.collect import write
from slurm.errors import SlurmError
from slurm.site import load_site
from slurm.state import flat, look
from slurm.study import load_study
from tests.slurm.test_local import local


@pytest.fixture
def finished(workplace):
    """Two of three tasks done, with metrics; the third failed."""
    study = workplace.study({"train": {
        "command": "echo '{{\"wer\": 0.'{rank}', \"by\": {{\"hi\": 1}}, \"history\": [1]}}' > {run}/metrics.json; "
                   "test {rank} != 64",
        "grid": {"rank": [8, 16, 64]}, "cases": [{"model": "a/b", "state": "Kerala"}],
    }})  # fmt: skip
    local(workplace, study, code=1)
    return workplace, study


def test_csv_and_parquet_hold_a_row_per_task_and_name_what_is_missing(finished):
    workplace, study = finished
    said = workplace.boli("collect", study, code=1)
    assert "1 of 3 tasks are missing" in said
    assert "a-b_Kerala_64  failed: exit code 1" in said
    with open(workplace.run_folder("results.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["metrics.wer"] for row in rows] == ["0.8", "0.16", ""]
    assert rows[0]["metrics.by.hi"] == "1"
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    assert rows[0]["value.state"] == "Kerala"  # a grid value called like a column of ours
    columns = parquet.read_table(workplace.run_folder("results.parquet")).to_pydict()
    assert columns["rank"] == [8, 16, 64]
    assert columns["metrics.wer"] == [0.8, 0.16, None]


def test_out_and_only(finished):
    workplace, study = finished
    out = workplace.folder / "deep" / "own.parquet"
    said = workplace.boli("collect", "--out", out, "--only", "train/*_8", study)
    assert "1 rows" in said
    assert parquet.read_table(out).num_rows == 1
    assert "ends in .csv or .parquet" in workplace.boli("collect", "--out", "x.xlsx", study, code=1)
    assert "matches no task. Valid: train" in workplace.boli("collect", "--only", "trian", study, code=1)


def test_mixed_columns_become_text(tmp_path):
    write([{"a": 1, "b": 1}, {"a": "x", "b": 2.5}, {"a": None}], tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "t.parquet").to_pydict() == {"a": ["1", "x", None], "b": [1.0, 2.5, None]}
    with pytest.raises(SlurmError):
        write([], tmp_path / "t.txt")


def test_the_status_shows_the_last_wer_and_the_failure(finished):
    workplace, study = finished
    said = workplace.boli("status", "--all", study, code=1)
    assert "80.0 %" in said
    assert "exit code 1" in said
    picture = look(load_study(study), load_site())
    assert picture.tasks[1].wer == 0.16


def test_a_changed_command_is_to_be_run_again(finished):
    workplace, study = finished
    study.write_text(study.read_text().replace("test {rank} != 64", "true"))
    rows = workplace.states(study)
    assert {row["state"] for row in rows.values()} == {"planned"}
    assert {row["note"] for row in rows.values()} == {"changed since it last ran"}
    assert "3 of 3 tasks done" in local(workplace, study)
    assert len(list(workplace.run_folder("train").glob("*.was-*"))) == 3


def test_sacct_answers_are_understood():
    jobs = scheduler.parse_sacct(
        "7_0|COMPLETED|0:0|n1|s.p\n7_1|OUT_OF_MEMORY|0:125|n1|s.p\n7_2|CANCELLED by 1000|0:15|n2|s.p\n"
        "7_[3-4,8%2]|PENDING|0:0|None assigned|s.p\n9_0|FAILED|3:0|n1|s.p\n\nbroken line\n"
    )
    assert jobs["7_1"].state == "OUT_OF_MEMORY"
    assert jobs["7_2"].state == "CANCELLED"
    assert [name for name, job in jobs.items() if job.state == "PENDING"] == ["7_3", "7_4", "7_8"]
    assert jobs["7_8"].live
    assert jobs["9_0"].exit_code == 3


def test_nested_metrics_and_durations():
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": [1], "f": "x"}) == {"a.b": 1, "a.c.d": 2, "f": "x"}
    assert [table.duration(s) for s in (0, 59, 61, 3600, 90000)] == ["0 s", "59 s", "1 m 1 s", "1 h", "1 d 1 h"]
