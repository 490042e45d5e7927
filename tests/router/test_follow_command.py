"""`boli follow`: a file, and samples on standard input as they are spoken."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import boli
from router.commands.follow import samples
from tests.toy_router import make, name_toy, switched

RATE = 16_000


@pytest.fixture
def spoken(tmp_path, toy_folder, monkeypatch):
    name_toy(toy_folder, monkeypatch)
    audio, segments = switched(1, seed=5)[0]
    path = tmp_path / "both.wav"
    soundfile.write(path, audio, RATE, subtype="PCM_16")
    return path, segments


@pytest.fixture
def run(toy_store, capsys):
    def call(*arguments):
        code = boli.main(["follow", *map(str, arguments), "--model", "toy", "--store", str(toy_store)])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


def test_a_file(spoken, run):
    path, segments = spoken
    code, out, _ = run(path)
    assert code == 0
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[1] for line in lines] == [language for *_, language, _ in segments]
    assert lines[1][2] == f"before: {segments[0][2]}"
    assert abs(float(lines[1][0]) - segments[1][0]) < 0.6
    code, out, _ = run(path, "--json", "--languages", segments[0][2])
    assert [json.loads(line)["language"] for line in out.splitlines()] == [segments[0][2]]
    code, _, err = run(path.parent / "none.wav")
    assert code == 1
    assert "does not exist" in err


def test_samples_as_they_come(spoken, run, monkeypatch):
    """The same decisions as of the file, whatever pieces the pipe gives; halves of samples are put together."""
    path, _ = spoken
    wanted = run(path)[1]
    raw = np.round(soundfile.read(path, dtype="float32")[0] * 32_767).astype("<i2").tobytes()

    class Pipe(io.BytesIO):
        def read1(self, most=-1):
            return self.read(min(most, 777))

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(raw)))
    assert run("-")[1] == wanted
    blocks = list(samples(Pipe(raw[:10_001]), RATE))
    assert np.array_equal(np.concatenate(blocks), np.frombuffer(raw[:10_000], "<i2"))


def test_a_change_is_told_before_the_next_block_is_read(spoken, toy_folder, toy_store, monkeypatch):
    """Nothing is read ahead: a decision for time t comes out when the blocks up to t are in."""
    path, _ = spoken
    audio = soundfile.read(path, dtype="float32")[0]
    router = make(toy_folder, toy_store, monkeypatch)
    given = 0

    def microphone():
        nonlocal given
        for start in range(0, len(audio), 1_600):
            given = start + 1_600
            yield audio[start : start + 1_600]

    found = []
    for change in router.follow(microphone()):
        assert given / RATE - change.decided_s < 0.2
        found.append(change)
    assert found == list(router.follow(audio))
