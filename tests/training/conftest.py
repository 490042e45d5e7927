"""Manifests of toy speech: tones for letters, a hum for the language."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from tests import toy
from zoo.speech import SAMPLE_RATE

LANGUAGES = ("en", "hi", "it", "pa", "te")


def write_wav(path: Path, audio: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(audio, -1, 1) * 32_767).astype("<i2").tobytes())


def write_manifest(path: Path, languages, count: int, seed: int) -> Path:
    lines = []
    for i, (utterance, text, language) in enumerate(toy.clips(count, languages, seed)):
        write_wav(path.parent / path.stem / f"{i}.wav", utterance.audio)
        line = {"id": f"{path.stem}-{i}", "path": f"{path.stem}/{i}.wav", "text": text, "lang": language}
        lines.append({**line, "speaker": f"s{i % 7}", "duration": utterance.duration_s})
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def manifests(tmp_path_factory) -> dict[str, Path]:
    """`train`, `valid` (Hindi only), `mixed_train`, `mixed_valid` (five languages)."""
    folder = tmp_path_factory.mktemp("toy-corpus")
    return {
        "train": write_manifest(folder / "train.jsonl", ("hi",), 60, 1),
        "valid": write_manifest(folder / "valid.jsonl", ("hi",), 10, 2),
        "mixed_train": write_manifest(folder / "mixed_train.jsonl", LANGUAGES, 160, 3),
        "mixed_valid": write_manifest(folder / "mixed_valid.jsonl", LANGUAGES, 60, 4),
    }
