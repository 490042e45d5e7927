"""espeak-ng as a library: text in, samples out, about 3 ms a sentence.

Starting the `espeak-ng` program costs more than the sentence, so `Espeak` binds libespeak-ng through ctypes. The
library keeps its state in globals: one `Espeak` per process, and the same calls in the same order give the same
samples (its random numbers come from the C library's `rand`, seeded here).

A *voice* is what stands for a speaker: espeak's language or accent, its variant (another set of formants and voice
source), and a warp, which plays the result at another rate to move all formants together, as a shorter or longer
vocal tract does.
"""

import ctypes
import ctypes.util
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

ESPEAK_ROOT = "BOLI_ESPEAK_ROOT"
"""Environment variable: where the packages were unpacked, when not into the system (`carry_debs.sh`)."""

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when the callback has had every sample
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_CHARS_UTF8 = 1
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

# Variants by who may hear them. Robots, croaks and the like are left out: no human sounds so.
TEST_VARIANTS = ("m4", "f2", "Andrea", "michel", "klatt3", "steph2", "Hugo", "belinda", "edward2")
DEV_VARIANTS = ("m7", "f5", "Alicia", "rob", "klatt5", "Denis")
TRAIN_VARIANTS = (
    "m1", "m2", "m3", "m5", "m6", "m8", "f1", "f3", "f4", "Alex", "Andy", "Annie", "Diogo", "Gene", "Gene2", "Henrique",
    "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "adam", "anika", "announcer", "antonio", "aunty", "benjamin",
    "boris", "caleb", "david", "ed", "edward", "grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "john",
    "kaukovalta", "klatt", "klatt2", "klatt4", "linda", "marcelo", "max", "miguel", "norbert", "pablo", "paul", "pedro",
    "quincy", "robert", "sandro", "shelby", "steph", "steph3", "travis", "victor", "zac", "",
)  # fmt: skip
VARIANTS = {"train": TRAIN_VARIANTS, "dev": DEV_VARIANTS, "test": TEST_VARIANTS}

ACCENTS = {
    "en": (
        "en-us", "en-us", "en", "en", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029", "en-gb-x-gbclan",
        "en-gb-x-gbcwmd",
    ),
    "es": ("es", "es-419"),
    "fr": ("fr", "fr-be", "fr-ch"),
    "pt": ("pt", "pt-br"),
}  # fmt: skip
"""espeak's voices of a language, where its name is not the language's tag alone."""

# espeak speaks at 22,050 Hz. Small ratios make a cheap filter; 8/11 is 0.2 % off the true ratio, which nobody hears.
# The warps move pitch and formants together by -9 to +16 %.
WARPS = {
    "train": (Fraction(8, 11), Fraction(3, 4), Fraction(7, 9), Fraction(5, 7), Fraction(2, 3), Fraction(5, 8)),
    "dev": (Fraction(7, 10),),
    "test": (Fraction(9, 13), Fraction(10, 13)),
}


@dataclass(frozen=True)
class Voice:
    """A synthetic speaker."""

    accent: str
    """espeak's name: `hi`, `en-gb-scotland`, ..."""
    variant: str
    """espeak's variant: `m3`, `klatt2`, ... or nothing."""
    warp: Fraction
    """16 kHz samples per sample of espeak's."""
    pitch: int
    """0 to 99; 50 is the variant's own."""
    pitch_range: int
    """0 (monotone) to 99."""

    @property
    def speaker(self) -> str:
        """Name in the manifest: what tells two voices apart, without the pitch, which one speaker moves too."""
        return f"espeak:{self.accent}+{self.variant or 'plain'}@{self.warp.numerator}-{self.warp.denominator}"


@dataclass(frozen=True)
class Manner:
    """How one sentence is spoken."""

    rate: int
    """Words per minute before the warp."""
    word_gap: int
    """Pause between words, in units of 10 ms."""


def draw_voice(rng: random.Random, language: str, split: str) -> Voice:
    """A voice of the split: variants and warps of one split occur in no other."""
    return Voice(
        accent=rng.choice(ACCENTS.get(language, (language,))),
        variant=rng.choice(VARIANTS[split]),
        warp=rng.choice(WARPS[split]),
        pitch=rng.randint(25, 75),
        pitch_range=rng.randint(25, 80),
    )


def draw_manner(rng: random.Random, kind: str = "") -> Manner:
    """People read digits one by one, with pauses, and recorded speech is slower than espeak's 175 words a minute."""
    gap = rng.choices((0, rng.randint(1, 4), rng.randint(5, 30)), weights=(1, 2, 4) if kind == "digits" else (6, 3, 1))[
        0
    ]
    return Manner(rate=round(rng.triangular(85, 240, 140)), word_gap=gap)


def library() -> tuple[ctypes.CDLL, str | None]:
    """libespeak-ng, from the system or from an unpacked root with everything it needs loaded first."""
    root = os.environ.get(ESPEAK_ROOT)
    if not root:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        return ctypes.CDLL(name), None
    found = sorted(path for path in Path(root).rglob("*.so*") if path.is_file() and not path.is_symlink())
    wanted = [path for path in found if not path.name.startswith("libespeak-ng")]
    while wanted:  # in the order of need: what fails now loads once its own needs are there
        left = []
        for path in wanted:
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                left.append(path)
        if len(left) == len(wanted):
            break
        wanted = left
    data = next(Path(root).rglob("espeak-ng-data/phontab"), None)
    library = next((path for path in found if path.name.startswith("libespeak-ng")), None)
    if data is None or library is None:
        raise DataError(
            f"no espeak-ng below {root}", valid=f"a folder made by training/carry_debs.sh in ${ESPEAK_ROOT}"
        )
    return ctypes.CDLL(str(library)), str(data.parent.parent)


class Espeak:
    """The library, started once per process."""

    def __init__(self) -> None:
        try:
            self._lib, data = library()
        except OSError as error:
            raise DataError(
                f"libespeak-ng cannot be loaded ({error})",
                valid="espeak-ng 1.50 or newer",
                remedy="sh training/install_speech.sh",
            ) from None
        self.rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode() if data else None, _DONT_EXIT)
        if self.rate <= 0:
            raise DataError(
                "espeak-ng finds no voices", valid="the package espeak-ng-data", remedy="sh training/install_speech.sh"
            )
        self._pieces: list[bytes] = []
        self._libc = ctypes.CDLL(None)
        self._callback = _CALLBACK(self._take)  # kept: ctypes does not hold it

    def _take(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0

    def speak(self, text: str, voice: Voice, manner: Manner, seed: int = 0) -> np.ndarray:
        """float32 `[n]` at 16 kHz, silence at both ends cut off; empty when espeak says nothing."""
        name = f"{voice.accent}+{voice.variant}" if voice.variant else voice.accent
        if self._lib.espeak_SetVoiceByName(name.encode()):
            raise DataError(
                f"espeak-ng has no voice {name!r}",
                valid="a language of `espeak-ng --voices`, with a variant of `--voices=variant`",
            )
        self._lib.espeak_SetSynthCallback(self._callback)  # each time: the library has one, whoever uses it
        self._libc.srand(seed & 0x7FFFFFFF)
        for parameter, value in (
            (_RATE, manner.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
            (_WORD_GAP, manner.word_gap),
        ):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        data = text.encode()
        self._lib.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _CHARS_UTF8, None, None)
        samples = np.frombuffer(b"".join(self._pieces), np.int16).astype(np.float32) / 32768
        if self.rate != 22050:
            raise DataError(f"espeak-ng speaks at {self.rate} Hz", valid="22050 Hz (no mbrola voice)")
        if not samples.any():
            return np.zeros(0, np.float32)
        return trim(resample_poly(samples, voice.warp.numerator, voice.warp.denominator).astype(np.float32))


def trim(samples: np.ndarray, floor_db: float = -45.0, keep_s: float = 0.02) -> np.ndarray:
    """Cut silence (10 ms frames below the peak by `floor_db`) off both ends of float32 `[n]`, but for `keep_s`."""
    hop = SAMPLE_RATE // 100
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    if not len(frames):
        return samples
    level = np.abs(frames).max(1)
    loud = np.flatnonzero(level > level.max() * 10 ** (floor_db / 20))
    if not len(loud):
        return samples[:0]
    keep = int(keep_s * SAMPLE_RATE)
    return samples[max(0, loud[0] * hop - keep) : (loud[-1] + 1) * hop + keep]


def join(pieces: Sequence[np.ndarray], gaps_s: Sequence[float]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Pieces one after the other with pauses between them; the joined samples and each piece's start and end in s."""
    out, spans, position = [], [], 0
    for index, piece in enumerate(pieces):
        if index:
            gap: np.ndarray = np.zeros(int(gaps_s[index - 1] * SAMPLE_RATE), np.float32)
            out.append(gap)
            position += len(gap)
        out.append(piece)
        spans.append((position / SAMPLE_RATE, (position + len(piece)) / SAMPLE_RATE))
        position += len(piece)
    return np.concatenate(out), spans
