"""`boli evaluate codeswitch` and `boli train switching` on the trained debug model."""

import json
import shutil

import numpy as np
import pytest
import soundfile

import boli
from router.causal import Causal
from router.classifier import TapClassifier
from router.smoothing import Smoothing
from tests import toy
from tests.toy_router import name_toy, switched
from training.data.codeswitch import CodeSwitchOptions, make
from training.data.manifest import read_manifest
from training.versions import HEARD, WRITTEN, Cutting, cuttings
from zoo.errors import DataError


def write_manifest(folder, name: str, subset: str, seed: int, **more):
    """Ten clips that change language, five of one language in two voices."""
    lines = []

    def line(n: int, audio, segments, kind: str) -> None:
        path = folder / f"{name}_{n}.wav"
        soundfile.write(path, audio, 16_000, subtype="PCM_16")
        rows = [{"start": s, "end": e, "lang": lang, "text": text} for s, e, lang, text in segments]
        text = " ".join(row["text"] for row in rows)
        about = {"kind": kind, "voices": "different", "synthetic": False, **more}
        lines.append(
            {"id": f"{name}/{n}", "path": path.name, "text": text, "lang": rows[0]["lang"], "subset": subset,
             "duration": len(audio) / 16_000, "segments": rows, **about}
        )  # fmt: skip

    for n, (audio, segments) in enumerate(switched(10, seed, languages=("en", "hi", "te"))):
        line(n, audio, segments, ("inter", "intra")[n % 2])
    for n, (utterance, text, language) in enumerate(toy.clips(5, ("hi", "te"), seed), 10):
        half = len(utterance.audio) / 32_000
        segments = [(0.0, half, language, text[:2]), (half, 2 * half, language, text[2:])]
        line(n, utterance.audio, segments, "speaker-change")
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines), encoding="utf-8")
    return path


def test_switches_are_scored_drawn_and_written_about(toy_folder, toy_store, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    manifest = write_manifest(tmp_path, "clips", "test", 31)
    out, page = tmp_path / "out.json", tmp_path / "docs" / "page.md"
    command = f"evaluate codeswitch -m {manifest} --model toy --store {toy_store} --policies hard --bootstrap 20"
    command += f" --json {out} --page {page} --tables {tmp_path / 'tables'} --worst 2"
    assert boli.main(command.split()) == 0
    printed = capsys.readouterr().out
    for words in (
        "The study's criteria",
        ">= 80 %",
        "Causally",
        "Told where",
        "after 0.25 s",
        "Offline",
        "Words, in %",
        "speaker-change",
        "PIER",
    ):
        assert words in printed
    content = json.loads(out.read_text(encoding="utf-8"))
    found = content["measurements"]

    def one(measure, system="switched", **conditions):
        chosen = [
            m for m in found
            if (m["measure"], m["system"]) == (measure, system) and conditions.items() <= m["conditions"].items()
            and m["normaliser"] in ("", "indic")
        ]  # fmt: skip
        assert len(chosen) == 1, (measure, conditions, chosen)
        return chosen[0]

    assert one("switch_recall", mode="causal")["count"] == 10
    assert one("switch_delay_median_s", mode="causal")["value"] < 0.6
    assert 0 < one("switch_within_0.5s", mode="causal")["value"] <= one("switch_within_1s", mode="causal")["value"]
    assert 0 < one("switch_hop_s", mode="computing")["value"] < 1
    offline = one("switch_f1", mode="offline", tolerance_s=0.25, strategy="segments")
    assert offline["value"] > 0.6
    assert offline["speech"] == "human"
    assert one("dropped_audio_s", strategy="segments")["value"] == 0.0
    assert one("time_language_accuracy", strategy="segments")["value"] > 0.8
    alarms = one("kind_switch_false_alarms_per_minute", mode="causal", kind="speaker-change")
    assert alarms["value"] is not None
    both = one("wer", "switched", strategy="segments"), one("wer", "one-by-one")
    assert both[0]["key"] == both[1]["key"] != ""
    assert both[0]["value"] < one("wer", "unswitched")["value"]
    assert one("pier", strategy="segments")["count"] > 0
    told = [one("language_told_where", "told where", seconds=seconds) for seconds in (0.25, 0.5)]
    assert told[0]["count"] == 10, "of every switch after which the language lasts so long"
    assert told[1]["count"] <= 10
    assert told[1]["value"] > 0.7
    assert one("shown_where_switched")["value"] > 0.7
    assert one("shown_where_not")["value"] == 0.0
    assert {m["conditions"]["kind"] for m in found if m["measure"] == "kind_wer"} == {
        "inter different",
        "intra different",
    }
    assert content["test_set"]["manifests"].keys() == {"clips.jsonl"}
    chosen = [point for point in content["curve"] if point["chosen"]]
    assert chosen[0]["false_alarms_per_minute"] == one("switch_false_alarms_per_minute", mode="causal")["value"]

    text = page.read_text(encoding="utf-8")
    assert "![How late switches are noticed](page/delays.png)" in text
    assert text.startswith("# Code-switching with toy\n")
    assert "boli evaluate codeswitch --model toy --store STORE --manifest clips.jsonl" in text, (
        "no path of this machine"
    )
    assert (page.parent / "page" / "delays.png").stat().st_size > 5000
    assert len(list((page.parent / "page").glob("worst_*.png"))) == len(content["worst"]) <= 2
    assert "/tmp" not in text
    assert (tmp_path / "tables" / "switches.csv").read_text(encoding="utf-8-sig").startswith("clip,kind,mode,spoken_s")

    assert boli.main(["evaluate", "criteria", str(out)]) in (0, 1)
    judged = capsys.readouterr().out
    for line in judged.splitlines():
        if line.startswith(("Switch", "False alarms", "WER when switching")):
            assert "not measured" not in line, line


def test_parameters_are_chosen_on_what_the_router_hears(toy_folder, toy_store, tmp_path, monkeypatch):
    """A clip longer than the base was taught on is heard in the pieces that `transcribe` would cut."""
    from dataclasses import replace

    import router
    from training.clips import load_clips
    from training.recipe import DataOptions
    from training.switching import _heard

    name_toy(toy_folder, monkeypatch)
    loaded = router.load("toy", toy_store)
    clips = load_clips(read_manifest(write_manifest(tmp_path, "dev", "dev", 41)), DataOptions())
    whole = _heard(loaded, clips)
    assert all([start for start, _ in pieces] == [0.0] for pieces in whole.values())
    loaded.base.card = replace(loaded.base.card, longest_s=0.8)
    cut = _heard(loaded, clips)
    assert list(cut) == list(whole) == list(range(len(clips)))
    long = [i for i in cut if clips.lengths[i] > 12_800]
    assert len(long) > 5
    assert all(len(cut[i]) > 1 for i in long)
    for i, pieces in cut.items():
        rate, frames = loaded.base.frame_rate, 0
        for start, rows in pieces:
            assert start == pytest.approx(frames / rate, abs=1.5 / rate * len(pieces))  # none left out, none twice
            assert len(rows) <= 0.8 * rate + 1
            frames += len(rows)
        assert frames == pytest.approx(len(whole[i][0][1]), abs=len(pieces))


def test_parameters_are_chosen_and_kept_with_the_classifier(toy_folder, toy_store, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    monkeypatch.setattr("training.switching.COSTS", (0.3, 5.0))
    monkeypatch.setattr("training.switching.SHORTEST_S", (0.2,))
    monkeypatch.setattr("training.switching.WINDOWS_S", (1.0,))
    monkeypatch.setattr("training.switching.THRESHOLDS", (0.1, 0.2, 3.0))
    folder = tmp_path / "classifier"
    shutil.copytree(toy_store / "classifier", folder)
    before = TapClassifier.load(folder)
    manifest = write_manifest(tmp_path, "dev", "dev", 41)
    assert boli.main(["train", "switching", "-m", str(manifest), "--classifier", str(folder), "--model", "toy"]) == 0
    after = TapClassifier.load(folder)
    assert after.config.weights_sha256 == before.config.weights_sha256
    chosen = after.config.switching
    assert chosen["offline"]["cost"] == 0.3, "a cost of 5 finds nothing"
    assert chosen["causal"]["threshold"] < 3.0
    assert Smoothing(**chosen["offline"]).shown == 0.0, "no clip in one language shows another: nothing more is asked"
    assert chosen["offline"]["written"] in WRITTEN
    assert chosen["offline"]["heard"] in HEARD
    alone = chosen["chosen_on"]["measured"]["versions"]
    assert alone["fewest"] <= alone["words_wrong"] < 1.0
    assert alone["shown_where_switched"] > 0.6
    assert alone["shown_where_not"] == 0.0
    assert Causal(**chosen["causal"]).window_s == 1.0
    assert list(chosen["chosen_on"]["manifests"]) == ["dev.jsonl"]
    assert chosen["chosen_on"]["measured"]["offline"]["f1"] > 0.6
    assert set(chosen["chosen_on"]["measured"]["context"]) == {"0 s", "0.1 s", "0.2 s"}
    assert str(tmp_path) not in json.dumps(chosen)

    import router

    loaded = router.load("toy", toy_store, folder)
    assert loaded.smoothing == Smoothing(**chosen["offline"])
    assert loaded.causal == Causal(**chosen["causal"])
    capsys.readouterr()

    asked = ["train", "switching", "-m", str(manifest), "--classifier", str(folder), "--model", "toy"]
    assert boli.main([*asked, "--store", str(toy_store)]) == 0
    with_adapters = TapClassifier.load(folder).config.switching["chosen_on"]["measured"]["versions"]
    assert with_adapters["words_wrong"] < alone["words_wrong"] - 0.1, "the base alone cannot write Hindi and Telugu"
    capsys.readouterr()

    test = write_manifest(tmp_path, "other", "test", 42)
    assert boli.main(["train", "switching", "-m", str(test), "--classifier", str(folder), "--model", "toy"]) == 1
    assert "belong to a test set" in capsys.readouterr().err


def test_where_a_head_follows_its_own_config_gets_the_causal_parameters(
    manifests, toy_folder, toy_store, tmp_path, monkeypatch, capsys
):
    import router
    from router.following import Following
    from training.following import train_following
    from training.following_recipe import FollowingRecipe
    from training.recipe import load

    name_toy(toy_folder, monkeypatch)
    monkeypatch.setattr("training.switching.COSTS", (0.3,))
    monkeypatch.setattr("training.switching.SHORTEST_S", (0.2,))
    monkeypatch.setattr("training.switching.FOLLOWED_THRESHOLDS", (0.5, 2.0, 19.0))
    folder = tmp_path / "classifier"
    shutil.copytree(toy_store / "classifier", folder)
    given = [f"data.train=[{manifests['mixed_train']}]", f"data.valid=[{manifests['mixed_valid']}]"]
    recipe = "training/recipes/debug/following.yaml"
    train_following(
        load(FollowingRecipe, recipe, [*given, f"classifier={folder}", f"run.root={tmp_path}/runs", "follow.epochs=30"])
    )
    before = Following.load(folder)
    manifest = write_manifest(tmp_path, "dev", "dev", 41)
    # a false alarm in these seventeen seconds is four a minute
    asked = [
        "train",
        "switching",
        "-m",
        str(manifest),
        "--classifier",
        str(folder),
        "--model",
        "toy",
        "--alarms",
        "100",
    ]
    assert boli.main(asked) == 0
    after = Following.load(folder)
    assert after.config.weights_sha256 == before.config.weights_sha256
    assert after.causal.threshold in (0.5, 2.0), "a lead of 19 nats is never reached"
    assert (after.causal.window_s, after.causal.hop_s) == (1.0, 0.1), "as it was taught"
    assert list(after.config.chosen_on["manifests"]) == ["dev.jsonl"]
    assert after.config.chosen_on["measured"]["causal"]["recall"] > 0.6
    assert "causal" not in TapClassifier.load(folder).config.switching
    loaded = router.load("toy", toy_store, folder)
    assert loaded.causal == after.causal

    kept = (folder / "classifier.json").read_bytes()
    assert boli.main([*asked, "--only-causal"]) == 0
    assert "offline as it was" in capsys.readouterr().out
    assert (folder / "classifier.json").read_bytes() == kept

    kept = (folder / "following.json").read_bytes()
    monkeypatch.setattr("training.switching.SHORTEST_S", (0.3,))
    assert boli.main([*asked, "--only-offline"]) == 0
    assert "causal as it was" in capsys.readouterr().out
    assert (folder / "following.json").read_bytes() == kept
    assert TapClassifier.load(folder).config.switching["offline"]["shortest_s"] == 0.3
    assert boli.main([*asked, "--only-offline", "--only-causal"]) == 1
    assert "leave nothing to choose" in capsys.readouterr().err
    assert Following.load(folder).causal == after.causal
    assert list(Following.load(folder).config.chosen_on["measured"]) == ["causal"]
    alone = tmp_path / "alone"
    shutil.copytree(toy_store / "classifier", alone)
    assert boli.main([*(str(alone) if part == str(folder) else part for part in asked), "--only-causal"]) == 1
    assert "No head follows beside the classifier" in capsys.readouterr().err

    from training.clips import load_clips
    from training.data.manifest import read_manifest
    from training.evaluation.told_where import told_where
    from training.recipe import DataOptions

    clips = load_clips(list(read_manifest(manifest)), DataOptions())
    told = {
        (m.conditions["head"], m.conditions["seconds"]): m.value for m in told_where(loaded, clips, range(len(clips)))
    }
    assert {head for head, _ in told} == {"classifier", "following"}
    assert told["following", 0.5] > 0.6, "it begins with the new language"


def test_the_limit_of_false_alarms_has_a_margin():
    from training.clips import Clips
    from training.evaluation.switches import Found, Matching
    from training.switching import _rate

    minutes = np.array([60, 120]) * 16_000
    clips = Clips([], np.zeros(0, np.int16), np.zeros(2, int), minutes, [])
    false = Matching((), (), tuple(Found(k, "hi") for k in range(2)))
    assert _rate([false, false], clips, [0, 1]) == pytest.approx((4 + 2) / 3)
    assert _rate([Matching((), (), ())], clips, [0]) == 0


def test_what_cannot_be_scored_says_so(toy_folder, toy_store, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    start = f"evaluate codeswitch --model toy --store {toy_store}".split()
    assert boli.main(start) == 1
    assert "Valid: --manifest FILE, or --corpus FOLDER" in capsys.readouterr().err
    manifest = write_manifest(tmp_path, "clips", "test", 31)
    assert boli.main([*start, "-m", str(manifest), "--languages", "it"]) == 1
    assert "No clip speaks only it. Valid: en, hi, te" in capsys.readouterr().err
    assert boli.main([*start, "-m", str(manifest), "--languages", "hi"]) == 1
    assert "No clip changes its language" in capsys.readouterr().err
    assert boli.main([*start, "--corpus", str(tmp_path)]) == 1
    assert "recordings of fewer than two languages" in capsys.readouterr().err


@pytest.fixture
def corpus(tmp_path):
    """Recordings of two languages, two speakers each, as the embedded model's corpus names them."""
    for language in ("hi", "te"):
        rows = []
        for n, (utterance, text, _) in enumerate(toy.clips(8, (language,), seed=3)):
            path = tmp_path / f"{language}_{n}.wav"
            soundfile.write(path, utterance.audio, 16_000, subtype="PCM_16")
            duration = len(utterance.audio) / 16_000
            speaker = f"{language}{n % 2}"
            rows.append({"path": path.name, "text": text, "lang": language, "speaker": speaker, "duration": duration})
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name in (f"human_{language}_test.jsonl", f"{language}_test.jsonl"):
            (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_a_corpus_gives_concatenations_of_its_recordings(corpus, tmp_path):
    from training.evaluation.codeswitching_runs import kind_of, speech_kind
    from training.evaluation.codeswitching_sets import sets_of

    found = sets_of(corpus, "test", tmp_path / "made", 3, 0)
    assert [path.parent.name for path in found] == ["human_whole_test", "human_cut_test"]
    whole, cut = (read_manifest(path) for path in found)
    assert {kind_of(record) for record in whole} == {"inter different"}
    assert {kind_of(record) for record in cut} >= {"rapid different", "speaker-change", "splice"}
    assert {speech_kind(record) for record in (*whole, *cut)} == {"human"}
    assert all(record.id.startswith("human_whole_test/") for record in whole)
    assert all(segment.text for record in whole for segment in record.segments)


def test_the_sets_kinds_are_those_that_are_made(corpus, tmp_path):
    records = read_manifest(corpus / "human_hi_test.jsonl") + read_manifest(corpus / "human_te_test.jsonl")
    made = make(records, ["hi", "te"], tmp_path / "again", CodeSwitchOptions(clips=2, kinds=("inter",)))
    assert all(record.extra["kind"] == "inter" for record in made.records)


def test_switching_is_on_by_itself_where_frames_show_it_and_versions_bear_it_out():
    """By hand: ten clips that switch with gains 1 to 10, borne out; of three others with gains 3, 6 and 8 the second is
    much more probable as a whole. One of them may be on: what shows 3 must not, 8 may."""
    found = {i: [(i + 1.0, 0.0)] for i in range(10)} | {10: [(3.0, 0.0)], 11: [(6.0, 50.0)], 12: [(8.0, -10.0)]}
    sources = ["dev"] * 13

    def most(found) -> Cutting:
        return max(cuttings(found, range(10), sources), key=lambda each: (each.share, each.shown, -each.margin))

    chosen = most(found)
    assert (chosen.shown, chosen.margin) == (3.001, 0.0)
    assert (chosen.share, chosen.where_switched, chosen.where_not) == (0.7, 0.7, pytest.approx(1 / 3))
    late = found | {
        i: [(i + 1.0, 30.0)] for i in range(5)
    }  # half of the clips that switch are more probable as a whole
    chosen = most(late)
    assert (chosen.shown, chosen.margin, chosen.share) == (3.001, 30.001, 0.7)
    for each in cuttings(late, range(10), sources):  # at most one of the three is on
        assert sum(any(g >= each.shown and x <= each.margin for g, x in late[i]) for i in (10, 11, 12)) <= 1
    with pytest.raises(DataError, match="No clip is in one language"):
        cuttings({i: found[i] for i in range(10)}, range(10), sources)
