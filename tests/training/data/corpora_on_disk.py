"""Corpora in their exact layouts, with short tones for clips."""

import io
import json
from pathlib import Path

import numpy as np
import soundfile

CV_COLUMNS = (
    "client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender",
    "accents", "variant", "locale", "segment",
)  # fmt: skip
CV_HEADER = "\t".join(CV_COLUMNS)
CV_OLD_HEADER = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
SUBTYPES = {".mp3": ("MP3", None), ".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".flac": ("FLAC", None)}


def tone(seconds=0.6, frequency=220.0, rate=16_000, channels=1):
    """float32 `[n]` or `[n, channels]`, a tone with harmonics and a slow beat."""
    time = np.arange(round(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in (1, 2, 3)) * 0.1
    wave = (wave * (0.7 + 0.3 * np.sin(2 * np.pi * 3 * time))).astype(np.float32)
    return wave if channels == 1 else np.stack([wave] * channels, axis=1)


def clip(path: Path, seconds=0.6, frequency=220.0, rate=16_000, channels=1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".m4a":
        _m4a(path, tone(seconds, frequency, rate), rate)
        return path
    container, subtype = SUBTYPES.get(path.suffix, ("WAV", "PCM_16"))
    soundfile.write(path, tone(seconds, frequency, rate, channels), rate, format=container, subtype=subtype)
    return path


def clip_bytes(seconds=0.6, format="FLAC") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(seconds), 16_000, format=format)
    return buffer.getvalue()


def _m4a(path: Path, wave: np.ndarray, rate: int) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        for start in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def common_voice(root: Path, header: str = CV_HEADER) -> Path:
    """A release with one locale: 3 train, 1 dev, 1 test clips, 48 and 32 kHz mp3."""
    folder = root / "cv-corpus-17.0-2024-03-15" / "hi"
    columns = header.split("\t")
    durations = ["clip\tduration[ms]"]
    for table, numbers in {"train": (1, 2, 3), "dev": (4,), "test": (5,), "validated": (1, 2, 3, 4, 5)}.items():
        lines = [header]
        for n in numbers:
            name = f"common_voice_hi_{n}.mp3"
            clip(folder / "clips" / name, 0.5 + n / 10, rate=48_000 if n % 2 else 32_000)
            values = {
                "client_id": f"{n % 3}" * 128, "path": name, "sentence": f'वाक्य "{n}', "gender": "female_feminine",
                "locale": "hi", "up_votes": "2", "down_votes": "0", "sentence_id": "ab",
            }  # fmt: skip
            lines.append("\t".join(values.get(column, "") for column in columns))
            if table == "validated":
                durations.append(f"{name}\t{500 + n * 100}")
        (folder / f"{table}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "clip_durations.tsv").write_text("\n".join(durations) + "\n")
    return folder.parent


def mls(root: Path, suffix: str = ".flac") -> Path:
    folder = root / ("mls_italian" + ("_opus" if suffix == ".opus" else ""))
    for split, handles in {"train": ("12_34_000000", "12_34_000001", "56_78_000000"), "dev": ("9_1_000000",)}.items():
        for handle in handles:
            speaker, book, _ = handle.split("_")
            clip(folder / split / "audio" / speaker / book / (handle + suffix), 0.8)
        (folder / split / "transcripts.txt").write_text("".join(f"{h}\tciao da {h[:2]}\n" for h in handles))
        (folder / split / "segments.txt").write_text("".join(f"{h}\thttp://x/y.mp3\t10.0\t10.8\n" for h in handles))
    limited = folder / "train" / "limited_supervision" / "9hr"
    limited.mkdir(parents=True)
    (limited / "handles.txt").write_text("56_78_000000\n")
    return folder


def kathbath(root: Path, suffix: str = ".m4a") -> Path:
    folder = root / "kb_data_clean_m4a"
    for language, text in (("punjabi", "ਸਤ ਸ੍ਰੀ ਅਕਾਲ"), ("telugu", "నమస్కారం")):
        for split in ("train", "valid"):
            names = [f"84442493153{n}-{500 + n}-{'fm'[n % 2]}" for n in (1, 2)]
            for name in names:
                clip(folder / language / split / "audio" / (name + suffix))
            lines = "".join(f"{name}.m4a\t{text}\u00a0{i}\n" for i, name in enumerate(names))
            (folder / language / split / "transcription_n2w.txt").write_text(lines, encoding="utf-8")
    return folder


def indicvoices(root: Path) -> Path:
    folder = root / "indicvoices" / "Hindi" / "v1" / "train"
    clip(folder / "0a1b.wav", 4.0)
    sentences = [
        {"start": 0.2, "end": 1.4, "text": "पहला वाक्य", "speaker_id": 0},
        {"start": 1.5, "end": 2.0, "text": "प्रश्न", "speaker_id": 1},
        {"start": 2.2, "end": 3.9, "text": "दूसरा वाक्य", "speaker_id": 0},
        {"start": 3.9, "end": 3.9, "text": "कुछ नहीं", "speaker_id": 0},
    ]
    recording = {
        "verbatim": sentences, "normalized": sentences, "speaker_id": "S42", "scenario": "Extempore",
        "task_name": "Fish", "gender": "Male",
    }  # fmt: skip
    (folder / "0a1b.json").write_text(json.dumps(recording, ensure_ascii=False), encoding="utf-8")
    return root / "indicvoices"


def shrutilipi(root: Path) -> Path:
    folder = root / "newsonair_v5" / "hindi"
    for bulletin in ("Bhopal-Hindi-0705-20200101", "Delhi-Hindi-1820-20200102"):
        for n in (1, 2):
            clip(folder / bulletin / f"sent_{n}.wav", 0.7)
            (folder / bulletin / f"sent_{n}.txt").write_text(f"समाचार {n}\n", encoding="utf-8")
    return folder.parent


def vistaar(root: Path) -> Path:
    """Manifests with the absolute paths of another machine."""
    folder = root / "vistaar_benchmarks"
    for corpus in ("kathbath", "fleurs"):
        lines = []
        for n in (1, 2):
            clip(folder / corpus / "telugu" / "wavs" / f"{n}.wav")
            far = f"/nlsasfs/home/ai4bharat/benchmarks/{corpus}/telugu/wavs/{n}.wav"
            lines.append(json.dumps({"audio_filepath": far, "duration": 0.6, "text": f"నమస్తే {n}"}, ensure_ascii=False))
        (folder / corpus / "telugu" / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def fleurs(root: Path, audio: str = "audio/{split}") -> Path:
    folder = root / "fleurs" / "pa_in"
    for split in ("train", "dev", "test"):
        lines = []
        for n in (1, 2):
            clip(folder / audio.format(split=split) / f"1{n}{split}.wav", 0.6)
            row = (100 + n, f"1{n}{split}.wav", f"ਵਾਕ {n}।", f"ਵਾਕ {n}", "ਵ ਾ ਕ |", 9600, "FEMALE")
            lines.append("\t".join(map(str, row)))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "fleurs"


def parquet(path: Path, columns: dict) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def cells(*names, seconds=0.6) -> list[dict]:
    """Audio cells as `datasets` writes them."""
    return [{"bytes": clip_bytes(seconds), "path": name} for name in names]
