import csv
from pathlib import Path

import pytest

from training.data.manifest import Record
from training.evaluation.metrics import align
from training.evaluation.normalisers import normaliser
from training.evaluation.tables import aligned, errors, predictions, write_tables
from zoo.errors import DataError

CLIPS = [
    ("hi", "मैं घर जा रहा हूँ", "मै घर रहा हूँ"),
    ("hi", "वह घर आया", "वह घर आया"),
    ("it", "uno due tre quattro cinque", "uno cinque"),
    ("it", "va bene", "va bene va bene va bene va bene"),
    ("it", "casa", "caso"),
]
RECORDS = [Record(f"c{i}", Path("x"), ref, lang, "s", 1.0, "test") for i, (lang, ref, _) in enumerate(CLIPS)]
HYPOTHESES = [hyp for *_, hyp in CLIPS]


@pytest.fixture(scope="module")
def alignment():
    return align([r.text for r in RECORDS], HYPOTHESES, [r.lang for r in RECORDS], normaliser("indic"))


def test_predictions_by_language_worst_first(alignment):
    rows = predictions(RECORDS, HYPOTHESES, alignment)
    assert [r.id for r in rows] == ["c0", "c1", "c3", "c4", "c2"]
    first = rows[0]
    assert (first.words, first.substitutions, first.deletions, first.insertions, first.wer) == (5, 1, 1, 0, 0.4)
    assert rows[2].loop == "va bene"
    assert rows[4].dropped_runs == 1
    with pytest.raises(DataError, match="do not match"):
        predictions(RECORDS[1:], HYPOTHESES, alignment)


def test_aligned_words(alignment):
    assert aligned(alignment, 0) == "मैं>मै घर -जा रहा हूँ"
    assert aligned(alignment, 2) == "uno -due -tre -quattro cinque"
    assert aligned(alignment, 3).count("+va") == 3


def test_errors_are_counted_per_kind_and_language(alignment):
    rows = errors(alignment, [r.lang for r in RECORDS])
    table = {(r.language, r.kind, r.reference, r.hypothesis): (r.count, r.share) for r in rows}
    assert table["hi", "substitution", "मैं", "मै"] == (1, 1.0)
    assert table["it", "character substitution", "a", "o"] == (1, 1.0)
    assert table["it", "dropped run", "due tre quattro", ""] == (1, 1.0)
    assert table["it", "loop", "", "va bene"] == (1, 1.0)
    assert table["it", "insertion", "", "va"] == (3, 0.5)
    assert table["it", "deletion", "due", ""] == (1, 0.3333)


def test_tables_are_written_for_spreadsheets(alignment, tmp_path):
    written = write_tables(tmp_path, RECORDS, HYPOTHESES, alignment)
    assert sorted(written) == ["errors_hi", "errors_it", "predictions", "predictions_hi", "predictions_it"]
    with open(written["predictions_hi"], encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["reference"] for row in rows] == [CLIPS[0][1], CLIPS[1][1]]
    assert written["predictions"].read_bytes().startswith(b"\xef\xbb\xbf")
