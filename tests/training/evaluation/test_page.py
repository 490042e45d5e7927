"""The measured part of docs/embedded.md."""

from pathlib import Path

import pytest

from training.evaluation.measurements import Measurement
from training.evaluation.page import TestSet as Reported
from training.evaluation.page import classifier_table, error_table, language_table, replace_measured, sets, tap_table
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


def test_layers_are_compared_by_what_is_heard_and_written(tmp_path, toy_folder, toy_store, monkeypatch):
    from tests.toy_router import make
    from tests.training.conftest import write_manifest
    from training.clips import load_clips
    from training.data.manifest import read_manifest
    from training.recipe import DataOptions

    run = tmp_path / "tap1"
    run.mkdir()
    (run / "results.csv").write_text(
        "head,test,slice,clips,accuracy,balanced_accuracy\nlinear,t,all,9,0.5,0.4\nlinear,t,0 to 1 s,9,0.1,0.1\n"
        "linear + own detection,t,all,9,0.6,0.45\nspectrum,t,all,9,0.2,0.2\n"
    )
    (run / "metrics.json").write_text('{"final": {"valid_balanced_accuracy": 0.7, "valid_frame_accuracy": 0.6}}')
    clips = load_clips(read_manifest(write_manifest(tmp_path / "c.jsonl", ("hi", "te"), 6, 3)), DataOptions())
    router = make(toy_folder, toy_store, monkeypatch)
    asked = []
    lines = tap_table([run], lambda folder: asked.append(folder) or router, [Reported("Toy speech", clips)])
    assert asked == [run / "classifier"]
    assert "| words wrong: toy speech, % | ms a clip" in lines[0]
    tap, *shares, wrong, ms = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert (tap, shares) == ("1", ["70.0", "60.0", "40.0", "45.0"])
    texts = [t.text for t in router.transcribe([clips.audio(i) for i in range(6)], switching=False)]
    right = sum(text == record.text for text, record in zip(texts, clips.records, strict=True))
    assert wrong.endswith("(6)")
    assert float(wrong.split()[0]) == pytest.approx(100 * (6 - right) / 6, abs=0.1)
    assert float(ms) > 0
    (run / "metrics.json").unlink()
    with pytest.raises(DataError, match=r"no metrics\.json"):
        tap_table([run], lambda folder: router, [])


def test_only_what_lies_between_the_marks_is_replaced():
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    other = "<!-- across: begin -->\nolder\n<!-- across: end -->\n"
    document = f"before\n{begin}\nold\n{end}\nafter\n{other}"
    once = replace_measured(document, ["| new |"], "page.md")
    assert once == f"before\n{begin}\n\n| new |\n\n{end}\nafter\n{other}"
    assert replace_measured(once, ["| new |"], "page.md") == once
    assert replace_measured(document, ["| new |"], "page.md", "across") == document.replace("older", "\n| new |\n")
    for bad in ("nothing", f"{end}\n{begin}", document + document):
        with pytest.raises(DataError, match=r"page\.md has no place"):
            replace_measured(bad, [], "page.md")


@pytest.mark.parametrize("part", ["measured", "across"])
def test_the_shipped_page_can_be_made_again(part):
    document = Path("docs/embedded.md").read_text(encoding="utf-8")
    assert "| new |" in replace_measured(document, ["| new |"], "docs/embedded.md", part)
    headings = [line for line in document.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))


def test_named_corpora_are_those_of_people():
    """What is synthetic has none of them, and is reported on all the same."""
    assert [(pattern, of, most) for _, pattern, of, most in sets("a,b", 30)] == [
        ("human_{}_test.jsonl", "a,b", 0),
        ("human_{}_known_speaker.jsonl", "a,b", 0),
        ("{}_test.jsonl", None, 30),
    ]
    assert {of for _, _, of, _ in sets(None, 30)} == {None}
    assert {title for title, *_ in sets("a", 0)}.isdisjoint(title for title, *_ in sets(None, 0))
