"""Each reader on a folder in its corpus' exact layout, through `prepare`."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from training.data.corpora import LAYOUTS, hub, layout_of, register
from training.data.corpora.found import language_from
from training.data.manifest import read_manifest
from training.data.prepare import PrepareOptions, prepare
from zoo.audio import decode
from zoo.errors import DataError

_spec = importlib.util.spec_from_file_location("corpora_on_disk", Path(__file__).with_name("corpora_on_disk.py"))
disk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(disk)


def convert(source, out, split=None, lang=None, layout="auto", **options):
    chosen = layout_of(source, layout)
    done = prepare(chosen.read(source, lang, split), out, PrepareOptions(**options), corpus=chosen.name)
    records = read_manifest(done.manifest)
    assert records == done.records
    for record in records:
        audio = decode(record.path)
        assert abs(len(audio) / 16_000 - record.duration) < 0.01
    return chosen.name, records, done


def test_common_voice(tmp_path):
    name, records, done = convert(disk.common_voice(tmp_path), tmp_path / "out")
    assert name == "common-voice"
    assert [r.subset for r in records] == ["train"] * 3 + ["dev", "test"]
    assert records[0].text == 'वाक्य "1'  # an unbalanced quote is text, not quoting
    assert records[0].speaker == "common-voice:" + "1" * 24
    assert (records[0].lang, records[0].extra["gender"]) == ("hi", "female_feminine")
    assert records[0].duration == pytest.approx(0.6, abs=0.06)
    assert not done.skipped


def test_common_voice_old_release_and_one_split(tmp_path):
    source = disk.common_voice(tmp_path, disk.CV_OLD_HEADER)
    _, records, _ = convert(source / "hi", tmp_path / "out", split="validated")
    assert len(records) == 5
    assert {r.subset for r in records} == {"validated"}
    with pytest.raises(DataError, match=r"no table for split 'other'\. Valid: clip_durations, dev"):
        convert(source, tmp_path / "out", split="other")


def test_common_voice_wrong_header_and_missing_clip(tmp_path):
    source = disk.common_voice(tmp_path)
    (source / "hi" / "clips" / "common_voice_hi_2.mp3").unlink()
    (source / "hi" / "clips" / "common_voice_hi_3.mp3").write_bytes(b"<html>not found</html>")
    _, records, done = convert(source, tmp_path / "out")
    assert len(records) == 3
    assert dict(done.reasons) == {"missing clip": 1, "unreadable": 1}
    assert "train.tsv:3" in done.skipped[0].reason
    assert "common_voice_hi_2.mp3" in done.skipped[0].reason
    assert (tmp_path / "out" / "skipped.csv").read_text().count("\n") == 3
    (source / "hi" / "train.tsv").write_text("client_id\tfile\tsentence\n")
    with pytest.raises(DataError, match=r"train\.tsv:1: the header lacks path; it is client_id, file, sentence"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".flac", ".opus"])
def test_mls(tmp_path, suffix):
    name, records, _ = convert(disk.mls(tmp_path, suffix), tmp_path / "out")
    assert name == "mls"
    assert {r.lang for r in records} == {"it"}
    assert sorted(r.subset for r in records) == ["dev", "train", "train", "train"]
    assert {r.speaker for r in records} == {"mls:12", "mls:56", "mls:9"}
    assert {r.extra["book"] for r in records} == {"34", "78", "1"}


def test_mls_limited_supervision_and_bad_lines(tmp_path):
    source = disk.mls(tmp_path)
    _, records, _ = convert(source, tmp_path / "out", split="9hr")
    assert [r.id for r in records] == ["mls_it/train/56_78_000000"]
    with pytest.raises(DataError, match=r"no split 'test'. Valid: dev, train, 9hr, 1hr"):
        convert(source, tmp_path / "out", split="test")
    (source / "dev" / "transcripts.txt").write_text("no tab here\n")
    with pytest.raises(DataError, match=r"transcripts\.txt:1: 'no tab here' is no MLS line"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize("suffix", [".m4a", ".wav"])
def test_kathbath(tmp_path, suffix):
    name, records, _ = convert(disk.kathbath(tmp_path, suffix), tmp_path / "out")
    assert name == "ai4bharat"
    assert {(r.lang, r.subset) for r in records} == {(x, s) for x in ("pa", "te") for s in ("train", "dev")}
    first = next(r for r in records if r.lang == "pa")
    assert first.speaker.removeprefix("ai4bharat:") in ("501", "502")
    assert first.extra["gender"] in "fm"
    assert "\u00a0" not in first.text


def test_kathbath_with_audio_and_transcripts_apart(tmp_path):
    source = disk.kathbath(tmp_path, ".wav")
    for path in sorted(source.rglob("transcription_n2w.txt")):
        moved = tmp_path / "kb_data_clean_m4a" / "transcripts" / path.relative_to(source)
        moved.parent.mkdir(parents=True)
        path.rename(moved)
    _, records, done = convert(source, tmp_path / "out")
    assert len(records) == 8
    assert not done.skipped


def test_tables_that_are_no_text(tmp_path):
    source = disk.common_voice(tmp_path)
    (source / "hi" / "train.tsv").write_bytes(b"client_id\tpath\tsentence\n\xff\xfe\t\t\n")
    with pytest.raises(DataError, match=r"train\.tsv is not UTF-8 text"):
        convert(source, tmp_path / "out")
    (source / "hi" / "train.tsv").write_text("")
    with pytest.raises(DataError, match=r"train\.tsv is empty"):
        convert(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("folder", "language"),
    [
        ("cv_hi", "hi"),
        ("mls_italian_opus", "it"),
        ("hi_in", "hi"),
        ("pa-IN", "pa"),
        ("cmn_hans_cn", "zh"),
        ("pan", "pa"),
    ],
)
def test_language_of_a_folder(tmp_path, folder, language):
    path = tmp_path / folder / "train" / "x.tsv"
    path.parent.mkdir(parents=True)
    assert language_from(path, None, tmp_path / folder, "x") == language


def test_indicvoices_cuts_sentences(tmp_path):
    name, records, done = convert(disk.indicvoices(tmp_path), tmp_path / "out")
    assert name == "ai4bharat"
    assert [(r.text, r.duration) for r in records] == [("पहला वाक्य", 1.2), ("दूसरा वाक्य", 1.7)]
    assert records[0].speaker == "ai4bharat:S42"
    assert dict(done.reasons) == {"unusable row": 1}
    assert "0a1b.json sentence 4" in done.skipped[0].reason


def test_shrutilipi(tmp_path):
    name, records, _ = convert(disk.shrutilipi(tmp_path), tmp_path / "out")
    assert name == "ai4bharat"
    assert len({r.path for r in records}) == 4
    assert {(r.lang, r.text) for r in records} == {("hi", "समाचार 1"), ("hi", "समाचार 2")}


def test_vistaar_finds_clips_by_the_end_of_their_path(tmp_path):
    name, records, _ = convert(disk.vistaar(tmp_path), tmp_path / "out")
    assert name == "ai4bharat"
    assert len(records) == 4
    assert {r.lang for r in records} == {"te"}


@pytest.mark.parametrize("audio", ["audio/{split}", "{split}"])
def test_fleurs(tmp_path, audio):
    name, records, _ = convert(disk.fleurs(tmp_path, audio), tmp_path / "out")
    assert name == "fleurs"
    assert len(records) == 6
    assert (records[0].lang, records[0].text, records[0].speaker) == ("pa", "ਵਾਕ 1।", "")
    assert records[0].extra["transcription"] == "ਵਾਕ 1"
    assert {r.subset for r in records} == {"train", "dev", "test"}


def test_fleurs_wrong_columns(tmp_path):
    source = disk.fleurs(tmp_path)
    (source / "pa_in" / "dev.tsv").write_text("id\tfile_name\ttranscription\n1\ta.wav\tx\n")
    with pytest.raises(DataError, match=r"dev\.tsv:1: this is no FLEURS row"):
        convert(source, tmp_path / "out")


HUB = {
    "facebook/multilingual_librispeech": (
        "italian/train-00000-of-00002.parquet",
        lambda: {
            "audio": disk.cells("1.opus", "2.opus"), "original_path": ["http://a"] * 2, "begin_time": [0.0, 1.0],
            "end_time": [0.6, 1.6], "transcript": ["uno", "due"], "audio_duration": [0.6, 0.6],
            "speaker_id": ["12", "12"], "chapter_id": ["34", "34"], "file": ["12_34_0.opus", "12_34_1.opus"],
            "id": ["12_34_0", "12_34_1"],
        },
        ("it", "train", "hub:12", "uno"),
    ),
    "mozilla-foundation/common_voice": (
        "pa-IN/test-00000-of-00001.parquet",
        lambda: {
            "client_id": ["a" * 128] * 2, "path": ["cv_1.mp3", "cv_2.mp3"], "audio": disk.cells("cv_1.mp3", "cv_2.mp3"),
            "sentence": ["ਇੱਕ", "ਦੋ"], "up_votes": [2, 2], "locale": ["pa-IN", "pa-IN"], "variant": ["", ""],
        },
        ("pa", "test", "hub:" + "a" * 64, "ਇੱਕ"),
    ),
    "google/fleurs": (
        "te_in/validation-00000-of-00001.parquet",
        lambda: {
            "id": [5, 5], "num_samples": [9600, 9600], "path": ["/x/1.wav", "/x/2.wav"],
            "audio": disk.cells("1.wav", "2.wav"), "transcription": ["ఒకటి", "రెండు"],
            "raw_transcription": ["ఒకటి.", "రెండు."], "gender": [0, 1], "lang_id": [90, 90], "language": ["Telugu"] * 2,
        },
        ("te", "dev", "", "ఒకటి."),
    ),
    "ai4bharat/Kathbath": (
        "hindi/valid-00000-of-00001.parquet",
        lambda: {
            "fname": ["8444-886-f.m4a", "8445-887-m.m4a"], "text": ["एक", "दो"],
            "audio_filepath": disk.cells("8444-886-f.m4a", "8445-887-m.m4a"), "lang": ["hindi"] * 2,
            "duration": [0.6, 0.6], "gender": ["female", "male"], "speaker_id": [886, 887],
        },
        ("hi", "dev", "hub:886", "एक"),
    ),
    "ai4bharat/IndicVoices": (
        "punjabi/train-00000-of-00009.parquet",
        lambda: {
            "text": ["ਇੱਕ", "ਦੋ"], "duration": [0.6, 0.6], "lang": ["pa", "pa"], "samples": [9600, 9600],
            "verbatim": ["ਇੱਕ ਉਹ", "ਦੋ"], "normalized": ["ਇੱਕ", "ਦੋ"], "speaker_id": ["S1", "S2"],
            "scenario": ["Read", "Read"], "unsanitized_verbatim": ["[noise] ਇੱਕ", "ਦੋ"],
            "audio_filepath": disk.cells("a_chunk_1.flac", "a_chunk_2.flac"),
        },
        ("pa", "train", "hub:S1", "ਇੱਕ"),
    ),
    "ai4bharat/Shrutilipi": (
        "telugu/train-00000-of-00003.parquet",
        lambda: {"audio_filepath": disk.cells("sent_1.wav", "sent_2.wav"), "text": ["ఒకటి", "రెండు"]},
        ("te", "train", "", "ఒకటి"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_hub_parquet(tmp_path, name):
    file, columns, expected = HUB[name]
    source = tmp_path / name
    disk.parquet(source / file, columns())
    used, records, done = convert(source, tmp_path / "out")
    assert used == "hub"
    assert not done.skipped
    assert len({r.id for r in records}) == len(records) == 2
    assert (records[0].lang, records[0].subset, records[0].speaker, records[0].text) == expected


def test_hub_rows_without_audio_and_files_cut_off(tmp_path):
    columns = {"audio": [*disk.cells("a.wav"), {"bytes": None, "path": None}], "text": ["a", "b"]}
    path = disk.parquet(tmp_path / "d" / "it" / "train-00000-of-00001.parquet", columns)
    _, records, done = convert(tmp_path / "d", tmp_path / "out")
    assert (len(records), dict(done.reasons)) == (1, {"unusable row": 1})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="cannot be read"):
        convert(tmp_path / "d", tmp_path / "out")
    disk.parquet(path, {"audio": disk.cells("a.wav"), "label": [1]})
    with pytest.raises(DataError, match="no column for text; columns are audio, label"):
        convert(tmp_path / "d", tmp_path / "out")
    disk.parquet(tmp_path / "e" / "train.parquet", {"audio": disk.cells("a.wav"), "text": ["a"]})
    with pytest.raises(DataError, match="pass --lang"):
        convert(tmp_path / "e", tmp_path / "out")


def test_hub_audio_folder_and_saved_arrow(tmp_path):
    import pyarrow

    folder = tmp_path / "folder" / "train"
    disk.clip(folder / "a.wav", rate=8000, channels=2)
    (folder / "metadata.csv").write_text('file_name,transcription\na.wav,"ciao, come va"\n')
    _, records, _ = convert(tmp_path / "folder", tmp_path / "out", lang="it")
    assert [(r.text, r.subset) for r in records] == [("ciao, come va", "train")]
    table = pyarrow.table({"audio": disk.cells("a.wav"), "sentence": ["ciao"]})
    path = tmp_path / "saved" / "test" / "data-00000-of-00001.arrow"
    path.parent.mkdir(parents=True)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    _, records, _ = convert(tmp_path / "saved", tmp_path / "out2", lang="it")
    assert [(r.text, r.subset) for r in records] == [("ciao", "test")]


def test_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="Data set 'no/such' cannot be fetched"):
        hub.local("hub:no/such:hi")


def test_hub_sets_are_fetched_as_parquet(tmp_path, monkeypatch):
    """One set has parquet files itself, the other only in the hub's converted copy; both have other configs too."""
    asked = []

    def snapshot(name, *, repo_type, revision, allow_patterns):
        assert repo_type == "dataset"
        asked.append((name, revision, tuple(allow_patterns)))
        folder = tmp_path / name.replace("/", "--") / (revision or "main").replace("/", "--")
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    columns = {"audio": disk.cells("a.wav"), "text": ["a"]}
    disk.parquet(tmp_path / "a--mls" / "main" / "italian" / "train-00000-of-00001.parquet", columns)
    disk.parquet(tmp_path / "a--mls" / "main" / "german" / "train-00000-of-00001.parquet", columns)
    disk.parquet(tmp_path / "g--fleurs" / "refs--convert--parquet" / "hi_in" / "validation" / "0000.parquet", columns)
    _, records, _ = convert(hub.local("hub:a/mls:italian"), tmp_path / "o1")
    assert [(r.lang, r.subset) for r in records] == [("it", "train")]
    assert asked == [("a/mls", None, ("italian/*.parquet", "*/italian/*.parquet"))]
    _, records, _ = convert(hub.local("hub:g/fleurs:hi_in"), tmp_path / "o2")
    assert [(r.lang, r.subset) for r in records] == [("hi", "dev")]
    with pytest.raises(DataError, match=r"'g/fleurs' has no parquet files for 'xx'.*hf download g/fleurs"):
        hub.local("hub:g/fleurs:xx")


def test_manifests_of_boli_and_nemo(tmp_path):
    disk.clip(tmp_path / "wavs" / "1.wav")
    disk.clip(tmp_path / "wavs" / "2.wav", 5.0)
    lines = [
        {"audio_filepath": "wavs/1.wav", "duration": 0.6, "text": "uno"},
        {"audio_filepath": "wavs/2.wav", "duration": 1.0, "offset": 1.0, "text": "due"},
        {"audio_filepath": "wavs/2.wav", "duration": 9.0, "offset": 1.0, "text": "tre", "id": "x"},
        {"audio_filepath": "wavs/3.wav", "duration": 1.0, "text": "quattro"},
        {"audio_filepath": "wavs/1.wav", "duration": 1.0, "text": ""},
        {"duration": 1.0, "text": "sei"},
    ]
    path = tmp_path / "train_manifest.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    name, records, done = convert(path, tmp_path / "out", lang="it")
    assert name == "manifest"
    assert [(r.text, r.duration, r.subset) for r in records] == [("uno", 0.6, "train"), ("due", 1.0, "train")]
    assert dict(done.reasons) == {"unreadable": 1, "missing clip": 1, "empty text": 1, "unusable row": 2}
    assert all(f"train_manifest.json:{n}" in s.reason for n, s in zip((3, 4, 5, 6, 7), done.skipped, strict=True))


def test_any_rate_and_channel_count(tmp_path):
    lines = []
    for n, (suffix, rate, channels) in enumerate(
        [(".wav", 8_000, 1), (".wav", 44_100, 6), (".flac", 96_000, 2), (".mp3", 22_050, 2), (".ogg", 48_000, 1)]
    ):
        disk.clip(tmp_path / f"{n}{suffix}", 1.0, rate=rate, channels=channels)
        lines.append({"path": f"{n}{suffix}", "text": "a", "lang": "it"})
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    _, records, _ = convert(tmp_path / "m.jsonl", tmp_path / "out")
    assert len(records) == 5
    assert all(r.duration == pytest.approx(1.0, abs=0.06) for r in records)
    levels = [np.sqrt(np.mean(decode(r.path) ** 2)) for r in records]
    assert max(levels) / min(levels) < 1.1


def test_the_table_of_layouts(tmp_path):
    assert set(LAYOUTS) == {"common-voice", "mls", "fleurs", "ai4bharat", "hub", "manifest"}
    with pytest.raises(DataError, match="registered twice"):
        register(LAYOUTS["mls"])
    with pytest.raises(DataError, match=r"no layout 'cv'\. Valid: auto, common-voice"):
        layout_of(tmp_path, "cv")
    (tmp_path / "odd.txt").write_text("x")
    with pytest.raises(DataError, match=r"no layout known here \(in it: odd.txt\)"):
        layout_of(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        layout_of(tmp_path / "none")
    for layout in LAYOUTS.values():
        with pytest.raises(DataError):
            list(layout.read(tmp_path, None, None))
