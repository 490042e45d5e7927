"""Voices cut from recordings, through their command."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from training.data import voices
from training.data.manifest import read_manifest
from training.data.prompts_human import Forbidden
from training.data.voices import RecordedVoice, devanagari, main, untested
from zoo.speech import SAMPLE_RATE


def test_gurmukhi_is_spelt_as_a_hindi_voice_reads_it():
    """By hand: addak doubles the consonant behind it, tippi and bindi are nasals, everything else is one block lower."""
    assert devanagari("ਇਕੱਤੀ ਰੁਪਏ") == "इकत्ती रुपए"
    assert devanagari("ਨੂੰ ਹੁੰਦਾ") == "नूं हुंदा"
    assert devanagari("ਤੋਂ ok, ਪੱ") == "तों ok, प"


def test_no_clip_says_what_a_test_clip_says(tmp_path):
    rows = [{"text_id": str(i), "subset": kind} for i, kind in enumerate(["document", "digits", "words", "template"])]
    (tmp_path / "hi_test.jsonl").write_text("".join(json.dumps({"text_id": i}) + "\n" for i in ("0", "1")), "utf-8")
    (tmp_path / "base_test.jsonl").write_text(json.dumps({"text_id": "2"}) + "\n", "utf-8")
    assert [row["text_id"] for row in untested(rows, "hi", tmp_path)] == ["1", "3"]


@pytest.fixture
def inputs(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    said = {"en": "everyone has the right to number {}", "hi": "सभी को समान अधिकार है {}", "pa": "ਸਭ ਨੂੰ ਬਰਾਬਰ ਹੱਕ ਹੈ {}"}
    for language, line in said.items():
        letters = {"en": "abcdefghijklmnopqrst", "hi": "कखगघचछजझटठडढतथदधनपफब", "pa": "ਕਖਗਘਚਛਜਝਟਠਡਢਤਥਦਧਨਪਫਬ"}[language]
        (folder / f"udhr.{language}.txt").write_text("\n".join(line.format(each) for each in letters), "utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "program"),
    [("flite-slt", "flite"), ("kal", "festival"), ("nsk_pa", "festival")],
    ids=["flite", "kal", "pa"],
)
def test_a_voice_speaks(name, program, inputs, tmp_path, monkeypatch, capsys):
    """Its clips are heard, of its language, as long as their rows say; tempo and warp change their length."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed: sh training/install_speech.sh")
    voice = voices.VOICES[name]
    fixed = RecordedVoice(voice.language, 6, voice.function, voice.encoding, (1.0, 1.0), voice.letters)
    monkeypatch.setattr(voices, "VOICES", {name: fixed})
    assert main(["--out", str(tmp_path / "out"), "--text", str(inputs), "--jobs", "1"]) == 0
    assert "6 clips" in capsys.readouterr().out
    records = read_manifest(tmp_path / "out" / f"voices_{voice.language}_train.jsonl")
    assert len(records) == 6
    for record in records:
        samples, rate = soundfile.read(record.path, dtype="float32")
        assert rate == SAMPLE_RATE
        assert abs(len(samples) / rate - record.duration) < 0.01
        assert np.sqrt(np.mean(samples**2)) > 10 ** (-40 / 20)
        assert record.lang == voice.language
    slow = RecordedVoice(voice.language, 6, voice.function, voice.encoding, (1.5, 1.5), voice.letters)
    monkeypatch.setattr(voices, "VOICES", {name: slow})
    assert main(["--out", str(tmp_path / "slow"), "--text", str(inputs), "--jobs", "1"]) == 0
    longer = read_manifest(tmp_path / "slow" / f"voices_{voice.language}_train.jsonl")
    assert [r.text for r in longer] == [r.text for r in records]
    assert sum(r.duration for r in longer) > 1.2 * sum(r.duration for r in records)


def test_forbidden_texts_are_not_drawn(inputs):
    import random

    from training.data.prompts_sources import gather

    texts = gather({"en"}, inputs, None, {})
    rng = random.Random(0)
    drawn = {texts["en"].sentence(rng, "train", Forbidden([]))[0] for _ in range(300)}
    refused = sorted(text for text in drawn if len(text.split()) > 3)[0]
    work = voices.Work(inputs, texts, voices.Channels(0), Forbidden([refused]), 0)
    again = {voices.draw(work, voices.VOICES["kal"], random.Random(seed)).text for seed in range(300)}
    assert refused not in again


def test_a_missing_program_is_named(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(voices, "VOICES", {"flite-nobody": RecordedVoice("en", 1)})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--out", str(tmp_path / "out"), "--text", str(inputs), "--jobs", "1"]) == 1
    assert "flite is not installed" in capsys.readouterr().err
