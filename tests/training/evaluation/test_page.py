"""The measured part of docs/embedded.md."""

import pytest

from training.evaluation.measurements import Measurement
from training.evaluation.page import (
    BEGIN,
    END,
    classifier_table,
    error_table,
    language_table,
    replace_measured,
)
from zoo.errors import DataError


def wer(value, language, system, low=None, high=None, count=20, **conditions):
    return Measurement("wer", value, low, high, count, language, system, normaliser="indic", conditions=conditions)


def test_one_line_a_language_one_column_a_system():
    found = [
        wer(0.9, "hi", "base", 0.8, 1.0),
        wer(0.25, "hi", "adapter", 0.2, 0.3, rank=8, variant="default"),
        wer(0.2, "hi", "adapter", rank=64, variant="default"),
        wer(0.3, "hi", "adapter", rank=16, variant="seed-1"),
        wer(0.35, "hi", "routed", policy="hard"),
        wer(1.5, "te", "base", count=7),
        wer(0.5, "", "base"),  # over all languages: not a line
        Measurement("wer", 0.1, language="hi", system="base", normaliser="raw"),
    ]
    assert error_table(found) == [
        "| | words | base | r8 | r64 | r16 seed-1 | hard |",
        "|---|---|---|---|---|---|---|",
        "| hi | 20 | 90.0 [80, 100] | 25.0 [20, 30] | 20.0 | 30.0 | 35.0 |",
        "| te | 7 | 150.0 | - | - | - | - |",
    ]


def test_languages_heard_are_balanced_over_languages():
    def heard(value, language, count):
        conditions = {"policy": "hard"}
        return Measurement("routing_accuracy", value, None, None, count, language, "routed", conditions=conditions)

    lines = language_table([heard(0.7, "", 30), heard(0.9, "hi", 20), heard(0.3, "te", 10)])
    assert lines[-1] == "| classifier | 90.0 (20) | 30.0 (10) | 60.0 | 70.0 (30) |"
    assert language_table([wer(0.5, "hi", "base")]) == []


def test_heads_beside_the_spectrum(tmp_path):
    run = tmp_path / "20260101-000000_across"
    run.mkdir()
    header = "head,test,slice,clips,accuracy,balanced_accuracy\n"
    rows = "linear,lid_test,across corpora,40,0.5,0.4\nspectrum,lid_test,0 to 1 s,3,1,1\n"
    (run / "results.csv").write_text(header + rows)
    assert classifier_table([run])[2:] == ["| across | lid_test | across corpora | 40 | linear | 50.0 | 40.0 |"]
    with pytest.raises(DataError, match=r"no results\.csv"):
        classifier_table([tmp_path])


def test_only_what_lies_between_the_marks_is_replaced():
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = replace_measured(document, ["| new |"], "page.md")
    assert once == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    assert replace_measured(once, ["| new |"], "page.md") == once
    for bad in ("nothing", f"{END}\n{BEGIN}", document + document):
        with pytest.raises(DataError, match=r"page\.md has no place"):
            replace_measured(bad, [], "page.md")
