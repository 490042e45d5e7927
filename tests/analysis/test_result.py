"""Results saved and read, the cache, the progress bar."""

import csv
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from analysis.cache import Cache
from analysis.progress import steps
from analysis.result import Provenance, Result, read, save
from zoo.errors import DataError


@dataclass(frozen=True)
class Made:
    provenance: Provenance = field(
        default_factory=lambda: Provenance("made", "toy", "ab", counts={"clips": 3}, notes=("a note",))
    )

    def tables(self):
        return {"rows": [{"language": "हिन्दी", "wer": np.float64(0.5), "hits": np.int64(3), "gap": float("nan")}]}


def test_a_result_is_saved_as_json_and_csv_and_read_again(tmp_path):
    made = Made()
    assert isinstance(made, Result)
    written = save(made, tmp_path / "öut")
    assert sorted(path.name for path in written.values()) == ["made.json", "made_rows.csv"]
    about, tables = read(written["made"])
    assert (about.base, about.counts, about.notes) == ("toy", {"clips": 3}, ("a note",))
    assert about.machine["torch"]
    assert tables == {"rows": [{"language": "हिन्दी", "wer": 0.5, "hits": 3, "gap": None}]}
    with open(written["made_rows"], encoding="utf-8-sig", newline="") as file:
        assert list(csv.DictReader(file)) == [{"language": "हिन्दी", "wer": "0.5", "hits": "3", "gap": ""}]


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "boli.scores"}', '{"kind": "boli.analysis"}'])
def test_what_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(DataError, match="is no result of an analysis"):
        read(path)
    with pytest.raises(DataError, match="is no result"):
        read(tmp_path / "missing.json")


def test_items_are_computed_once_and_an_interrupted_analysis_goes_on(tmp_path):
    calls = []

    def compute(i):
        calls.append(i)
        if i == 2 and len(calls) == 3:
            raise KeyboardInterrupt
        return {"value": i / 3, "name": "ਪੰਜਾਬੀ", "rows": [[1, 2]], "array": np.arange(i, dtype=np.float32)}

    def run():
        cache = Cache(tmp_path / "cache")
        return cache, [cache.item("made-1", {"i": i, "b": 1}, lambda i=i: compute(i)) for i in range(4)]

    with pytest.raises(KeyboardInterrupt):
        run()
    cache, items = run()
    assert (cache.found, cache.made) == (2, 2)
    assert calls == [0, 1, 2, 2, 3]
    cache, again = run()
    assert (cache.found, cache.made) == (4, 0)
    for item, same in zip(items, again, strict=True):
        assert json.dumps({k: v for k, v in item.items() if k != "array"}) == json.dumps(
            {k: v for k, v in same.items() if k != "array"}
        )
        assert same["array"].dtype == np.float32
        np.testing.assert_array_equal(item["array"], same["array"])
    for path in (tmp_path / "cache" / "made-1").iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    cache, _ = run()
    assert cache.made == 4, "a damaged item is computed again"
    other = cache.item("made-2", {"i": 1, "b": 1}, lambda: {"value": 9})
    assert other == {"value": 9}, "another version of the code has items of its own"


def test_without_a_folder_nothing_is_kept(tmp_path):
    cache = Cache(None)
    assert [cache.item("made-1", {}, lambda: {"a": 1})["a"] for _ in range(2)] == [1, 1]
    assert cache.made == 2


def test_steps_gives_the_items(capsys):
    assert list(steps("x", [1, 2, 3])) == list(steps("x", iter([1, 2, 3]), show=False)) == [1, 2, 3]
    assert capsys.readouterr().out == ""
