import errno
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from training.data.corpora.found import Found, Unusable
from training.data.levels import at_level, speech_bounds, speech_level
from training.data.manifest import Segment, read_manifest
from training.data.prepare import PrepareOptions, describe_skipped, file_name, prepare
from zoo.audio import decode
from zoo.errors import DataError

_spec = importlib.util.spec_from_file_location("corpora_on_disk", Path(__file__).with_name("corpora_on_disk.py"))
disk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(disk)


def found(audio, name="a", text="ciao", **more):
    return Found(name=name, audio=audio, text=text, lang="it", where=f"m:{name}", **more)


def test_level_is_reached_and_silence_left_alone():
    wave = disk.tone(1.0)
    for level in (-20.0, -35.0):
        assert speech_level(at_level(wave, level)) == pytest.approx(level, abs=0.3)
    loud = at_level(wave, 0.0)
    assert np.abs(loud).max() <= 0.991
    assert not at_level(np.zeros(16_000, dtype=np.float32), -20).any()
    padded = np.concatenate([np.zeros(16_000, dtype=np.float32), wave])
    assert speech_level(padded) == pytest.approx(speech_level(wave), abs=0.3)


def test_silence_is_found_in_noise():
    random = np.random.default_rng(0)
    audio = random.standard_normal(48_000).astype(np.float32) * 1e-4
    audio[16_000:32_000] += disk.tone(1.0)
    start, stop = speech_bounds(audio, margin_s=0.1)
    assert start == pytest.approx(16_000 - 1600, abs=400)
    assert stop == pytest.approx(32_000 + 1600, abs=400)


def test_trimming_moves_segments(tmp_path):
    import soundfile

    silence = np.zeros(16_000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([silence, disk.tone(2.0), silence]), 16_000)
    segments = (Segment(1.0, 2.0, "it", "ciao"), Segment(2.0, 3.0, "en", "bye"))
    done = prepare([found(tmp_path / "a.wav", segments=segments)], tmp_path / "o", PrepareOptions(trim=True))
    (record,) = done.records
    assert record.duration == pytest.approx(2.2, abs=0.05)
    assert record.segments[0].start == pytest.approx(0.1, abs=0.03)
    assert record.segments[1].end == pytest.approx(2.1, abs=0.03)


def test_everything_unusable_is_counted_and_named(tmp_path):
    disk.clip(tmp_path / "a.wav")
    disk.clip(tmp_path / "long.wav", 3.0)
    disk.clip(tmp_path / "short.wav", 0.1)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    import soundfile

    soundfile.write(tmp_path / "zeros.wav", np.zeros(16_000), 16_000)
    clips = [found(tmp_path / f"{n}.wav", n) for n in ("a", "long", "short", "text", "empty", "zeros", "none")]
    clips += [found(tmp_path / "a.wav", "a"), found(tmp_path / "a.wav", "b", text=" \n"), Unusable("m:9", "m:9: odd")]
    done = prepare(clips, tmp_path / "o", PrepareOptions(max_s=2.0))
    assert [r.id for r in done.records] == ["a"]
    assert dict(done.reasons) == {
        "too long": 1, "too short": 1, "unreadable": 2, "silence": 1, "missing clip": 1, "duplicate id": 1,
        "empty text": 1, "unusable row": 1,
    }  # fmt: skip
    lines = describe_skipped(done)
    assert lines[0].startswith("skipped 9 clips (unreadable 2, ")
    assert lines[-1] == "  ... and 4 more, all in skipped.csv"
    assert (tmp_path / "o" / "skipped.csv").read_text().count("m:") >= 9
    with pytest.raises(DataError, match=r"No clip could be used: missing clip \(1\)\. The first: m:none"):
        prepare([found(tmp_path / "none.wav", "none")], tmp_path / "o2")


def test_in_place_points_at_the_corpus(tmp_path):
    disk.clip(tmp_path / "c" / "a.mp3")
    done = prepare([found(tmp_path / "c" / "a.mp3")], tmp_path / "o", PrepareOptions(in_place=True))
    (record,) = read_manifest(done.manifest)
    assert record.path == tmp_path / "c" / "a.mp3"
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["manifest.jsonl"]
    with pytest.raises(DataError, match="drop --in-place"):
        prepare([found(disk.clip_bytes())], tmp_path / "o", PrepareOptions(in_place=True))


@pytest.mark.parametrize("format", ["flac", "wav", "ogg"])
def test_formats(tmp_path, format):
    disk.clip(tmp_path / "a.wav", 1.0)
    (record,) = prepare([found(tmp_path / "a.wav")], tmp_path / "o", PrepareOptions(format=format)).records
    assert record.path.suffix == f".{format}"
    assert len(decode(record.path)) == pytest.approx(16_000, abs=700)


def test_odd_ids_become_distinct_files(tmp_path):
    disk.clip(tmp_path / "a.wav")
    names = ["x/1", "x_1", "X/1", "../../etc/passwd", "a b?c", "ਵਾਕ"]
    done = prepare([found(tmp_path / "a.wav", n) for n in names], tmp_path / "o")
    paths = {r.path for r in done.records}
    assert len(paths) == len(names)
    assert all((tmp_path / "o" / "audio") in p.parents and p.exists() for p in paths)
    assert file_name("...") == "clip"


def test_full_disk_says_so_and_leaves_no_manifest(tmp_path, monkeypatch):
    disk.clip(tmp_path / "a.wav")

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"No space left on the disk while writing .*a\.flac"):
        prepare([found(tmp_path / "a.wav")], tmp_path / "o")
    assert not [p for p in (tmp_path / "o").rglob("*") if p.is_file()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_the_systems_own_full_disk_message(tmp_path):
    from training.data.files import cannot_write

    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert "No space left on the disk" in str(cannot_write(tmp_path / "x", caught.value))


@pytest.mark.parametrize("wrong", [{"format": "mp4"}, {"min_s": 3, "max_s": 2}, {"loudness_db": 3}, {"workers": 0}])
def test_impossible_options(tmp_path, wrong):
    with pytest.raises(DataError):
        prepare([], tmp_path, PrepareOptions(**wrong))
