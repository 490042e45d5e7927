"""festival's voices, cut from recordings of people: another channel and other speakers than espeak-ng's.

festival is started once for each voice and speaks many sentences; one it cannot speak is skipped.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.synthesis import trim
from zoo.audio import decode
from zoo.errors import AudioError, DataError
from zoo.speech import SAMPLE_RATE


@dataclass(frozen=True)
class FestivalVoice:
    """A voice of the package `festvox-...`."""

    function: str
    """Scheme function that selects it."""
    language: str
    sentences: int
    """How many are spoken for the corpus."""
    encoding: str = "utf-8"
    """What its letter-to-sound rules expect."""


VOICES = {
    "lp": FestivalVoice("voice_lp_diphone", "it", 110, "latin-1"),
    "pc": FestivalVoice("voice_pc_diphone", "it", 110, "latin-1"),
    "nsk_hi": FestivalVoice("voice_hindi_NSK_diphone", "hi", 90),
    "nsk_te": FestivalVoice("voice_telugu_NSK_diphone", "te", 90),
    "kal": FestivalVoice("voice_kal_diphone", "en", 45),
    "slt": FestivalVoice("voice_cmu_us_slt_arctic_hts", "en", 45),
}
MIN_S, MAX_S = 0.5, 9.0


def festival_speaks(voice: FestivalVoice, texts: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Texts and samples (16 kHz), in order, of those that could be spoken in 0.5 to 9 s."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"({voice.function})"]
        spoken = {}
        for number, text in enumerate(texts):
            try:
                text.encode(voice.encoding)
            except UnicodeEncodeError:
                continue
            spoken[number] = text
            wave = Path(folder) / f"{number}.wav"
            quoted = text.replace("\\", " ").replace('"', " ")
            lines.append(f'(unwind-protect (utt.save.wave (SynthText "{quoted}") "{wave}" (quote riff)) nil)')
        script = Path(folder) / "say.scm"
        script.write_bytes("\n".join(lines).encode(voice.encoding))
        try:
            subprocess.run(["festival", "-b", str(script)], capture_output=True, timeout=900)
        except FileNotFoundError:
            raise DataError("festival is not installed", remedy="sh training/install_speech.sh") from None
        for number, text in spoken.items():
            wave = Path(folder) / f"{number}.wav"
            try:
                samples = trim(decode(wave))
            except AudioError:
                continue
            if MIN_S <= len(samples) / SAMPLE_RATE <= MAX_S:
                yield text, samples
