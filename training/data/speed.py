"""Another voice from a recording: faster and higher, or slower and deeper (Ko et al., Interspeech 2015)."""

import numpy as np

from zoo.speech import SAMPLE_RATE


def at_speed(audio: np.ndarray, speed: float) -> np.ndarray:
    """float32 `[n]` -> `[n / speed]`: pitch and formants are `speed` times as high."""
    import soxr

    return audio if speed == 1 else soxr.resample(audio, SAMPLE_RATE * speed, SAMPLE_RATE)
