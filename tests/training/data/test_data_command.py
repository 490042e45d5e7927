"""`boli data` as a user calls it, through the console script."""

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import boli
from training.data.manifest import read_manifest

_spec = importlib.util.spec_from_file_location("corpora_on_disk", Path(__file__).with_name("corpora_on_disk.py"))
disk = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(disk)


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = boli.main(["data", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def manifest(tmp_path):
    """Two languages, 4 speakers each, one of them bilingual, 6 sentences of their own."""
    lines = []
    for lang, frequency in (("hi", 150), ("it", 400)):
        for speaker in range(4):
            for n in range(6):
                who = f"s{speaker}" if speaker == 0 else f"{lang}{speaker}"
                path = tmp_path / "c" / f"{lang}{speaker}{n}.wav"
                disk.clip(path, 1.0 + n / 10, frequency + 20 * speaker)
                text = f"{lang} {speaker} {n}"
                lines.append({"path": f"c/{path.name}", "text": text, "lang": lang, "speaker": who, "id": path.stem})
    path = tmp_path / "all.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_help_is_instant():
    start = time.perf_counter()
    root = Path(boli.__file__).parent
    made = subprocess.run(
        [sys.executable, "boli.py", "data", "--help"], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert time.perf_counter() - start < 3
    for name in ("describe", "convert", "split", "mix", "codeswitch"):
        assert name in made.stdout


def test_the_whole_way(call, tmp_path, manifest):
    code, out, _ = call("describe", manifest)
    assert code == 0
    assert "(none)" in out

    code, out, err = call("convert", manifest, "--out", tmp_path / "clean", "--trim")
    assert (code, err) == (0, "")
    assert out.startswith("48 clips, 0.0")

    code, out, err = call(
        "split", tmp_path / "clean" / "manifest.jsonl", "--out", tmp_path / "sets", "--shares", "train=0.5,test=0.5"
    )
    assert code == 0
    assert "no speaker, text or file is in two subsets" in out

    sets = [tmp_path / "sets" / f"{name}.jsonl" for name in ("train", "test")]
    code, out, _ = call("describe", *sets, "--json")
    assert {p["subset"] for p in json.loads(out)["parts"]} == {"train", "test"}
    assert json.loads(out)["overlaps"] == []

    code, out, _ = call("mix", f"{sets[0]}=0.8", f"{sets[1]}=0.2", "--out", tmp_path / "mix.jsonl", "--window", 10)
    assert code == 0
    mixed = read_manifest(tmp_path / "mix.jsonl")
    assert "repeats" not in out
    for start in range(0, len(mixed) - 9, 10):
        assert sum(r.extra["mix"] == "train" for r in mixed[start : start + 10]) == 8

    code, out, err = call("codeswitch", sets[0], sets[1], "--out", tmp_path / "cs", "--clips", 2)
    assert code == 0
    assert len(read_manifest(tmp_path / "cs" / "manifest.jsonl")) == 16
    assert "rapid/same 2" in out


def test_leaks_are_shown(call, tmp_path, manifest):
    (tmp_path / "test.jsonl").write_text(manifest.read_text())
    code, out, _ = call("describe", manifest, tmp_path / "test.jsonl")
    assert code == 0
    assert "all and test share in hi: 4 speakers, 24 texts, 24 files" in out


def test_convert_of_a_release_names_what_is_missing(call, tmp_path):
    source = disk.common_voice(tmp_path)
    (source / "hi" / "clips" / "common_voice_hi_2.mp3").unlink()
    code, out, err = call("convert", source, "--out", tmp_path / "o")
    assert code == 0
    assert "4 clips" in out
    assert "read as common-voice" in out
    assert err.startswith("skipped 1 clips (missing clip 1):")
    assert "common_voice_hi_2.mp3" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("describe", "none.jsonl"), "Manifest none.jsonl does not exist"),
        (("convert", "none", "--out", "o"), "none does not exist. Valid: a corpus folder, a manifest"),
        (("convert", "{m}", "--out", "{t}/o", "--layout", "cv"), "There is no layout 'cv'"),
        (("convert", "{m}", "--out", "{t}/o", "--max-s", "0.1"), "Durations from 0.2 to 0.1 s"),
        (("convert", "{m}", "--out", "{t}/o", "--max-s", "0.5"), "No clip could be used: too long (48)"),
        (("convert", "{m}", "--out", "{t}"), "is the corpus' own folder"),
        (("split", "{m}", "--out", "{t}/o", "--shares", "train=a"), "'--shares train=a' gives no number"),
        (("split", "{m}", "--out", "{t}/o", "--lang", "te"), "has no clip in te"),
        (("split", "{m}", "--out", "{t}/o", "--shares", "a=1,b=1,c=1,d=1,e=1"), "hi has 4 speakers, too few for 5"),
        (("mix", "{m}=1", "--out", "{t}/o.jsonl"), "There is one source to mix"),
        (("mix", "{m}", "--out", "{t}/o.jsonl"), "gives no number"),
        (("codeswitch", "{m}", "--out", "{t}/o", "--lang", "hi,te"), "no clip in te. Valid: hi (24 clips), it"),
        (("codeswitch", "{m}", "--out", "{t}/o", "--kinds", "slow"), "Kinds slow cannot be made"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(call, tmp_path, manifest, arguments, said):
    code, out, err = call(*(a.replace("{m}", str(manifest)).replace("{t}", str(tmp_path)) for a in arguments))
    assert code == 1
    assert said in err
    assert "Traceback" not in err + out


def test_layouts_are_listed(call):
    code, out, _ = call("layouts")
    assert code == 0
    assert "common-voice" in out


def test_read_only_folder(call, tmp_path, manifest):
    (tmp_path / "file").write_text("")
    code, _, err = call("convert", manifest, "--out", tmp_path / "file" / "o")
    assert code == 1
    assert "Cannot write" in err
