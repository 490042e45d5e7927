"""Many processes, and processes that are killed: small runs of what `python -m adapters.reliability` does at length."""

import pytest

from adapters.reliability import kills, publishers, scale


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_kills_leave_nothing_corrupt(tmp_path):
    rows = kills(15, 1, tmp_path)
    assert rows["killed under way"] >= 15
    for label in ("corrupt adapters seen", "adapters in two versions", "leftovers that reindex did not clear"):
        assert rows[label] == 0
    assert rows["live publishers disturbed by reindex"] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_eighty_publishers_and_a_reader(tmp_path):
    rows = publishers(80, tmp_path)
    for label in ("processes that failed", "adapters lost", "adapters doubled", "staging folders left"):
        assert rows[label] == 0
    assert rows["adapters the reader saw half-made or vanish"] == 0
    assert rows["adapters the reader had seen at the end"] == 41
    assert rows["times the reader looked"] > 1


def test_look_up_does_not_grow_with_the_store(tmp_path):
    rows = scale(1000, tmp_path)
    assert rows["look-up by key, median of 1,000, ms"] < 1
    assert rows["find by model, language and rank, median, ms"] < 1
    assert rows["reindex, s"] < 10
