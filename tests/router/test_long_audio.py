"""Recordings longer than one pass: where they are cut, what is left out, and how much memory they take."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from router.chunks import Recording
from router.vad import Energy, Silero, _silero_path, voice_activity
from tests import toy
from tests.toy_router import make

RATE = 16_000
ROOT = Path(__file__).parent.parent.parent


def blocks(sound, size=RATE * 30):
    return (sound[start : start + size] for start in range(0, len(sound), size))


def cut(sound, longest_s=10.0, kind="silero"):
    return list(Recording(blocks(sound), longest_s, lambda: voice_activity(kind)).chunks())


def speech(seconds, seed=0):
    """Toy speech with short pauses, and the samples at which its clips begin and end."""
    parts, spans, at = [], [], 0
    for utterance, _, _ in toy.clips(int(seconds * 3), ("en",), seed):
        parts += [utterance.audio, np.zeros(RATE // 5, np.float32)]
        spans.append((at, at + len(utterance.audio)))
        at += len(utterance.audio) + RATE // 5
        if at > seconds * RATE:
            break
    return np.concatenate(parts), spans


@pytest.mark.parametrize("kind", ["silero", "energy"])
def test_cuts_lie_in_pauses_and_nothing_is_left_out(kind):
    sound, spans = speech(60)
    chunks = cut(sound, kind=kind)
    assert np.array_equal(np.concatenate([chunk.audio for chunk in chunks]), sound)
    assert max(len(chunk.audio) for chunk in chunks) <= 10 * RATE
    for chunk in chunks[:-1]:
        at = round(chunk.end_s * RATE)
        assert not any(first + 200 < at < last - 200 for first, last in spans), f"cut at {chunk.end_s} s, inside speech"


@pytest.mark.parametrize("kind", ["silero", "energy"])
def test_long_silence_is_left_out_but_its_edges_stay(kind):
    sound, _ = speech(8)
    hush = (1e-4 * np.random.default_rng(0).standard_normal(20 * RATE)).astype(np.float32)
    chunks = cut(np.concatenate([hush, sound, hush, sound, hush]), kind=kind)
    kept = np.zeros(3 * len(hush) + 2 * len(sound), bool)
    for chunk in chunks:
        kept[round(chunk.start_s * RATE) : round(chunk.end_s * RATE)] = True
    for begin in (len(hush), 2 * len(hush) + len(sound)):
        assert kept[begin - RATE // 4 : begin + len(sound) + RATE // 4].all()
    assert kept.sum() < 2 * len(sound) + 5 * RATE


def test_loud_noise_is_never_taken_for_silence():
    noise = (0.05 * np.random.default_rng(1).standard_normal(40 * RATE)).astype(np.float32)
    assert sum(len(chunk.audio) for chunk in cut(noise)) == len(noise)


def test_a_detector_gives_the_same_in_blocks_as_in_one_piece():
    assert isinstance(voice_activity("silero"), Silero)
    sound, _ = speech(20)
    windows = sound[: len(sound) // 512 * 512].reshape(-1, 512)
    whole = Silero(_silero_path())(windows)
    detector = Silero(_silero_path())
    parts = np.concatenate([detector(windows[i : i + 37]) for i in range(0, len(windows), 37)])
    assert np.allclose(whole, parts, atol=1e-5)


def test_without_silero_loudness_decides(monkeypatch):
    monkeypatch.setattr("router.vad._silero_path", lambda: None)
    assert isinstance(voice_activity("silero"), Energy)


def test_chunks_carry_the_text_before_where_asked(toy_folder, toy_store, monkeypatch):
    router = make(toy_folder, toy_store, monkeypatch)
    seen = []
    decode = router.base.decode
    monkeypatch.setattr(router.base, "decode", lambda h, lang, o: seen.append(o.previous) or decode(h, lang, o))
    sound, _ = speech(70)
    parts = [s.text for s in router.transcribe(sound, carry_context=True, max_tokens=20, switching=False).segments]
    assert len(parts) >= 3
    assert seen[:3] == ["", parts[0], f"{parts[0]} {parts[1]}"]
    assert set(seen) != {""}


THREE_HOURS = """
import resource, sys, time
import router, zoo
from tests.toy_router import family
from pathlib import Path
toy, store, path = map(Path, sys.argv[1:])
card = family.card(toy, "toy")
zoo.load = lambda name, **settings: family.load(toy, card, **{"device": "cpu", **settings, "context": "dynamic"})
loaded = router.load("toy", store, max_tokens=1, vad="energy", batch_size=4)
base = loaded.base
encode = type(base).encode
# a twentieth of each chunk goes through the network: its memory is another test's
features = base.features
def short(utterances):
    from dataclasses import replace
    return features([replace(u, audio=u.audio[: 16_000]) for u in utterances])
base.features = short
loaded.transcribe(path.with_name("warm.wav"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
transcript = loaded.transcribe(path)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(round(transcript.duration), len(transcript.segments), round((after - before) / 1024))
"""


@pytest.mark.slow
def test_memory_is_flat_for_three_hours(toy_folder, toy_store, tmp_path):
    minute, _ = speech(60)
    minute = minute[: 60 * RATE]
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for _ in range(180):
            file.write(minute)
    soundfile.write(tmp_path / "warm.wav", np.tile(minute, 6), RATE)
    done = subprocess.run(
        [sys.executable, "-c", THREE_HOURS, str(toy_folder), str(toy_store), str(path)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    duration, segments, grown_mib = map(int, done.stdout.split())
    assert duration == 180 * 60
    assert segments >= 360
    assert grown_mib < 60, "the samples of three hours alone are 660 MiB"
