"""Strings of recorded digits: single digits of one speaker, one after the other.

Corpora of spoken digits hold one digit a clip, people say strings of them. Joined strings bridge the two.
"""

import random
from pathlib import Path

import numpy as np
import soundfile

from training.data.prompts import text_id
from training.data.synthesis import join
from training.data.templates_numbers import DIGITS
from zoo.speech import SAMPLE_RATE

STRINGS = 120  # of each speaker
DIGITS_NEEDED = 8  # different digits a speaker must have said


def joined_digits(rows: list[dict], out: Path, suffix: str, seed: int) -> list[dict]:
    """Speak strings of 2 to 7 digits with the recorded training clips in `rows`; files go below `out`."""
    by_speaker: dict[tuple[str, str], list[dict]] = {}
    for row in rows:
        if row["text"] in DIGITS.get(row["lang"], ()):
            by_speaker.setdefault((row["lang"], row["speaker"]), []).append(row)
    made = []
    for (language, speaker), found in sorted(by_speaker.items()):
        if len({row["text"] for row in found}) < DIGITS_NEEDED:
            continue
        rng = random.Random(f"{seed} {speaker}")
        folder = out / "recorded" / f"{found[0]['corpus']}_joined"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(STRINGS):
            drawn = [rng.choice(found) for _ in range(rng.randint(2, 7))]
            pieces = [soundfile.read(out / row["path"], dtype="float32")[0] for row in drawn]
            samples, _ = join(pieces, [rng.uniform(0, 0.25) for _ in pieces[1:]])
            path = folder / f"{speaker.replace(':', '_')}_{number:03d}{suffix}"
            soundfile.write(path, np.clip(samples, -1, 1), SAMPLE_RATE, subtype="PCM_16")
            text = " ".join(row["text"] for row in drawn)
            made.append(
                {
                    **drawn[0],
                    "path": str(path.relative_to(out)),
                    "duration": round(len(samples) / SAMPLE_RATE, 3),
                    "text": text,
                    "lang": language,
                    "subset": f"{drawn[0]['corpus']}_joined",
                    "text_id": text_id(text),
                }
            )
    return made
