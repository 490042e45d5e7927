"""Speech level and silence at a clip's ends, from short-time energy."""

import numpy as np

from zoo.speech import SAMPLE_RATE

FRAME_S = 0.02
FRAME_SAMPLES = round(FRAME_S * SAMPLE_RATE)
BELOW_PEAK_DB = 35.0  # frames quieter than the loudest by more than this are no speech
FLOOR_DB = -90.0
PEAK_LIMIT = 0.99


def frame_levels(audio: np.ndarray) -> np.ndarray:
    """dB relative to full scale of each 20 ms frame; float32 `[ceil(n / 320)]` from `[n]`."""
    padded = np.pad(audio, (0, -len(audio) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    return (10 * np.log10(np.maximum(np.mean(np.square(padded, dtype=np.float64), axis=1), 1e-9))).astype(np.float32)


def active(levels: np.ndarray, below_peak_db: float = BELOW_PEAK_DB) -> np.ndarray:
    """bool `[frames]`: frames that hold speech. The peak is the 95th percentile, so that one click does not set it."""
    if not len(levels):
        return np.zeros(0, dtype=bool)
    return (levels > np.percentile(levels, 95) - below_peak_db) & (levels > FLOOR_DB + 1)


def speech_level(audio: np.ndarray) -> float:
    """dB relative to full scale of the frames that hold speech (the idea of ITU-T P.56); FLOOR_DB for silence."""
    levels = frame_levels(audio)
    speech = levels[active(levels)]
    return float(10 * np.log10(np.mean(10 ** (speech / 10)))) if len(speech) else FLOOR_DB


def at_level(audio: np.ndarray, level_db: float) -> np.ndarray:
    """The clip with its speech at `level_db`, peaks kept below full scale; silence is returned as it is."""
    now = speech_level(audio)
    if now <= FLOOR_DB:
        return audio
    gain = 10 ** ((level_db - now) / 20)
    peak = float(np.abs(audio).max()) * gain
    return (audio * (gain * min(1.0, PEAK_LIMIT / peak))).astype(np.float32)


def speech_bounds(audio: np.ndarray, margin_s: float = 0.1, below_peak_db: float = BELOW_PEAK_DB) -> tuple[int, int]:
    """First and one-past-last sample of the speech with a margin; (0, n) where no frame holds speech."""
    speech = np.flatnonzero(active(frame_levels(audio), below_peak_db))
    if not len(speech):
        return 0, len(audio)
    margin = round(margin_s * SAMPLE_RATE)
    first, last = int(speech[0]), int(speech[-1])
    return max(0, first * FRAME_SAMPLES - margin), min(len(audio), (last + 1) * FRAME_SAMPLES + margin)
