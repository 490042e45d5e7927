"""Texts of packages, read aloud by espeak-ng."""

import json
import shutil
import struct

import pytest
import soundfile

from training.data import reading, reading_packages
from training.data.manifest import read_manifest
from training.data.prompts import read_training
from training.data.synthesis import Espeak
from zoo.errors import BoliError
from zoo.speech import SAMPLE_RATE

GLOSS = '00401639 04 n 01 renewal 0 001 @ 002 n 0000 | the act of making new again; "she spoke of renewal, twice"  '


def catalogue(messages):
    """A gettext catalogue (.mo): magic, version, count, two tables of (length, offset), strings."""
    ids, texts = [key.encode() for key in messages], [text.encode() for text in messages.values()]
    offset = 28 + 16 * len(ids)
    tables, strings = b"", b""
    for each in (*ids, *texts):
        tables += struct.pack("<II", len(each), offset + len(strings))
        strings += each + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, len(ids), 28, 28 + 8 * len(ids), 0, 0) + tables + strings


@pytest.fixture
def root(tmp_path):
    """Packages as they lie when they are unpacked, a text or two of each."""
    files = {
        "usr/share/wordnet/data.noun": f"  1 licence\n{GLOSS}\n".encode(),
        "usr/share/games/fortunes/wisdom": b"All that glitters is not gold.\n\t\t-- A Person\n%\nLook before\nyou leap.\n",
        "usr/share/games/fortunes/wisdom.dat": b"\0\0",
        "usr/share/games/fortunes/ascii-art": b"(o_o) (o_o) (o_o)\n",
        "usr/share/games/fortunes/it/saggi": "La verità è figlia del tempo.\n%\n".encode("latin-1"),
        "usr/share/games/fortunes/de/zitate": "Übung macht den Meister.\n%\n".encode(),
        "usr/share/games/fortunes/es/refranes.fortunes": b"El tiempo es oro.\n%\n",
        "usr/share/libreoffice/help/it/text/a.html": b"<p id='x'>Fate <b>clic</b> sull&#39;icona.</p><div>menu</div>",
        "usr/share/libreoffice/help/hi/text/a.html": "<p>चार्ट का शीर्षक बदलें</p>".encode(),
    }
    for language, text in {"hi": "~फ़ाइल खोलें %1", "pa_IN": "_ਫਾਇਲ ਖੋਲ੍ਹੋ", "te": "పత్రమును తెరుచు"}.items():
        path = f"usr/lib/libreoffice/program/resource/{language}/LC_MESSAGES/sw.mo"
        files[path] = catalogue({"": "Content-Type: text/plain; charset=UTF-8\n", "open": text})
    for name, data in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "root"


def test_texts_of_packages(root, tmp_path):
    assert reading_packages.main(["--root", str(root), "--out", str(tmp_path / "out")]) == 0
    found = {path.stem: path.read_text("utf-8").splitlines() for path in (tmp_path / "out").iterdir()}
    assert found == {
        "en": ["the act of making new again", "she spoke of renewal, twice", "All that glitters is not gold.", "Look before you leap."],
        "it": ["La verità è figlia del tempo.", "Fate clic sull'icona."],
        "de": ["Übung macht den Meister."],
        "es": ["El tiempo es oro."],
        "hi": ["चार्ट का शीर्षक बदलें", "फ़ाइल खोलें"],
        "pa": ["ਫਾਇਲ ਖੋਲ੍ਹੋ"],
        "te": ["పత్రమును తెరుచు"],
    }  # fmt: skip


def test_a_package_that_is_missing_is_named(root, tmp_path, capsys):
    shutil.rmtree(root / "usr/lib/libreoffice/program/resource/te")
    assert reading_packages.main(["--root", str(root), "--out", str(tmp_path / "out")]) == 1
    assert "no texts of te" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_clauses_are_cut_at_stops_and_only_trained_on(tmp_path):
    """What has digits, letters of other scripts or a single word is left out."""
    path = tmp_path / "hi.txt"
    path.write_text("चार्ट बदलें, फ़ाइल खोलें। अकेला; 3 बार दबाएँ (Word दबाएँ)\n", "utf-8")
    assert read_training(path, "hi").clauses == {"train": (("चार्ट", "बदलें"), ("फ़ाइल", "खोलें")), "dev": (), "test": ()}


def test_half_is_read_from_the_texts_and_nothing_a_test_clip_says(tmp_path, capsys):
    try:
        Espeak()
    except BoliError:
        pytest.skip("espeak-ng is not installed: sh training/install_speech.sh")
    texts, read, out = tmp_path / "text", tmp_path / "reading", tmp_path / "out"
    texts.mkdir(), read.mkdir(), out.mkdir()
    words = {"hi": "काम करो", "pa": "ਕੰਮ ਕਰੋ", "te": "పని చేయు"}
    for language in reading.CLIPS:
        said = words.get(language, "bonum est verum")
        (texts / f"udhr.{language}.txt").write_text("\n".join([said] * 20), "utf-8")
        (read / f"{language}.txt").write_text("all is well\n" if language == "en" else f"{said} {said}\n", "utf-8")
    started = ["--out", str(out), "--text", str(texts), "--reading", str(read), "--scale", "0.002", "--jobs", "1"]
    assert reading.main(started) == 0
    records = read_manifest(out / "reading_en_train.jsonl")
    kinds = [record.subset for record in records]
    assert len(records) == 72
    assert 0.3 < kinds.count("reading") / 72 < 0.75
    for record in records[:5]:
        samples, rate = soundfile.read(record.path)
        assert rate == SAMPLE_RATE
        assert len(samples) / rate == pytest.approx(record.duration, abs=1e-3)
    before = (out / "reading_te_train.jsonl").read_bytes()
    tested = next(record for record in records if record.subset == "reading")
    rows = [json.loads(line) for line in (out / "reading_en_train.jsonl").read_text("utf-8").splitlines()]
    same = [row for row in rows if row["text"] == tested.text]
    (out / "en_test.jsonl").write_text(json.dumps({"text_id": same[0]["text_id"]}) + "\n", "utf-8")
    assert reading.main([*started[:-1], "2"]) == 0
    assert (out / "reading_te_train.jsonl").read_bytes() == before
    assert tested.text not in {record.text for record in read_manifest(out / "reading_en_train.jsonl")}
    capsys.readouterr()
