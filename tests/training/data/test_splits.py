from pathlib import Path

import pytest

from training.data.describe import describe
from training.data.manifest import Record
from training.data.splits import split, text_key
from zoo.errors import DataError

SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def record(name, speaker, text, lang="hi", seconds=3.0):
    return Record(str(name), Path(f"/x/{name}.wav"), text, lang, speaker, seconds)


def crossed(speakers=5, texts=100, lang="hi"):
    """Everybody reads everything."""
    return [record(f"{lang}{s}-{t}", f"{lang}{s}", f"वाक्य {t}", lang) for s in range(speakers) for t in range(texts)]


def seconds(result):
    return {name: sum(r.duration for r in members) for name, members in result.sets.items()}


def assert_independent(result):
    everything = [r for members in result.sets.values() for r in members]
    assert all(r.subset == name for name, members in result.sets.items() for r in members)
    assert describe(everything).overlaps == ()


def test_separate_speakers_and_texts_lose_nothing():
    records = [record(f"{s}-{t}", f"s{s}", f"text {s} {t}") for s in range(40) for t in range(10)]
    result = split(records, SHARES)
    assert_independent(result)
    assert not result.left_out
    kept = seconds(result)
    assert kept["train"] / sum(kept.values()) == pytest.approx(0.8, abs=0.03)
    assert kept["dev"] > 0
    assert kept["test"] > 0


def test_everybody_reads_everything():
    result = split(crossed(), SHARES)
    assert_independent(result)
    kept = seconds(result)
    assert kept["train"] / sum(kept.values()) == pytest.approx(0.8, abs=0.03)
    assert kept["dev"] / sum(kept.values()) == pytest.approx(0.1, abs=0.02)
    assert len(result.left_out) + sum(map(len, result.sets.values())) == 500


def test_same_seed_same_sets_and_order_kept():
    one, two, other = (split(crossed(), SHARES, seed=s) for s in (1, 1, 2))
    assert one.sets == two.sets != other.sets
    ids = [r.id for r in crossed()]
    for members in one.sets.values():
        assert [r.id for r in members] == sorted((r.id for r in members), key=ids.index)


def test_spelling_does_not_make_another_text():
    assert text_key("हिन्दी है।") == text_key("हिंदी है")
    records = [record(i, f"s{i}", ("हिन्दी है।", "हिंदी है", "कुछ और", "और कुछ")[i % 4]) for i in range(40)]
    assert_independent(split(records, {"train": 0.5, "test": 0.5}))


def test_a_bilingual_speaker_is_in_one_set():
    records = crossed(6, 20, "hi") + [
        record(f"p{s}-{t}", f"hi{s}", f"ਵਾਕ {t}", "pa") for s in range(6) for t in range(20)
    ]
    result = split(records, {"train": 0.6, "test": 0.4})
    homes = {}
    for name, members in result.sets.items():
        for r in members:
            assert homes.setdefault(r.speaker, name) == name


def test_by_text_or_speaker_alone():
    by_text = split(crossed(), SHARES, by=("text",))
    assert not by_text.left_out
    assert {o.texts for o in describe([r for m in by_text.sets.values() for r in m]).overlaps} == {0}
    by_speaker = split(crossed(), {"train": 0.8, "test": 0.2}, by=("speaker",))
    assert not by_speaker.left_out
    assert {o.speakers for o in describe([r for m in by_speaker.sets.values() for r in m]).overlaps} == {0}


def test_impossible_splits():
    with pytest.raises(DataError, match=r"hi has 2 speakers, too few for 3 sets.*--by text"):
        split(crossed(2), SHARES)
    with pytest.raises(DataError, match=r"hi has 2 texts"):
        split(crossed(5, 2), SHARES)
    with pytest.raises(DataError, match="two or more sets"):
        split(crossed(), {"train": 1.0})
    with pytest.raises(DataError, match="two or more sets"):
        split(crossed(), {"train": 1.0, "test": -1})
    with pytest.raises(DataError, match="Cannot divide by colour"):
        split(crossed(), SHARES, by=("colour",))
    with pytest.raises(DataError, match="no clips to divide"):
        split([], SHARES)


def test_unknown_speakers_are_counted():
    result = split([record(i, "", f"text {i}") for i in range(30)], SHARES)
    assert result.unknown_speakers == 30
    assert not result.left_out


def test_describe_finds_leaks():
    from dataclasses import replace

    train = [replace(r, subset="train") for r in crossed(2, 3)]
    test = [replace(r, subset="test", id=r.id + "t") for r in crossed(1, 2)]
    found = describe(train + test)
    (overlap,) = found.overlaps
    assert (overlap.speakers, overlap.texts, overlap.files) == (1, 2, 2)
    part = next(p for p in found.parts if p.subset == "train")
    assert (part.clips, part.speakers, part.texts, part.words) == (6, 2, 3, 12)
    assert part.hours == pytest.approx(18 / 3600)
    assert found.to_dict()["parts"][0]["lang"] == "hi"
