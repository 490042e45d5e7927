import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from training.data.manifest import (
    Record,
    Segment,
    read_manifest,
    require_languages,
    with_durations,
    write_manifest,
)
from zoo.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(1600, dtype=np.float32), 16000)
    return tmp_path


def manifest(folder, *lines, name="m.jsonl"):
    path = folder / name
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x, ensure_ascii=False)) + "\n" for x in lines))
    return path


A = {"path": "a.wav", "text": "नमस्ते", "lang": "hi"}


def test_reads_every_key_and_keeps_the_others(folder):
    line = {**A, "speaker": "s", "duration": 2.0, "subset": "dev", "rms": 0.1, "id": "x"}
    line["segments"] = [{"start": 0, "end": 1, "lang": "hi", "text": "न"}, {"start": 1, "end": 2, "lang": "en"}]
    (record,) = read_manifest(manifest(folder, line))
    assert record == Record(
        "x", folder / "a.wav", "नमस्ते", "hi", "s", 2.0, "dev",
        (Segment(0, 1, "hi", "न"), Segment(1, 2, "en")), 0.0, {"rms": 0.1},
    )  # fmt: skip
    assert record.languages == ("hi", "en")


def test_reads_nemo_as_it_is(folder):
    lines = [
        {"audio_filepath": "a.wav", "duration": 0.05, "text": "ciao", "offset": 0.0},
        {"audio_filepath": str(folder / "a.wav"), "duration": 0.05, "text": "ciao", "offset": 0.05, "speaker": 3},
    ]
    first, second = read_manifest(manifest(folder, *lines), lang="italian")
    assert (first.lang, first.path, second.path) == ("it", folder / "a.wav", folder / "a.wav")
    assert (second.offset, second.speaker, second.id) == (0.05, "3", f"{folder}/a.wav@0.05")
    assert len(second.load()) == 800


def test_written_manifest_reads_back_equal_from_another_folder(folder):
    records = read_manifest(
        manifest(folder, {**A, "dur": 1.5, "k": [1]}, {"path": "b.wav", "text": "a", "lang": "pa-IN"})
    )
    assert records[0].duration == 1.5
    assert records[1].lang == "pa"
    path = write_manifest(folder / "deep" / "er" / "n.jsonl", records)
    assert json.loads(path.read_text().splitlines()[0])["path"] == "../../a.wav"
    assert read_manifest(path) == records
    assert [p.name for p in path.parent.iterdir()] == ["n.jsonl"]


def test_missing_duration_is_read_from_the_file(folder):
    (record,) = with_durations(read_manifest(manifest(folder, A)))
    assert record.duration == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"path": ', "not JSON"),
        ("[1]", "one JSON array"),
        ("3", "int, not an object"),
        ({"text": "a", "lang": "hi"}, "no `path`"),
        ({"path": "a.wav", "lang": "hi"}, "no `text`"),
        ({**A, "text": " "}, "the text of a.wav is empty"),
        ({"path": "a.wav", "text": "a"}, "no `lang`"),
        ({**A, "lang": "zz top"}, "'zz top' is not a language"),
        ({**A, "duration": "long"}, "`duration` is 'long'"),
        ({**A, "duration": float("nan")}, "`duration` is nan"),
        ({**A, "duration": 0}, "`duration` is 0"),
        ({**A, "path": "none.wav"}, "does not exist"),
        ({**A, "segments": [{"start": 1, "end": 1, "lang": "hi"}]}, "has no length"),
        ({**A, "segments": [{"start": 1}]}, "lacks start, end or lang"),
        ({**A, "duration": 1, "segments": [{"start": 0, "end": 2, "lang": "hi"}]}, "last segment ends at 2 s"),
    ],
)
def test_every_bad_line_is_named(folder, line, said):
    with pytest.raises(DataError) as caught:
        read_manifest(manifest(folder, *([line] if line == "[1]" else [{**A, "id": "0"}, line])))
    assert said in str(caught.value)
    assert line == "[1]" or "m.jsonl:2" in str(caught.value)


def test_duplicate_ids_name_both_lines(folder):
    with pytest.raises(DataError, match=r"m\.jsonl:3: id 'x' is already used in line 1"):
        read_manifest(manifest(folder, {**A, "id": "x"}, {**A, "id": "y"}, {**A, "id": "x"}))
    (record,) = read_manifest(manifest(folder, A))
    with pytest.raises(DataError, match="twice"):
        write_manifest(folder / "n.jsonl", [record, record])


def test_many_problems_are_counted_not_all_listed(folder):
    with pytest.raises(DataError, match=r"has 9 problems(.|\n)*and 4 more"):
        read_manifest(manifest(folder, *[{**A, "path": f"{i}.wav"} for i in range(9)]))


def test_missing_and_empty_manifests(folder):
    with pytest.raises(DataError, match="does not exist"):
        read_manifest(folder / "none.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_manifest(folder)
    with pytest.raises(DataError, match="no clips"):
        read_manifest(manifest(folder))
    with pytest.raises(DataError, match=r"no clip with subset 'test'\. Valid: 'dev'"):
        read_manifest(manifest(folder, {**A, "subset": "dev"}), subset="test")
    (folder / "latin.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_manifest(folder / "latin.jsonl")


def test_language_without_data(folder):
    records = read_manifest(manifest(folder, A))
    require_languages(records, ["hi"], "m")
    with pytest.raises(DataError, match=r"has no clip in te, it\. Valid: hi \(1 clips\)"):
        require_languages(records, ["hi", "te", "it"], "m")


def test_full_disk_leaves_the_old_manifest(folder, monkeypatch):
    records = read_manifest(manifest(folder, A))
    path = write_manifest(folder / "n.jsonl", records)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="No space left on the disk"):
        write_manifest(path, [replace(records[0], text="new")])
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["a.wav", "b.wav", "m.jsonl", "n.jsonl"]


def test_empty_text_where_allowed(folder):
    (record,) = read_manifest(manifest(folder, {**A, "text": ""}), allow_empty_text=True)
    assert record.text == ""
