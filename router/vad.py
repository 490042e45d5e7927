"""Where people speak: a probability per 32 ms window, block by block.

Silero VAD (its ONNX model, run by onnxruntime) where it is installed, else loudness against the noise floor. What is
found here only decides where long audio is cut and which long stretches are pure silence; see chunks.py.
"""

import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

WINDOW_SAMPLES = 512  # 32 ms at 16 kHz, the window of Silero VAD
CONTEXT_SAMPLES = 64  # end of the window before, which Silero VAD sees too
BLOCK_WINDOWS = 512  # windows in one call of the network, 16 s


class VoiceActivity(Protocol):
    """Follows one recording; blocks are fed in order."""

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        """windows: float32 `[n, 512]` at 16 kHz -> probability of speech `[n]`."""


class Silero:
    """Silero VAD 6 (github.com/snakers4/silero-vad, MIT): recurrent, so one object follows one recording."""

    def __init__(self, path: Path):
        self._session = _session(str(path))
        self._h: np.ndarray = np.zeros((1, 1, 128), np.float32)
        self._c: np.ndarray = np.zeros((1, 1, 128), np.float32)
        self._context: np.ndarray = np.zeros(CONTEXT_SAMPLES, np.float32)

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        found: list[np.ndarray] = [np.zeros(0, np.float32)]
        for start in range(0, len(windows), BLOCK_WINDOWS):
            block = windows[start : start + BLOCK_WINDOWS]
            before = np.concatenate([self._context[None], block[:-1, -CONTEXT_SAMPLES:]])
            self._context = block[-1, -CONTEXT_SAMPLES:].copy()
            values, self._h, self._c = self._session.run(
                ["speech_probs", "hn", "cn"],
                {"input": np.concatenate([before, block], axis=1), "h": self._h, "c": self._c},
            )
            found.append(values.reshape(-1))
        return np.concatenate(found)


class Energy:
    """Loudness above the noise floor: 10 dB above it is as likely speech as not."""

    def __init__(self) -> None:
        self._floor: float | None = None

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        if not len(windows):
            return np.zeros(0, np.float32)
        level = loudness_db(windows)
        quiet = float(np.percentile(level, 10))
        # the floor falls at once and rises slowly, so that a minute of speech does not pass for noise
        self._floor = quiet if self._floor is None else min(quiet, self._floor + 1.0)
        return (1.0 / (1.0 + np.exp(-(level - max(self._floor, -70.0) - 10.0) / 3.0))).astype(np.float32)


def voice_activity(kind: str = "silero") -> VoiceActivity:
    """A fresh detector: `silero` (`energy` where it is not installed) or `energy`."""
    path = _silero_path() if kind == "silero" else None
    return Energy() if path is None else Silero(path)


def loudness_db(windows: np.ndarray) -> np.ndarray:
    """float `[n, samples]` -> root mean square `[n]` in dB of full scale."""
    return 10.0 * np.log10(np.mean(np.square(windows, dtype=np.float64), axis=1) + 1e-12)


@cache
def _silero_path() -> Path | None:
    """The ONNX file in silero-vad's package, found without importing the package (it would import torchaudio)."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    spec = importlib.util.find_spec("silero_vad")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "silero_vad_16k_sequence.onnx"
        if path.is_file():
            return path
    return None


_sessions: dict[str, object] = {}
_lock = threading.Lock()


def _session(path: str):
    """One session for all recordings: it holds no state and may be called by many threads."""
    with _lock:
        if path not in _sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.inter_op_num_threads = options.intra_op_num_threads = 1
            _sessions[path] = onnxruntime.InferenceSession(
                path, sess_options=options, providers=["CPUExecutionProvider"]
            )
        return _sessions[path]
