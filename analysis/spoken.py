"""What espeak-ng says, phone by phone: pronunciations of words, and speech whose phones and words have exact times.

espeak-ng tells at which sample it begins each phone and each word while it speaks. Speech made here is therefore labelled
without an aligner and without its errors; it is synthetic, and what is found on it holds for synthetic speech.
"""

import ctypes
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from analysis.ipa import phone, split
from training.data.synthesis import ACCENTS, Manner, Voice, draw_manner, draw_voice, library
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

INSTALL = "sh training/install_speech.sh"
ESPEAK_RATE = 22_050
_SYNCHRONOUS, _DONT_EXIT, _PHONEMES, _AS_IPA = 2, 0x8000, 1, 2
_UTF8 = 1
_WORD, _END, _PHONEME = 1, 5, 7  # espeak_EVENT_TYPE
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7  # espeak_PARAMETER
_SEPARATED_IPA = ord("_") << 8 | 2


@dataclass(frozen=True)
class Timed:
    """A phone or a word and when it was said, in seconds from the clip's start."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Spoken:
    """A sentence that was spoken."""

    text: str
    language: str
    speaker: str
    audio: np.ndarray
    """float32 `[n]`, 16 kHz."""
    phones: tuple[Timed, ...]
    words: tuple[Timed, ...]
    """As they stand in the text; a number that espeak reads out as several words is left out."""


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
        ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p), ("id", _Id),
    ]  # fmt: skip


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@cache
def speaker() -> "Speaker":
    """The one of this process. Raises DataError where espeak-ng is missing."""
    return Speaker()


class Speaker:
    """libespeak-ng with its phoneme events on."""

    def __init__(self) -> None:
        try:
            self._lib, data = library()
        except OSError as error:
            raise DataError(
                f"libespeak-ng cannot be loaded ({error})", valid="espeak-ng 1.50 or newer", remedy=INSTALL
            ) from None
        self._data = data.encode() if data else None
        self._start()
        self._lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._libc = ctypes.CDLL(None)
        self._callback = _CALLBACK(self._take)  # kept: ctypes does not hold it
        self._pronounced: dict[tuple[str, str], tuple[str, ...]] = {}
        self._pieces: list[bytes] = []
        self._events: list[tuple[int, int, int, int, str]] = []

    def _start(self) -> None:
        """Turn the phoneme events on: the library has one set of switches, and the corpus maker's may be the last."""
        flags = _DONT_EXIT | _PHONEMES | _AS_IPA
        if self._lib.espeak_Initialize(_SYNCHRONOUS, 0, self._data, flags) != ESPEAK_RATE:
            raise DataError("espeak-ng finds no voices", valid="the package espeak-ng-data", remedy=INSTALL)

    @property
    def version(self) -> str:
        return self._lib.espeak_Info(None).decode()

    def _take(self, samples, count: int, events) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events and events[i].type:
            event = events[i]
            name = ""
            if event.type == _PHONEME:  # not through `string`: ctypes would cut at a byte it cannot decode
                raw = ctypes.string_at(ctypes.addressof(event) + _Event.id.offset, 8)
                name = raw.split(b"\0")[0].decode(errors="ignore")
            self._events.append((event.type, event.text_position, event.length, event.sample, name))
            i += 1
        return 0

    def _choose(self, name: str) -> None:
        if self._lib.espeak_SetVoiceByName(name.encode()):
            raise DataError(f"espeak-ng has no voice {name!r}", valid="a language of `espeak-ng --voices`")

    def speaks(self, language: str) -> bool:
        """Whether there is a voice for the language."""
        return not self._lib.espeak_SetVoiceByName(_voice_of(language).encode())

    def pronounce(self, word: str, language: str) -> tuple[str, ...]:
        """The phones of one word, said alone. Raises DataError for a language that espeak-ng does not speak."""
        if (word, language) not in self._pronounced:
            self._pronounced[word, language] = self._phones_of(word, language)
        return self._pronounced[word, language]

    def _phones_of(self, word: str, language: str) -> tuple[str, ...]:
        self._choose(_voice_of(language))
        text = ctypes.create_string_buffer(word.encode() + b"\0")
        pointer = ctypes.cast(text, ctypes.c_void_p)
        found: list[str] = []
        while pointer.value:
            clause = self._lib.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, _SEPARATED_IPA)
            found += split(clause.decode(errors="ignore"))
        return tuple(found)

    def speak(self, text: str, language: str, voice: Voice, manner: Manner, seed: int = 0) -> Spoken:
        """A sentence in a voice, and when each of its phones and words was said."""
        self._start()
        self._choose(f"{voice.accent}+{voice.variant}" if voice.variant else voice.accent)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._libc.srand(seed & 0x7FFFFFFF)
        settings = ((_RATE, manner.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range))
        for parameter, value in (*settings, (_WORD_GAP, manner.word_gap)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        self._events.clear()
        data = text.encode()
        self._lib.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
        samples = np.frombuffer(b"".join(self._pieces), np.int16).astype(np.float32) / 32768
        audio = _at_16_khz(samples, voice)
        scale = float(voice.warp) / SAMPLE_RATE  # seconds per sample of espeak's
        phones, words = _timed(self._events, text, len(samples), scale)
        return Spoken(text, language, voice.speaker, audio, phones, words)


def _voice_of(language: str) -> str:
    return ACCENTS.get(language, (language,))[0]


def _at_16_khz(samples: np.ndarray, voice: Voice) -> np.ndarray:
    from scipy.signal import resample_poly

    if not samples.any():
        return np.zeros(0, np.float32)
    return resample_poly(samples, voice.warp.numerator, voice.warp.denominator).astype(np.float32)


def _timed(events, text: str, length: int, scale: float) -> tuple[tuple[Timed, ...], tuple[Timed, ...]]:
    """Phones and words from espeak's events `(type, text position, length, sample, name)`: each lasts until the next
    event that begins something else."""
    marks = sorted((e for e in events if e[0] in (_WORD, _END, _PHONEME)), key=lambda event: event[3])
    ends = [mark[3] for mark in marks[1:]] + [length]
    phones = []
    for mark, end in zip(marks, ends, strict=True):
        if mark[0] == _PHONEME and end > mark[3] and phone(mark[4]) is not None:
            phones.append(Timed(mark[4].strip("ˈˌ"), mark[3] * scale, end * scale))
    starts = [mark for mark in marks if mark[0] == _WORD and mark[2] > 0]
    places = [mark[1] for mark in starts]
    words = []
    for mark in starts:
        inside = [p for p in phones if p.start_s >= mark[3] * scale]
        later = [other[3] for other in starts if other[3] > mark[3]]
        inside = [p for p in inside if not later or p.start_s < later[0] * scale]
        label = text[mark[1] - 1 : mark[1] - 1 + mark[2]]
        if inside and places.count(mark[1]) == 1 and label.strip():
            words.append(Timed(label, inside[0].start_s, inside[-1].end_s))
    return tuple(phones), tuple(words)


def speak_all(texts: Iterable[tuple[str, str]], *, voices: int = 1, seed: int = 0) -> list[Spoken]:
    """Each (text, language) in so many voices, none of which any training clip of boli has (`synthesis.VARIANTS`).

    Sentences that espeak-ng says nothing for are left out. All follows from the texts and the seed: espeak-ng carries
    some of its state from one sentence to the next, sometimes swallowing a word, so all of them are said by a fresh
    process. Raises DataError where it cannot.
    """
    return list(_speak_all(tuple(texts), voices, seed))


@lru_cache(maxsize=32)
def _speak_all(texts: tuple[tuple[str, str], ...], voices: int, seed: int) -> tuple[Spoken, ...]:
    speaker()  # says what is missing, if anything is
    command = [sys.executable, "-c", "from analysis.spoken import _answer; _answer()"]
    paths = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, input=pickle.dumps((texts, voices, seed)), capture_output=True, env=environment)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise DataError(said[-1].removeprefix("zoo.errors.DataError: "))
    return pickle.loads(done.stdout)


def _answer() -> None:
    """What the fresh process does: a request from standard input, its answer to standard output."""
    texts, voices, seed = pickle.load(sys.stdin.buffer)
    pickle.dump(_speak_here(texts, voices, seed), sys.stdout.buffer)


def _speak_here(texts: Iterable[tuple[str, str]], voices: int, seed: int) -> tuple[Spoken, ...]:
    espeak = speaker()
    spoken = []
    for number, (text, language) in enumerate(texts):
        rng = random.Random(f"{seed}:{number}:{language}:{text}")
        for _ in range(voices):
            voice, manner = draw_voice(rng, language, "test"), draw_manner(rng)
            made = espeak.speak(text, language, voice, manner, rng.randrange(2**31))
            if len(made.audio) and made.phones:
                spoken.append(made)
    return tuple(spoken)
