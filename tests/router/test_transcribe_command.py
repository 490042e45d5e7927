"""`boli transcribe`: what it prints, what it writes, and what it does about bad input."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

import boli
from router.commands.transcribe import target_stems
from tests import toy
from tests.toy_router import make, name_toy

RATE = 16_000


@pytest.fixture
def folder(tmp_path, toy_folder, toy_store, monkeypatch):
    """Two toy clips, hi and te, and `zoo.load` that knows the toy model."""
    name_toy(toy_folder, monkeypatch)
    for language in ("hi", "te"):
        utterance, text, _ = toy.clips(1, (language,), seed=4)[0]
        soundfile.write(tmp_path / f"{language}.wav", utterance.audio, RATE, subtype="PCM_16")
        (tmp_path / f"{language}.ref").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(toy_store, capsys):
    def call(*arguments):
        code = boli.main(["transcribe", *map(str, arguments), "--model", "toy", "--store", str(toy_store)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


def test_one_file_is_its_text_and_several_a_line_each(folder, run):
    code, out, _ = run(folder / "hi.wav")
    assert (code, out) == (0, (folder / "hi.ref").read_text(encoding="utf-8") + "\n")
    code, out, _ = run(folder)
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(folder / "hi.wav"), str(folder / "te.wav")]
    assert re.search(r"\t\[te \d\.\d\d\]\t", out)


def test_a_recording_in_two_languages_is_drawn_and_its_subtitles_say_which(folder, run, tmp_path):
    from tests.toy_router import switched

    audio, segments = switched(1, seed=5)[0]
    path, picture = tmp_path / "both" / "mixed.wav", tmp_path / "pictures" / "out.png"
    path.parent.mkdir()
    soundfile.write(path, audio, RATE, subtype="FLOAT")
    code, out, _ = run(path, "-f", "vtt", "--plot", picture)
    assert code == 0
    for *_, language, _ in segments:
        assert f"<lang {language}>" in out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    code, out, _ = run(path, "-f", "json", "--no-switching")
    assert len(json.loads(out)["segments"]) == 1
    code, _, err = run(path, folder / "hi.wav", "--plot", picture)
    assert (code, "draws one recording" in err) == (1, True)
    code, _, err = run(path, "--plot", tmp_path / "out.doc")
    assert code == 1
    assert "ends in .png, .svg or .pdf" in err
    assert not list(tmp_path.glob(".out*"))


def test_json_has_the_fields_of_openai_whisper_and_ours(folder, run):
    _, out, _ = run(folder / "hi.wav", "-f", "json", "--timestamps", "word")
    content = json.loads(out)
    assert {"text", "segments", "language"} <= set(content)
    numbers = {"temperature", "avg_logprob", "compression_ratio", "no_speech_prob"}
    assert numbers | {"id", "seek", "start", "end", "text", "tokens", "words"} <= set(content["segments"][0])
    assert {"probability", "weights", "reason", "language"} <= set(content["segments"][0])
    assert set(content["segments"][0]["words"][0]) == {"word", "start", "end", "probability"}
    _, out, _ = run(folder / "te.wav", folder / "hi.wav", "-f", "json")
    assert [entry["source"] for entry in json.loads(out)] == [str(folder / "te.wav"), str(folder / "hi.wav")]


def test_every_format_goes_into_a_folder(folder, run):
    code, out, _ = run(folder, "-f", "all", "-o", folder / "out")
    assert (code, out) == (0, "")
    names = {f"{stem}.{ending}" for stem in ("hi", "te") for ending in ("txt", "srt", "vtt", "tsv", "json")}
    assert {path.name for path in (folder / "out").iterdir()} == names
    text = (folder / "hi.ref").read_text(encoding="utf-8")
    stamp = r"\d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(rf"1\n{stamp} --> {stamp}\n{text}\n\n", (folder / "out/hi.srt").read_text(encoding="utf-8"))
    stamp = r"\d\d:\d\d\.\d{3}"
    vtt = (folder / "out/hi.vtt").read_text(encoding="utf-8")
    assert re.fullmatch(rf"WEBVTT\n\n{stamp} --> {stamp}\n{text}\n\n", vtt)
    assert re.fullmatch(rf"start\tend\ttext\n\d+\t\d+\t{text}\n", (folder / "out/hi.tsv").read_text(encoding="utf-8"))


def test_a_failed_file_gets_a_message_and_the_others_are_done(folder, run):
    (folder / "bad.wav").write_text("no audio at all")
    code, out, err = run(folder / "hi.wav", folder / "bad.wav", folder / "gone.wav", folder / "te.wav", "-f", "json")
    assert code == 1
    assert len(json.loads(out)) == 2
    assert "bad.wav is not audio" in err
    assert "gone.wav does not exist" in err
    assert err.endswith("2 of 4 files failed\n")
    (folder / "none").mkdir()
    code, out, err = run(folder / "none", folder / "hi.wav")
    assert code == 1
    assert out
    assert "There is no audio file in" in err


def test_equal_stems_do_not_overwrite_each_other(folder, run):
    (folder / "a").mkdir()
    (folder / "a" / "te.wav").write_bytes((folder / "te.wav").read_bytes())
    samples, rate = soundfile.read(folder / "hi.wav")
    soundfile.write(folder / "hi.flac", samples, rate)
    code, _, _ = run(
        folder / "hi.wav", folder / "hi.flac", folder / "te.wav", folder / "a" / "te.wav", "-o", folder / "o"
    )
    assert code == 0
    wanted = {"hi.wav.txt", "hi.flac.txt", f"{folder.name}-te.wav.txt", "a-te.wav.txt"}
    assert {path.name for path in (folder / "o").iterdir()} == wanted
    paths = [folder / "te.wav", folder / "te.wav", folder / "TE.ogg"]
    assert len({stem.casefold() for stem in target_stems(paths)}) == 3


@pytest.mark.parametrize("format", ["txt", "json", "srt"])
def test_any_encoding_of_standard_output_will_do(folder, toy_store, monkeypatch, format):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    command = ["transcribe", str(folder / "hi.wav"), "--model", "toy", "--store", str(toy_store), "-f", format]
    assert boli.main(command) == 0
    sys.stdout.flush()
    written = raw.getvalue().decode("ascii")
    if format == "json":
        assert json.loads(written)["text"] == (folder / "hi.ref").read_text(encoding="utf-8")
    else:
        assert "\\u0" in written


def audio_of_every_kind(folder):
    """File name -> what is to come of it: the clip's text, nothing, or a message."""
    utterance, text, _ = toy.clips(1, ("hi",), seed=4)[0]
    clip = utterance.audio
    import soxr

    for rate in (8_000, 96_000):
        soundfile.write(folder / f"rate{rate}.wav", soxr.resample(clip, RATE, rate), rate)
    soundfile.write(folder / "six.wav", np.stack([clip] * 6, axis=1), RATE)
    soundfile.write(folder / "int24.wav", clip, RATE, subtype="PCM_24")
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    faint = 1e-3 * np.random.default_rng(0).standard_normal(3 * RATE)
    soundfile.write(folder / "hiss.wav", faint, RATE, subtype="PCM_16")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.full(RATE, np.inf, np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "tiny.wav", clip[:10], RATE)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("just words")
    (folder / "header.wav").write_bytes((folder / "int24.wav").read_bytes()[:30])
    soundfile.write(folder / "whole.flac", np.tile(clip, 20), RATE)
    (folder / "cut.flac").write_bytes((folder / "whole.flac").read_bytes()[:20_000])
    return {
        "rate96000.wav": text, "six.wav": text, "int24.wav": text, "rate8000.wav": ..., "tiny.wav": ...,
        "silence.wav": "", "hiss.wav": "", "none.wav": "holds no samples", "nan.wav": "NaN or infinite",
        "inf.wav": "NaN or infinite", "empty.wav": "empty file", "text.wav": "is not audio",
        "header.wav": "header.wav", "cut.flac": "cut.flac",
    }  # fmt: skip


def test_bad_audio_is_an_empty_text_or_a_message(tmp_path, toy_folder, toy_store, monkeypatch):
    router = make(toy_folder, toy_store, monkeypatch)
    expected = audio_of_every_kind(tmp_path)
    found = router.transcribe([tmp_path / name for name in expected], on_error="return")
    for (name, wanted), got in zip(expected.items(), found, strict=True):
        if isinstance(got, Exception):
            assert wanted in str(got), name
            assert name in str(got)
        elif wanted is not ...:
            assert got.text == wanted, name
            if not wanted:
                assert (got.language, got.segments) == ("unknown", ())


def test_stores_that_serve_nothing(tmp_path, folder, toy_folder, toy_store, monkeypatch, run, capsys):
    import router
    from adapters.record import Record
    from adapters.store import Store
    from zoo.errors import AdapterError

    Store(tmp_path / "empty", create=True)
    alone = router.load("toy", tmp_path / "empty", "whisper")
    clip = toy.clips(1, ("hi",), seed=4)[0][0].audio
    segment = alone.transcribe(clip, language="hi").segments[0]
    assert segment.weights == {}
    assert segment.reason == "forced to hi; no adapter for hi: the base alone"
    assert boli.main(["transcribe", str(folder / "hi.wav"), "--model", "toy", "--store", str(tmp_path / "gone")]) == 1
    assert "There is no store at" in capsys.readouterr().err

    other = Store(tmp_path / "other", create=True)
    stored = Store(toy_store).find(base="toy", language="hi")[0]
    record = Record(**{**vars(stored.record), "base_sha256": "0" * 64})
    other.publish(stored.key, stored.folder, record)
    with pytest.raises(AdapterError, match="trained on other weights of toy"):
        router.load("toy", tmp_path / "other", "whisper")


CTRL_C = """
import signal, sys, time
import zoo
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
from tests.toy_router import family
from pathlib import Path
toy, store, out, *files = sys.argv[1:]
card = family.card(Path(toy), "toy")
zoo.load = lambda name, **settings: family.load(Path(toy), card, **{"device": "cpu", **settings, "context": "dynamic"})
import boli
sys.exit(boli.main(["transcribe", *files, "--model", "toy", "--store", store, "-o", out, "--batch-size", "1"]))
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(folder, toy_folder, toy_store):
    out = folder / "out"
    files = [str(folder / "hi.wav")] * 4 + [str(folder / "te.wav")] * 3000
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(toy_folder), str(toy_store), str(out), *files],
        stderr=subprocess.PIPE, text=True, cwd=os.path.dirname(boli.__file__),
    )  # fmt: skip
    for _ in range(600):
        if out.is_dir() and any(out.iterdir()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.endswith("boli: stopped\n")
    done = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 0 < len(done) < 3004
    assert all(path.read_text(encoding="utf-8").endswith("\n") for path in done)
