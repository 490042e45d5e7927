from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from training.data.codeswitch import CONTROLS, CodeSwitchOptions, frame_labels, make
from training.data.levels import speech_level
from training.data.manifest import Record, Segment, read_manifest
from training.data.pieces import pieces, spectrum_db
from zoo.audio import decode
from zoo.errors import DataError

RATE = 16_000
BASE = {"hi": 150.0, "en": 900.0}  # languages that a filter can tell apart, so that times can be checked


def voice(lang, seconds, tilt, random):
    """Tones of one language with syllables, pauses and a channel."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * BASE[lang] * k * time + k) / k**tilt for k in (1, 2, 3))
    syllables = (np.sin(2 * np.pi * 2.5 * time) > -0.5).astype(float)
    smooth = np.convolve(syllables, np.hanning(320) / 160, mode="same")
    return (0.1 * wave * smooth + random.standard_normal(len(time)) * 1e-4).astype(np.float32)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Two languages; speakers b and c speak both, a only Hindi; sentences of 1 to 6 s with silence around."""
    folder = tmp_path_factory.mktemp("voices")
    random = np.random.default_rng(0)
    made = []
    for lang, speaker, tilt in (("hi", "a", 1), ("hi", "b", 0.5), ("hi", "c", 1.5), ("en", "b", 0.5), ("en", "c", 1.5)):
        for n, seconds in enumerate((1.0, 1.2, 2.0, 3.5, 6.0)):
            path = folder / f"{lang}_{speaker}_{n}.wav"
            wave = np.pad(voice(lang, seconds, tilt, random) * (n + 1) / 3, 4000)
            soundfile.write(path, wave, RATE)
            made.append(Record(path.stem, path, f"{lang} text {n}", lang, speaker, len(wave) / RATE, "test"))
    return made


@pytest.fixture(scope="module")
def made(records, tmp_path_factory):
    return make(records, ["hi", "en"], tmp_path_factory.mktemp("cs"), CodeSwitchOptions(clips=6))


def test_all_kinds_are_made_and_read_back(made):
    assert dict(made.counts) == {
        "inter/same": 6, "inter/different": 6, "intra/same": 6, "intra/different": 6, "rapid/same": 6,
        "rapid/different": 6, "speaker-change/different": 6, "splice/same": 6,
    }  # fmt: skip
    assert not made.notes
    assert read_manifest(made.manifest) == made.records


def test_kinds_are_what_they_say(made):
    for record in made.records:
        kind, voices = record.extra["kind"], record.extra["voices"]
        langs, speakers = {s.lang for s in record.segments}, {s.speaker for s in record.segments}
        assert len(record.segments) >= 2
        if kind in ("speaker-change", "splice"):
            assert len(langs) == 1
            assert record.extra["switches"] == []
            assert len(speakers) == (2 if kind == "speaker-change" else 1)
            continue
        assert langs == {"hi", "en"}
        assert all(a.lang != b.lang for a, b in pairwise(record.segments))
        assert record.extra["switches"] == [s.start for s in record.segments[1:]]
        assert (len(speakers) == 1) == (voices == "same")
        gaps = [b.start - a.end for a, b in pairwise(record.segments)]
        if kind == "inter":
            assert all(0.09 <= gap <= 0.51 for gap in gaps)
        else:
            assert max(map(abs, gaps)) < 1e-4
        longest = {"inter": 15, "intra": 3.0, "rapid": 1.5}[kind]
        assert all(s.end - s.start <= longest for s in record.segments)
        assert record.subset == "test"


def test_segment_times_are_those_of_the_sound(made):
    """The energy around 150 Hz (Hindi) against that around 900 Hz says who is heard when."""
    right = total = 0
    for record in made.records:
        audio = decode(record.path)
        assert len(audio) / RATE == pytest.approx(record.duration, abs=1e-3)
        frames = np.lib.stride_tricks.sliding_window_view(audio, 512)[::160]
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(512), axis=1)) ** 2
        low, high = spectrum[:, 3:16].sum(1), spectrum[:, 26:60].sum(1)
        loud = spectrum.sum(1) > np.percentile(spectrum.sum(1), 40)
        heard = np.where(low > high, "hi", "en")
        times = (np.arange(len(frames)) * 160 + 256) / RATE
        for segment in record.segments:
            inside = loud & (times > segment.start + 0.03) & (times < segment.end - 0.03)
            right += int((heard[inside] == segment.lang).sum())
            total += int(inside.sum())
    assert right / total > 0.99


def test_seams_cannot_be_told_by_level_or_channel(made):
    for record in made.records:
        if record.extra["kind"] not in ("inter", "speaker-change"):
            continue
        audio = decode(record.path)
        cut = [audio[round(s.start * RATE) : round(s.end * RATE)] for s in record.segments]
        levels = [speech_level(c) for c in cut]
        assert max(levels) - min(levels) < 2.0
        if record.extra["kind"] == "speaker-change":
            before = spectrum_of_voices(record)
            one, other = spectrum_db(cut[0]), spectrum_db(cut[1])
            assert np.abs(one - other).mean() < before / 2


def spectrum_of_voices(record):
    """How far the tilts of the two voices of a control lie apart in the sources, dB."""
    random = np.random.default_rng(1)
    tilts = {"a": 1, "b": 0.5, "c": 1.5}
    lang = record.lang
    one, other = (spectrum_db(voice(lang, 3, tilts[s.speaker], random)) for s in record.segments[:2])
    return max(np.abs(one - other - np.median(one - other)).mean(), 1.0) * 2


def test_no_clicks_and_no_dead_silence(made):
    for record in made.records:
        audio = decode(record.path)
        assert np.abs(np.diff(audio)).max() < 0.5
        assert (np.abs(audio.reshape(-1)[: len(audio) // 160 * 160].reshape(-1, 160)).max(axis=1) > 1e-4).all()


def test_text_only_where_the_words_are_known(made):
    for record in made.records:
        if record.extra["transcribed"]:
            assert record.text == " ".join(s.text for s in record.segments)
            assert all(s.text for s in record.segments)
        else:
            assert record.text == ""
    assert any(r.extra["transcribed"] for r in made.records if r.extra["kind"] == "rapid")
    assert all(r.extra["transcribed"] for r in made.records if r.extra["kind"] == "inter")


def test_clips_are_synthetic_where_a_part_is(records, made, tmp_path):
    assert not any(record.extra["synthetic"] for record in made.records), "nobody says so"
    for key, value in (("synthetic", True), ("kind", "tts")):
        marked = [replace(r, extra={key: value}) if r.lang == "hi" else r for r in records]
        again = make(marked, ["hi", "en"], tmp_path / key, CodeSwitchOptions(clips=2, kinds=("inter",)))
        assert all(record.extra["synthetic"] for record in again.records)


def test_same_seed_same_clips(records, made, tmp_path):
    options = CodeSwitchOptions(clips=3, kinds=("rapid",))
    one = make(records, ["hi", "en"], tmp_path / "1", options)
    two = make(list(reversed(records)), ["hi", "en"], tmp_path / "2", options)
    other = make(records, ["hi", "en"], tmp_path / "3", replace(options, seed=1))
    assert [r.segments for r in one.records] == [r.segments for r in two.records]
    assert all(a.path.read_bytes() == b.path.read_bytes() for a, b in zip(one.records, two.records, strict=True))
    assert [r.segments for r in one.records] != [r.segments for r in other.records]
    # a clip does not depend on how many others are made
    bigger = {r.id: r for r in made.records}
    assert all(bigger[r.id].segments == r.segments for r in one.records)


def test_transcribed_only(records, tmp_path):
    done = make(records, ["hi", "en"], tmp_path, CodeSwitchOptions(clips=4, kinds=("rapid",), transcribed=True))
    assert all(r.text and r.extra["transcribed"] for r in done.records)
    long = [r for r in records if r.duration > 3]
    with pytest.raises(DataError, match=r"no pieces of up to 1\.5 s fit"):
        make(long, ["hi", "en"], tmp_path / "x", CodeSwitchOptions(clips=2, kinds=("rapid",), transcribed=True))


def test_speeds_are_other_voices(records, tmp_path):
    """One speaker of English at 900 Hz is two voices, at 720 and at 1,125 Hz."""
    alone = [r for r in records if r.lang == "en" and r.speaker == "b"]
    assert not make(alone, ["en"], tmp_path / "one", CodeSwitchOptions(clips=1, kinds=CONTROLS)).counts[
        "speaker-change/different"
    ]
    for wrong, valid in (((0.0,), "0.5 to 2"), ((0.8, 0.8), "each once"), ((), "0.5 to 2")):
        with pytest.raises(DataError, match=valid):
            make(alone, ["en"], tmp_path / "none", CodeSwitchOptions(speeds=wrong, kinds=CONTROLS))
    options = CodeSwitchOptions(clips=3, kinds=("speaker-change",), speeds=(0.8, 1.25))
    made = make(alone, ["en"], tmp_path / "two", options)
    assert made.counts["speaker-change/different"] == 3
    for record in made.records:
        assert {s.speaker for s in record.segments} == {"b@0.8", "b@1.25"}
        audio = decode(record.path)
        for segment in record.segments:
            part = audio[round(segment.start * RATE) : round(segment.end * RATE)]
            power = np.abs(np.fft.rfft(part))
            bins = [round(pitch * len(part) / RATE) for pitch in (720, 1125)]
            deep, high = (power[k - 3 : k + 4].max() for k in bins)
            assert (high > 3 * deep) == segment.speaker.endswith("@1.25"), segment
            assert (deep > 3 * high) == segment.speaker.endswith("@0.8"), segment


def test_words_with_times_are_cut_between_words(records):
    record = replace(records[4], extra={"words": [
        {"start": 0.3, "end": 0.8, "text": "ek"}, {"start": 0.8, "end": 1.3, "text": "do"},
        {"start": 1.4, "end": 2.4, "text": "tin"}, {"start": 2.6, "end": 6.0, "text": "longest"},
    ]})  # fmt: skip
    found = pieces(record, record.load(), 1.5)
    assert [p.text for p in found] == ["ek do", "tin"]
    assert found[0].seconds == pytest.approx(1.04, abs=0.01)


def test_frame_labels_follow_from_segments():
    record = Record(
        "x", None, "", "hi", duration=1.0, segments=(Segment(0.1, 0.5, "hi"), Segment(0.5, 0.9, "en"))
    )  # fmt: skip
    labels = frame_labels(record, 10, ["en", "hi"])
    assert labels.tolist() == [-1, 1, 1, 1, 1, 0, 0, 0, 0, -1]
    assert frame_labels(record, 10, ["hi"]).tolist() == [-1, 0, 0, 0, 0, -1, -1, -1, -1, -1]
    assert frame_labels(record, 50, ["en", "hi"], frames=60).shape == (60,)
    plain = Record("y", None, "a", "hi", duration=0.5)
    assert frame_labels(plain, 10, ["en", "hi"]).tolist() == [1] * 5


def test_what_cannot_be_made_is_said(records, tmp_path):
    with pytest.raises(DataError, match=r"no clip in te\. Valid: en \(10 clips\), hi \(15 clips\)"):
        make(records, ["hi", "te"], tmp_path)
    with pytest.raises(DataError, match="Switching needs two languages"):
        make(records, ["hi"], tmp_path)
    with pytest.raises(DataError, match="Kinds slow cannot be made"):
        make(records, ["hi", "en"], tmp_path, CodeSwitchOptions(kinds=("slow",)))
    apart = [r for r in records if (r.lang, r.speaker) in (("hi", "a"), ("en", "b"))]
    done = make(apart, ["hi", "en"], tmp_path, CodeSwitchOptions(clips=2))
    assert "no inter/same clips: no speaker is recorded in two languages" in done.notes
    assert "no speaker-change/different clips: a language needs two speakers" in done.notes
    with pytest.raises(DataError, match="--voices different"):
        make(apart, ["hi", "en"], tmp_path, CodeSwitchOptions(clips=2, voices="same"))


def test_unreadable_sources_are_named(records, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    broken = [*records, *(replace(records[0], id=f"bad{i}", path=bad) for i in range(20))]
    done = make(broken, ["hi", "en"], tmp_path / "o", CodeSwitchOptions(clips=4, kinds=("inter",)))
    assert len(done.records) == 8
    assert any("skipped bad" in note for note in done.notes)
