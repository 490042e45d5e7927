"""The one command that makes the embedded model's corpus, at a thousandth of its size."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from training.data.embedded import main
from training.data.manifest import read_manifest
from training.data.prompts_human import read_human
from training.data.synthesis_plan import TARGETS
from training.data.templates_numbers import DIGITS
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _espeak_is_there():
    command = [sys.executable, "-c", "from training.data.synthesis import Espeak; Espeak()"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("libespeak-ng is not installed: sh training/install_speech.sh")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Texts of one paragraph list, and recordings of two corpora that are split by speaker and by text."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text").mkdir()
    lines = [
        f"Everyone has the right to article number {word} of this small declaration" for word in "abcdefghijklmnopqrst"
    ]
    (folder / "text" / "udhr.en.txt").write_text("\n".join(lines), "utf-8")
    rows, rng = [], np.random.default_rng(0)
    (folder / "speech").mkdir()
    for speaker in ("jackson", "theo"):
        for number in range(40):
            rows.append(("fsdd", "en", speaker, DIGITS["en"][number % 10], f"{speaker}{number}"))
    for speaker in ("2501", "2505"):
        for number in range(30):
            rows.append(
                (
                    "ohm_hi",
                    "hi",
                    speaker,
                    f"वाक्य {DIGITS['hi'][number % 10]} {DIGITS['hi'][number // 10]}",
                    f"h{speaker}{number}",
                )
            )
    manifest = []
    for source, language, speaker, text, name in rows:
        soundfile.write(folder / "speech" / f"{name}.wav", 0.1 * rng.standard_normal(12_000), SAMPLE_RATE)
        row = {
            "path": f"{name}.wav",
            "lang": language,
            "source": source,
            "speaker": f"{source}:{speaker}",
            "text": text,
        }
        manifest.append(json.dumps(row, ensure_ascii=False))
    (folder / "speech" / "manifest.jsonl").write_text("\n".join(manifest), "utf-8")
    return folder


def make(inputs, out, jobs):
    """In a process of its own: the library's state is the process's."""
    command = [sys.executable, "-m", "training.data.embedded", "--out", out, "--text", inputs / "text"]
    command += ["--speech", inputs / "speech", "--scale", "0.001", "--jobs", str(jobs)]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


@pytest.fixture(scope="module")
def corpus(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    result = make(inputs, out, 2)
    assert result.returncode == 0, result.stderr
    assert "base_train.jsonl: " in result.stdout
    return out


def test_every_manifest_reads_and_every_clip_is_what_its_row_says(corpus):
    for path in sorted(corpus.glob("*.jsonl")):
        records = read_manifest(path, allow_empty_text=True)
        assert records
        for record in records:
            info = soundfile.info(record.path)
            assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
            assert abs(info.duration - record.duration) < 0.01
            assert record.extra["text_id"]
            assert record.extra["synthetic"] is (record.corpus == "espeak")


def test_no_text_and_no_voice_of_a_test_set_is_trained_on(corpus):
    for language in TARGETS:
        sets = {split: read_manifest(corpus / f"{language}_{split}.jsonl") for split in ("train", "dev", "test")}
        for split in ("dev", "test"):
            assert not {r.speaker for r in sets["train"]} & {r.speaker for r in sets[split]}
        trained = {r.text for r in sets["train"]}
        assert not trained & {r.text for r in sets["test"] if r.subset != "digits"}
        assert all(r.lang == language for records in sets.values() for r in records)


def test_recordings_keep_speakers_and_texts_apart(corpus):
    sets = {split: read_manifest(corpus / f"human_hi_{split}.jsonl") for split in ("train", "test", "known_speaker")}
    assert {r.speaker for r in sets["test"]} == {"ohm_hi:2505"}
    assert {r.speaker for r in sets["train"]} == {"ohm_hi:2501"}
    assert {r.text for r in sets["test"]} == {r.text for r in sets["known_speaker"]}
    assert not {r.text for r in sets["train"]} & {r.text for r in sets["test"]}
    assert {r.speaker for r in read_manifest(corpus / "human_en_test.jsonl")} == {"fsdd:theo"}
    joined = [r for r in read_manifest(corpus / "human_en_train.jsonl") if r.subset == "fsdd_joined"]
    assert joined
    assert {r.speaker for r in joined} == {"fsdd:jackson"}


def test_switched_clips_say_where_each_language_lies(corpus):
    for record in read_manifest(corpus / "switch_test.jsonl"):
        assert 2 <= len(record.segments) <= 4
        assert all(
            a.end <= b.start and a.lang != b.lang for a, b in zip(record.segments, record.segments[1:], strict=False)
        )
        assert record.segments[-1].end <= record.duration
        assert " ".join(segment.text for segment in record.segments) == record.text


def test_the_language_set_calls_everything_else_unknown(corpus):
    rows = [json.loads(line) for line in (corpus / "lid_test.jsonl").read_text("utf-8").splitlines()]
    assert {row["label"] for row in rows} == {*TARGETS, "unknown"}
    assert all((row["label"] == row["lang"]) == (row["lang"] in TARGETS) for row in rows)


def test_the_number_of_jobs_changes_nothing(inputs, corpus, tmp_path):
    assert make(inputs, tmp_path, 1).returncode == 0
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [path for path in files if (corpus / path).read_bytes() != (tmp_path / path).read_bytes()] == []


def test_what_was_stopped_goes_on_and_what_was_made_of_other_inputs_does_not(inputs, corpus, tmp_path):
    """Finished chunks are not spoken again; the corpus that comes out is the same."""
    stopped = shutil.copytree(corpus, tmp_path / "stopped")
    for path in [*stopped.glob("*.jsonl"), *(stopped / "chunks").glob("base_*.jsonl")]:
        path.unlink()
    kept = next((stopped / "train" / "hi").glob("*.wav"))
    kept.write_bytes(b"not spoken again")
    shutil.rmtree(stopped / "train" / "base")
    assert make(inputs, stopped, 1).returncode == 0
    assert kept.read_bytes() == b"not spoken again"
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(stopped) for path in stopped.rglob("*") if path.is_file())
    differ = [path for path in files if (corpus / path).read_bytes() != (stopped / path).read_bytes()]
    assert differ == [kept.relative_to(stopped)]
    other = shutil.copytree(inputs, tmp_path / "inputs")
    with open(other / "text" / "udhr.en.txt", "a", encoding="utf-8") as file:
        file.write("\nNobody shall be made to wait for what was made before")
    assert make(other, stopped, 2).returncode == 0
    assert kept.read_bytes() != b"not spoken again"


def test_errors_name_the_option_that_mends_them(inputs, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), "--text", str(tmp_path)]) == 1
    assert "--text" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"no manifest\.jsonl in"):
        read_human(tmp_path)
    (tmp_path / "manifest.jsonl").write_text('{"path": "a.wav", "lang": "hi"}\n')
    with pytest.raises(DataError, match="line 1 lacks source, speaker, text"):
        read_human(tmp_path)


def test_help_needs_no_model_library():
    code = "import sys, training.data.embedded; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "librosa", "av", "typer"} & set(result.stdout.split())
