"""`boli evaluate` on the trained debug model: what it prints and what it writes."""

import json

import numpy as np
import pytest
import soundfile

import boli
from tests import toy
from tests.toy_router import name_toy


@pytest.fixture
def manifest(tmp_path):
    """40 toy clips in five languages, a clip that cannot be read and one that switches language."""
    lines = []
    for n, (utterance, text, language) in enumerate(toy.clips(40, ("en", "hi", "it", "pa", "te"), seed=91)):
        soundfile.write(tmp_path / f"{n}.wav", utterance.audio, 16_000, subtype="PCM_16")
        kind = "human" if language == "hi" else "tts"
        lines.append(
            {"path": f"{n}.wav", "text": text, "lang": language, "kind": kind, "source": kind, "subset": "test"}
        )
    (tmp_path / "bad.wav").write_text("no audio")
    lines.append({"path": "bad.wav", "text": "x", "lang": "hi", "subset": "test"})
    soundfile.write(tmp_path / "both.wav", np.zeros(16_000), 16_000)
    segments = [{"start": 0, "end": 0.5, "lang": "hi"}, {"start": 0.5, "end": 1, "lang": "te"}]
    lines.append({"path": "both.wav", "text": "x y", "lang": "hi", "segments": segments, "subset": "test"})
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_routing_is_measured_against_oracle_and_base(toy_folder, toy_store, manifest, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    out = tmp_path / "out" / "routing.json"
    policies = "hard,soft,threshold,hierarchical"
    command = f"evaluate routing --manifest {manifest} --subset test --model toy --store {toy_store} "
    command += f"--policies {policies} --full hi={toy_folder} --latency-clips 4 --bootstrap 50 --json {out}"
    assert boli.main([*command.split(), "--tables", str(tmp_path / "tables")]) == 0
    printed = capsys.readouterr()
    assert "1 clips skipped" in printed.err
    assert "1 clips switch language" in printed.err
    for words in ("Error rates", "Routing accuracy", "Spoken (down)", "Milliseconds a clip", "Parameters: base"):
        assert words in printed.out
    content = json.loads(out.read_text())
    assert content["test_set"]["clips"] == 40
    assert len(content["test_set"]["hash"]) == 16
    assert set(content["adapters"]) == {"hi", "te"}
    found = content["measurements"]

    def one(measure, system, language="", normaliser="", **conditions):
        chosen = [
            m
            for m in found
            if (m["measure"], m["system"], m["language"], m["normaliser"]) == (measure, system, language, normaliser)
            and conditions.items() <= m["conditions"].items()
        ]
        assert len(chosen) == 1, (measure, system, language, chosen)
        return chosen[0]

    base, oracle = (one("cer", name, "hi", "raw") for name in ("base", "oracle"))
    assert oracle["value"] < base["value"]
    assert base["key"] == oracle["key"] == one("cer", "routed", "hi", "raw", policy="hard")["key"]
    assert base["speech"] == "human"
    assert one("cer", "full", "hi", "raw")["value"] == pytest.approx(base["value"]), "it is the base's own folder"
    accuracies = [m for m in found if m["measure"] == "routing_accuracy" and m["conditions"] == {"policy": "hard"}]
    assert {m["language"] for m in accuracies} == {"", "en", "hi", "it", "pa", "te"}
    assert {m["conditions"]["corpus"] for m in found if m["measure"] == "corpus_routing_accuracy"} == {"human", "tts"}
    assert {m["conditions"].get("of") for m in found if m["measure"] == "detection_accuracy"} >= {"human", "synthetic"}
    confusion = content["confusion"]["routed hard"]
    right = sum(row.get(spoken, 0) for spoken, row in confusion.items())
    assert right / 40 == pytest.approx(next(m["value"] for m in accuracies if m["language"] == ""))
    assert one("latency_total_p95_s", "routed", policy="soft")["count"] >= 4
    assert content["sizes"]["parameters_adapters"] > 0
    assert (tmp_path / "tables" / "routed_hard" / "predictions_hi.csv").is_file()


def test_adapters_are_measured_against_the_base(toy_folder, toy_store, manifest, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    out = tmp_path / "adapters.json"
    command = f"evaluate adapters -m {manifest} --model toy --store {toy_store} --bootstrap 50 --json {out}"
    assert boli.main(command.split()) == 0
    printed = capsys.readouterr().out
    assert "adapter hi:r8:default" in printed
    found = json.loads(out.read_text())["measurements"]
    wers = {(m["system"], m["language"]): m for m in found if m["measure"] == "wer" and m["normaliser"] == "indic"}
    assert wers["adapter", "te"]["value"] < wers["base", "te"]["value"]
    assert wers["adapter", "te"]["conditions"]["rank"] == 8
    assert boli.main(["evaluate", "criteria", str(out)]) in (0, 1)
    assert "WER Telugu" in capsys.readouterr().out


def test_what_cannot_be_measured_says_so(toy_folder, toy_store, manifest, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    start = f"evaluate routing -m {manifest} --model toy --store {toy_store}".split()
    assert boli.main([*start, "--policies", "best"]) == 1
    assert "Valid: hard, soft, threshold, hierarchical" in capsys.readouterr().err
    assert boli.main([*start, "--subset", "dev"]) == 1
    assert "no clip with subset 'dev'" in capsys.readouterr().err
    command = f"evaluate adapters -m {manifest} --model toy --store {toy_store} --languages it"
    assert boli.main(command.split()) == 1
    assert "no adapter serves any of these. Valid: hi, te" in capsys.readouterr().err


def test_the_page_is_made_of_a_corpus_folder_and_a_part_of_it_of_named_corpora(
    toy_folder, toy_store, tmp_path, monkeypatch, capsys
):
    name_toy(toy_folder, monkeypatch)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    sets = (("human_hi_test", "hi"), ("human_hi_known_speaker", "hi"), ("hi_test", "hi"), ("te_test", "te"))
    for seed, (name, spoken) in enumerate(sets):
        lines = []
        for n, (utterance, text, language) in enumerate(toy.clips(4, (spoken,), seed)):
            soundfile.write(corpus / f"{name}{n}.wav", utterance.audio, 16_000, subtype="PCM_16")
            kind = ("read", "told")[n % 2] if name.startswith("human_hi") else "espeak"
            lines.append({"path": f"{name}{n}.wav", "text": text, "lang": language, "speaker": "s", "corpus": kind})
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (corpus / f"{name}.jsonl").write_text(text, encoding="utf-8")
    run = tmp_path / "20260101-000000_heads"
    run.mkdir()
    row = "linear,lid_test,across corpora,4,0.5,0.4"
    (run / "results.csv").write_text(f"head,test,slice,clips,accuracy,balanced_accuracy\n{row}\n")
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {part}: begin -->\n<!-- {part}: end -->\n" for part in ("measured", "across")))

    command = f"evaluate page {corpus} --write {page} --model toy --store {toy_store} --bootstrap 0 --limit 2"
    assert boli.main([*command.split(), "--full", f"hi={toy_folder}"]) == 0
    first = page.read_text(encoding="utf-8")
    assert "4 clips, 0." in first
    assert "hi 4 clips of 1 speakers (read, told)." in first
    assert "| | words | base | full | r8 | oracle | detected | hard | soft |" in first
    assert first.endswith("<!-- across: begin -->\n<!-- across: end -->\n")

    command += f" --part across --corpora told --classifier-run {run} --classifier {toy_store / 'classifier'}"
    assert boli.main(command.split()) == 0
    both = page.read_text(encoding="utf-8")
    assert both.startswith(first.removesuffix("<!-- across: begin -->\n<!-- across: end -->\n"))
    across = both.split("<!-- across: begin -->")[1]
    assert "### Human speech, unseen corpora\n" in across
    assert across.count("hi 2 clips of 1 speakers (told).") == 2
    assert "te 2 clips of 1 speakers (espeak)." in across
    assert "### The classifier beside the spectrum alone, unseen corpora" in across
    capsys.readouterr()

    assert boli.main([*command.split(), "--corpora", "tolt"]) == 1
    assert "No clip is of corpus tolt. Valid: read, told" in capsys.readouterr().err
    assert boli.main([*command.split(), "--part", "acros"]) == 1
    assert "one line <!-- acros: begin -->" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == both
