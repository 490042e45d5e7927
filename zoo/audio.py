"""Decodes anything to mono float32 at 16 kHz.

libsndfile reads wav, flac, ogg (Vorbis, Opus) and mp3; FFmpeg's libraries (PyAV) read the rest (m4a, webm, video
files). Resampling is soxr's. Long files are read block by block, so memory need not grow with the file.
"""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.errors import AudioError
from zoo.speech import SAMPLE_RATE

READABLE = "wav, flac, ogg/opus, mp3, m4a, webm and what else FFmpeg reads"
BLOCK_S = 30.0  # seconds read at a time
_SNDFILE_EXTENSIONS = {
    ".wav",
    ".flac",
    ".ogg",
    ".opus",
    ".mp3",
    ".oga",
    ".aiff",
    ".aif",
    ".w64",
    ".rf64",
    ".au",
    ".caf",
}

Source = str | os.PathLike | bytes | IO[bytes]


def decode(source: Source, name: str = "") -> np.ndarray:
    """All of `source` as float32 `[n_samples]`, mono, 16 kHz.

    source: a path, the bytes of a file, or an open binary file. Raises AudioError when it is missing, empty, a
    folder, no audio, cut off, or holds NaN.
    """
    blocks = list(stream(source, name=name))
    return np.concatenate(blocks) if len(blocks) > 1 else blocks[0]


def from_array(samples: Any, rate: int | None, name: str = "array") -> np.ndarray:
    """An array or tensor as float32 `[n_samples]`, mono, 16 kHz.

    samples: `[n]`, `[n, channels]` or `[channels, n]`, float in -1..1 or signed integers (scaled by their type).
    rate: its sample rate in Hz; None means 16 kHz.
    """
    if hasattr(samples, "numpy"):
        samples = samples.detach().cpu().numpy()
    array = np.asarray(samples)
    if array.dtype == object or array.dtype.kind not in "fiu":
        raise AudioError(f"{name} has values of type {array.dtype}", valid="floats in -1..1 or integers")
    if array.dtype.kind == "i":
        array = array.astype(np.float32) / float(-np.iinfo(array.dtype).min)
    elif array.dtype.kind == "u":
        half = (np.iinfo(array.dtype).max + 1) / 2
        array = (array.astype(np.float32) - half) / half
    if array.ndim == 2:
        array = array.mean(axis=0 if array.shape[0] < array.shape[1] else 1)
    if array.ndim != 1:
        raise AudioError(f"{name} has shape {np.shape(samples)}", valid="[n_samples] or [n_samples, channels]")
    rate = SAMPLE_RATE if rate is None else int(rate)
    if not 1_000 <= rate <= 768_000:
        raise AudioError(f"{name} has a sample rate of {rate} Hz", valid="1,000 to 768,000 Hz")
    array = array.astype(np.float32, copy=False)
    if rate != SAMPLE_RATE:
        import soxr

        array = soxr.resample(array, rate, SAMPLE_RATE, quality="HQ")
    return _checked(np.ascontiguousarray(array, dtype=np.float32), name)


def probe(source: Source, name: str = "") -> float:
    """Duration in seconds, from the header where it says so, else by reading the file."""
    import soundfile

    handle, name = _opened(source, name)
    try:
        try:
            info = soundfile.info(handle)
            if 0 < info.frames < 2**62:
                return info.frames / info.samplerate
        except (soundfile.LibsndfileError, RuntimeError):
            pass
        handle.seek(0)
        return sum(len(block) for block in _blocks(handle, name)) / SAMPLE_RATE
    finally:
        if handle is not source:
            handle.close()


def stream(source: Source, block_s: float = BLOCK_S, name: str = "") -> Iterator[np.ndarray]:
    """`source` block by block: float32 `[n_samples]` of about `block_s` seconds each, mono, 16 kHz."""
    handle, name = _opened(source, name)
    try:
        any_samples = False
        for block in _blocks(handle, name, block_s):
            if len(block):
                any_samples = True
                yield _checked(block, name)
        if not any_samples:
            raise AudioError(f"{name} holds no samples", valid="at least one sample of audio", remedy=f"ffprobe {name}")
    finally:
        if handle is not source:
            handle.close()


def joined(blocks: Iterable[Any], rate: int | None, name: str = "blocks") -> Iterator[np.ndarray]:
    """The blocks of one recording as they come, each float32 `[n_samples]`, mono, 16 kHz; resampled so that they join.

    blocks: arrays or tensors as for `from_array`; rate: their sample rate in Hz; None means 16 kHz. A block may be empty.
    """
    rate = SAMPLE_RATE if rate is None else int(rate)
    if not 1_000 <= rate <= 768_000:
        raise AudioError(f"{name} have a sample rate of {rate} Hz", valid="1,000 to 768,000 Hz")
    resample = _Resampler(rate)
    for block in blocks:
        if len(block):
            yield resample(from_array(block, None, name), False)
    yield resample(np.zeros(0, np.float32), True)


def _opened(source: Source, name: str) -> tuple[IO[bytes], str]:
    if isinstance(source, bytes | bytearray | memoryview):
        name = name or f"{len(source)} bytes"
        if len(source) == 0:
            raise AudioError(f"{name}: there is nothing in it", valid=READABLE)
        return io.BytesIO(source), name
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        name = name or str(path)
        if path.is_dir():
            raise AudioError(
                f"{name} is a folder", valid="an audio file", remedy=f"boli transcribe {name}  (it takes folders)"
            )
        try:
            if path.is_file() and path.stat().st_size == 0:
                raise AudioError(
                    f"{name} is an empty file (0 bytes)", valid=READABLE, remedy="record or download it again"
                )
            return path.open("rb"), name
        except FileNotFoundError:
            raise AudioError(
                f"{name} does not exist", valid="the path of an audio file", remedy=f"ls {path.parent}"
            ) from None
        except OSError as error:
            raise AudioError(f"{name} cannot be opened: {error.strerror}", remedy=f"ls -l {name}") from None
    if hasattr(source, "read") and hasattr(source, "seek"):
        return source, name or str(getattr(source, "name", "open file"))
    raise AudioError(
        f"{name or 'the input'} is a {type(source).__name__}",
        valid="a path, bytes, an open binary file, an array or a tensor",
    )


def _blocks(handle: IO[bytes], name: str, block_s: float = BLOCK_S) -> Iterator[np.ndarray]:
    """Blocks of either reader. A file that libsndfile does not know is FFmpeg's; one that neither knows is refused."""
    import soundfile

    try:
        file = soundfile.SoundFile(handle)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as sndfile_error:
        handle.seek(0)
        yield from _ffmpeg_blocks(handle, name, block_s, sndfile_error)
        return
    with file:
        resample = _Resampler(file.samplerate)
        frames = max(1, int(block_s * file.samplerate))
        read = 0
        while True:
            try:
                block = file.read(frames, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise AudioError(
                    f"{name} is damaged after {read / file.samplerate:.1f} s: {error}",
                    remedy=f"ffmpeg -i {name} repaired.wav",
                ) from None
            read += len(block)
            last = len(block) < frames
            yield resample(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0], last)
            if last:
                break
        if file.format != "MP3" and 0 < file.frames < 2**62 and read < file.frames:
            missing = (file.frames - read) / file.samplerate
            raise AudioError(
                f"{name} is cut off: its header promises {missing:.1f} s more", remedy=f"ffmpeg -i {name} repaired.wav"
            )


def _ffmpeg_blocks(handle: IO[bytes], name: str, block_s: float, sndfile_error: Exception) -> Iterator[np.ndarray]:
    import av
    from av.error import FFmpegError

    refusal = AudioError(
        f"{name} is not audio that can be read ({str(sndfile_error).rstrip('.')})",
        valid=READABLE,
        remedy=f"file {name}",
    )
    try:
        container = av.open(handle, mode="r", metadata_errors="ignore")
    except (FFmpegError, ValueError, OSError):
        raise refusal from None
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name} has no audio track", valid=READABLE)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
        parts: list[np.ndarray] = []
        held = 0
        try:
            for frame in container.decode(audio=0):
                for out in resampler.resample(frame):
                    parts.append(out.to_ndarray()[0])
                    held += len(parts[-1])
                if held >= block_s * SAMPLE_RATE:
                    yield np.concatenate(parts)
                    parts, held = [], 0
            for out in resampler.resample(None):
                parts.append(out.to_ndarray()[0])
        except FFmpegError as error:
            raise AudioError(
                f"{name} is damaged: {error.strerror or error}", remedy=f"ffmpeg -i {name} repaired.wav"
            ) from None
        if parts:
            yield np.concatenate(parts)


class _Resampler:
    """Streaming soxr, so that blocks join without a click; passes 16 kHz through."""

    def __init__(self, rate: int):
        self._stream = None
        if rate != SAMPLE_RATE:
            import soxr

            self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")

    def __call__(self, block: np.ndarray, last: bool) -> np.ndarray:
        block = np.ascontiguousarray(block, dtype=np.float32)
        return block if self._stream is None else self._stream.resample_chunk(block, last=last)


def _checked(samples: np.ndarray, name: str) -> np.ndarray:
    if len(samples) == 0:
        raise AudioError(f"{name} holds no samples", valid="at least one sample of audio")
    if not np.isfinite(samples).all():
        bad = int((~np.isfinite(samples)).sum())
        raise AudioError(
            f"{name} holds {bad} samples that are NaN or infinite",
            valid="finite samples",
            remedy=f"ffmpeg -i {name} repaired.wav",
        )
    return samples
