"""`boli train classifier` on the trained toy base, whose languages hum differently."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router.classifier import TapClassifier
from training.augment import AugmentOptions
from training.classifier import train_classifier
from training.classifier_data import copies_of, encode_copies, frame_labels, near_seam
from training.classifier_recipe import ClassifierRecipe, HeadOptions
from training.clips import Clips
from training.data.manifest import Record, Segment, read_manifest, write_manifest
from training.recipe import load
from training.run import read_status
from zoo.errors import DataError, RecipeError

RECIPE = Path("training/recipes/debug/classifier.yaml")


def recipe(manifests, toy_folder, tmp_path, *overrides: str) -> ClassifierRecipe:
    train, valid = manifests["mixed_train"], manifests["mixed_valid"]
    given = [f"data.train=[{train}]", f"data.valid=[{valid}]", f"data.test=[{valid}]", f"run.root={tmp_path}"]
    return load(ClassifierRecipe, RECIPE, [*given, f"base.name={toy_folder}", *overrides])


def rows(path: Path) -> list[dict[str, str]]:
    import csv

    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_head(manifests, toy_folder, tmp_path):
    from zoo.whisper_family import family

    export = tmp_path / "export"
    folder = train_classifier(recipe(manifests, toy_folder, tmp_path, f"export={export}", "head.epochs=4"))
    table = rows(folder / "results.csv")
    assert {row["head"] for row in table} == {"linear", "mlp", "cnn", "lstm", "attention", "tdnn", "spectrum"}
    slices = {row["slice"] for row in table}
    assert slices == {"all", "within corpora", "across corpora", "0 to 1 s", "1 to 3 s", "3 to 5 s", "over 5 s"}
    best = read_status(folder).metrics["mixed_valid_balanced_accuracy"]
    assert best > 0.8
    counted = rows(folder / "confusion_mixed_valid.csv")
    assert sum(int(value) for row in counted for key, value in row.items() if key != "spoken") == 60
    assert len(rows(folder / "predictions.csv")) == 60
    assert (folder / "confusion_mixed_valid.png").stat().st_size > 1000
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    for place in (folder / "classifier", export):
        classifier = TapClassifier.load(place, base)
        assert classifier.languages == ("en", "hi", "it", "pa", "te")
        assert classifier.config.temperature > 0
        assert str(tmp_path) not in json.dumps(classifier.config.provenance)


def test_unknown_class(manifests, toy_folder, tmp_path):
    chosen = recipe(
        manifests,
        toy_folder,
        tmp_path,
        "head.languages=[hi,pa]",
        "head.unknown=true",
        "head.heads=[linear]",
        "head.epochs=1",
    )
    folder = train_classifier(chosen)
    assert TapClassifier.load(folder / "classifier").languages == ("hi", "pa", "unknown")
    with pytest.raises(DataError, match="has no clip in ta"):
        train_classifier(recipe(manifests, toy_folder, tmp_path, "head.languages=[hi,ta]"))
    with pytest.raises(RecipeError, match=r"head.heads.*Valid: linear, mlp, cnn, lstm, attention, tdnn"):
        recipe(manifests, toy_folder, tmp_path, "head.heads=[transformer]")


def test_at_most_so_many_clips_of_each_language(manifests, toy_folder, tmp_path):
    options = ["data.max_train_clips=3", "data.max_valid_clips=2", "head.heads=[linear]", "head.epochs=1"]
    folder = train_classifier(recipe(manifests, toy_folder, tmp_path, *options))
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert "15 training clips" in log
    assert "10 for validation" in log
    assert len(rows(folder / "predictions.csv")) == 60  # the test set is whole


def test_same_seed_same_head(manifests, toy_folder, tmp_path):
    """A resumed job trains the heads that were not finished, and ends with the same weights."""
    import torch
    from safetensors.torch import load_file

    options = ["head.heads=[linear,mlp]", "head.epochs=1", "augment.noise=1.0"]
    whole = train_classifier(recipe(manifests, toy_folder, tmp_path / "a", *options))
    again = train_classifier(recipe(manifests, toy_folder, tmp_path / "b", *options))
    (again / "heads/mlp/classifier.json").unlink()
    train_classifier(recipe(manifests, toy_folder, tmp_path / "b", *options), again)
    for head in ("linear", "mlp"):
        one, two = (load_file(run / "heads" / head / "classifier.safetensors") for run in (whole, again))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_frame_labels_change_half_way_between_segments():
    segments = (Segment(0.1, 1.0, "hi"), Segment(1.2, 2.0, "en"))
    record = Record("x", Path("x.wav"), "", "hi", segments=segments)
    labels = frame_labels(record, 100, 0.0, 50.0, ("en", "hi"))
    assert labels.tolist() == [1] * 55 + [0] * 45
    assert np.array_equal(frame_labels(record, 50, 1.0, 50.0, ("en", "hi")), [1] * 5 + [0] * 45)


def test_frames_near_a_seam_are_those_around_half_way_between_segments():
    """Seams at 1.1 s (another language) and 2.1 s (another speaker): 0.5 s on both sides at 10 frames a second."""
    segments = (Segment(0.1, 1.0, "hi"), Segment(1.2, 2.0, "en"), Segment(2.2, 4.0, "en"))
    record = Record("x", Path("x.wav"), "", "hi", segments=segments)
    near = near_seam(record, 40, 0.0, 10.0, 0.5, 0.5)
    assert np.flatnonzero(near).tolist() == [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25]
    assert np.flatnonzero(near_seam(record, 10, 2.0, 10.0, 0.2, 0.2)).tolist() == [0, 1, 2]
    assert not near_seam(record, 40, 0.0, 10.0, 0.0, 0.0).any()
    behind = near_seam(record, 40, 0.0, 10.0, 0.0, 0.5)
    assert np.flatnonzero(behind).tolist() == [11, 12, 13, 14, 15, 21, 22, 23, 24, 25], (
        "as the head that follows counts them"
    )
    assert not near_seam(Record("y", Path("y.wav"), "", "hi"), 40, 0.0, 10.0, 9.0, 9.0).any()


def test_frames_near_seams_can_count_more(manifests, toy_folder, tmp_path):
    """It is another head then; a recipe that makes no sense is refused."""
    import torch
    from safetensors.torch import load_file

    halved = [
        replace(r, segments=(Segment(0.0, r.duration / 2, r.lang), Segment(r.duration / 2, r.duration, r.lang)))
        for r in read_manifest(manifests["mixed_train"])
    ]
    train = write_manifest(tmp_path / "halved.jsonl", halved)
    options = ["head.heads=[linear]", "head.epochs=1", "head.seam_s=0.1", f"data.train=[{train}]"]
    plain, more = (
        train_classifier(recipe(manifests, toy_folder, tmp_path / str(seam), *options, f"head.seam_weight={seam}"))
        / "classifier"
        for seam in (1.0, 4.0)
    )
    one, two = (load_file(folder / "classifier.safetensors") for folder in (plain, more))
    assert not torch.equal(one["out.weight"], two["out.weight"])
    with pytest.raises(RecipeError, match=r"head.seam_weight/seam_s.*above 0"):
        recipe(manifests, toy_folder, tmp_path, "head.seam_weight=0")


def test_a_copy_at_twice_the_speed_has_half_the_frames_and_its_labels(toy_folder):
    """A recording of 2 s that changes language at 1.5 s changes at 0.75 s when it is played twice as fast."""
    import torch

    from zoo.whisper_family import family

    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    segments = (Segment(0.0, 1.5, "hi"), Segment(1.5, 2.0, "en"))
    record = Record("x", Path("x.wav"), "", "hi", segments=segments)
    noise = torch.randint(-9_000, 9_000, (32_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    clips = Clips([record], noise, np.array([0]), np.array([32_000]), [])
    options = HeadOptions(languages=["en", "hi"], unknown=False, copies=1, crop=0.0, speed=[2.0, 2.0])
    fast, which = encode_copies(base, clips, np.array([1]), options, AugmentOptions(), seed=0)
    assert which.tolist() == [0]
    frames = round(base.frame_rate)
    assert len(fast.labels) == fast.lengths[0] == frames
    assert fast.labels.tolist() == [1] * round(0.75 * frames) + [0] * (frames - round(0.75 * frames))
    assert fast.durations_s[0] == pytest.approx(1.0)
    with pytest.raises(RecipeError, match=r"head.speed.*0.5 to 2"):
        HeadOptions(speed=[0.1, 1.0])


def test_small_corpora_are_copied_more_often(toy_folder):
    from zoo.whisper_family import family

    options = HeadOptions(copies=2, corpus_clips=10)
    groups = ["hi synthetic"] * 20 + ["hi people"] * 4 + ["pa people"]
    copies = copies_of(groups, options)
    assert copies.tolist() == [2] * 20 + [3] * 4 + [10]
    assert copies_of(["te people"], HeadOptions(corpus_clips=1_000)).tolist() == [24]
    assert set(copies_of(groups, HeadOptions(copies=2))) == {2}
    with pytest.raises(RecipeError, match=r"head.corpus_clips.*0 or more"):
        HeadOptions(corpus_clips=-1)

    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    import torch

    noise = torch.randint(-9_000, 9_000, (40_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    records = [Record(name, Path(name), "", lang) for name, lang in (("a", "hi"), ("b", "en"))]
    clips = Clips(records, noise, np.array([0, 16_000]), np.array([16_000, 24_000]), [])
    few = HeadOptions(languages=["en", "hi"], unknown=False, crop=0.0)
    features, which = encode_copies(base, clips, np.array([1, 3]), few, AugmentOptions(), seed=0)
    assert which.tolist() == [0, 1, 1, 1]
    assert features.classes.tolist() == [1, 0, 0, 0]
    assert features.durations_s.tolist() == [1.0, 1.5, 1.5, 1.5]


def test_copies_are_cut_to_what_is_followed_and_to_what_the_base_was_taught(toy_folder):
    """Parts of 1 to 2 s where the recipe says so, no clip longer than the card's longest, labels of the part's own time."""
    from dataclasses import replace

    import torch

    from zoo.whisper_family import family

    card = replace(family.card(toy_folder, "debug"), longest_s=4.0)
    base = family.load(toy_folder, card, context="dynamic")
    segments = (Segment(0.0, 3.0, "hi"), Segment(3.0, 6.0, "en"))
    record = Record("x", Path("x.wav"), "", "hi", segments=segments)
    noise = torch.randint(-9_000, 9_000, (96_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    clips = Clips([record], noise, np.array([0]), np.array([96_000]), [])
    options = HeadOptions(
        languages=["en", "hi"], unknown=False, crop=0.5, crop_shortest_s=1.0, crop_longest_s=2.0, copies=20
    )
    features, _ = encode_copies(base, clips, np.array([20]), options, AugmentOptions(), seed=0)
    cut = features.durations_s < 3.9
    assert 3 < cut.sum() < 17
    assert features.durations_s[~cut] == pytest.approx(4.0)
    assert ((features.durations_s[cut] >= 1.0) & (features.durations_s[cut] <= 2.0)).all()
    whole = [features.labels[s : s + n] for s, n in zip(features.starts, features.lengths, strict=True)]
    assert all((np.diff(labels) <= 0).all() for labels in whole)  # hi, which is 1, then en
    assert len({float(labels.float().mean()) for labels in whole}) > 5  # cut at different places
    with pytest.raises(RecipeError, match=r"head.crop_longest_s.*at least head.crop_shortest_s=1"):
        HeadOptions(crop_shortest_s=1.0, crop_longest_s=0.5)


def test_a_share_of_the_copies_is_left_as_it_is(toy_folder):
    """Noise at -20 dB changes every state of the augmented ones; the others are the clip itself."""
    import torch

    from training.classifier_data import encode_clips
    from zoo.whisper_family import family

    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    noise = torch.randint(-9_000, 9_000, (16_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    clips = Clips([Record("x", Path("x.wav"), "", "hi")], noise, np.array([0]), np.array([16_000]), [])
    loud = AugmentOptions(noise=1.0, noise_snr_db=[-20.0, -20.0])
    own = encode_clips(base, clips, ("en", "hi"), AugmentOptions(), 0).states

    def same(plain):
        options = HeadOptions(languages=["en", "hi"], unknown=False, crop=0.0, plain=plain, centred=False)
        features, which = encode_copies(base, clips, np.array([16]), options, loud, seed=0)
        assert which.tolist() == [0] * 16
        return sum(
            torch.equal(features.states[s : s + n], own) for s, n in zip(features.starts, features.lengths, strict=True)
        )

    assert same(0.0) == 0
    assert same(1.0) == 16
    assert 3 < same(0.5) < 13
    with pytest.raises(RecipeError, match=r"head.plain is 2.*0 to 1"):
        HeadOptions(plain=2.0)


def test_a_centred_head_hears_nothing_that_stays_the_same_through_a_clip(toy_folder):
    """What it is trained on and what it hears when serving are the same frames less their mean, alone or in a batch."""
    import torch

    from router.classifier import ClassifierConfig, TapClassifier
    from training.classifier_data import encode_clips
    from zoo.interface import Hidden
    from zoo.whisper_family import family

    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    noise = torch.randint(-9_000, 9_000, (16_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    clips = Clips([Record("x", Path("x.wav"), "", "hi")], noise, np.array([0]), np.array([16_000]), [])
    raw, taught = (
        encode_clips(base, clips, ("en", "hi"), AugmentOptions(), 0, c).states.float() for c in (False, True)
    )
    assert torch.allclose(taught, raw - raw.mean(0), atol=1e-2)
    assert float(taught.mean(0).abs().max()) < 1e-3

    torch.manual_seed(0)
    config = ClassifierConfig("tdnn", ("en", "hi"), "debug", 1, base.hidden_size, centred=True)
    classifier = TapClassifier.new(config)
    values = torch.randn(2, 30, base.hidden_size)
    lengths = torch.tensor([30, 17])
    heard = classifier(Hidden(values, lengths, 1))
    moved = classifier(Hidden(values + 5 * torch.randn(2, 1, base.hidden_size), lengths, 1))
    alone = classifier(Hidden(values[1:, :17], lengths[1:], 1))
    assert torch.allclose(moved.log_probabilities, heard.log_probabilities, atol=1e-4)
    assert torch.allclose(alone.log_probabilities, heard.log_probabilities[1:], atol=1e-4)
    assert torch.allclose(alone.frames[0], heard.frames[1, :17], atol=1e-4)
    plain = TapClassifier(replace(config, centred=False), classifier.head)
    assert not torch.allclose(plain(Hidden(values, lengths, 1)).log_probabilities, heard.log_probabilities, atol=1e-2)


def test_being_a_recording_says_nothing_of_the_class():
    """Most of the unknown is recorded and most of Hindi synthesised; drawn, both are recorded as often."""
    from collections import Counter
    from types import SimpleNamespace

    from training.classifier import _Job

    names = ["unknown"] * 100 + ["hi"] * 100
    corpus = ["klettres"] * 90 + ["espeak"] * 10 + ["ohm_hi"] * 5 + ["espeak"] * 95

    def drawn(share: float, recorded) -> Counter:
        options = HeadOptions(recorded_share=share, synthetic_corpora=["espeak"])
        job = SimpleNamespace(
            recipe=SimpleNamespace(head=options, run=SimpleNamespace(seed=0)),
            recorded=np.array(recorded),
            corpus=corpus,
        )
        chosen = _Job._drawn(job, names, 0)  # type: ignore[arg-type]
        return Counter((names[i], corpus[i]) for i in chosen)

    recorded = [name != "espeak" for name in corpus]
    alike = drawn(0.4, recorded)
    assert alike == {
        ("unknown", "klettres"): 40, ("unknown", "espeak"): 60, ("hi", "ohm_hi"): 40, ("hi", "espeak"): 60
    }  # fmt: skip
    before = drawn(0.0, recorded)
    assert before["unknown", "klettres"] > before["hi", "ohm_hi"] + 20
    with pytest.raises(DataError, match="no recordings of hi"):
        drawn(0.4, [name == "klettres" for name in corpus])
    with pytest.raises(RecipeError, match=r"head.synthetic_corpora"):
        HeadOptions(recorded_share=0.4)


def test_the_most_cautious_share_within_one_standard_error_is_taken():
    from router.pooling import Pooling
    from training.own_detection import most_cautious

    tried = [
        (0.40, 0.02, Pooling(0.0, 0.1)),
        (0.30, 0.02, Pooling(0.2, 0.1)),  # the best
        (0.319, 0.05, Pooling(0.5, 0.1)),
        (0.315, 0.05, Pooling(0.5, 0.01)),
        (0.321, 0.05, Pooling(0.6, 0.1)),  # its own error does not count
    ]
    assert most_cautious(tried, lambda pooling: pooling.share) == Pooling(0.5, 0.01)
    assert most_cautious(tried[:1], lambda pooling: pooling.share) == Pooling(0.0, 0.1)


def test_opinions_are_pooled_by_hand():
    """Two classes and unknown; the base knows en, hi and es. Share a half: the geometric mean, scaled to one."""
    import torch

    from router.pooling import Pooling, pooled

    head = torch.tensor([[0.6, 0.3, 0.1]]).log()
    own = torch.tensor([[0.16, 0.8, 0.04]])
    found = pooled(head, own, ("en", "hi", "es"), ("en", "hi", "unknown"), Pooling(0.5, 0.001)).exp()
    raw = np.sqrt([0.6 * 0.16, 0.3 * 0.8, 0.1 * 0.04])
    assert found[0].numpy() == pytest.approx(raw / raw.sum(), abs=1e-6)
    alone = pooled(head, own, ("en", "hi", "es"), ("en", "hi", "unknown"), Pooling(0.0, 0.001))
    assert alone.exp()[0].numpy() == pytest.approx([0.6, 0.3, 0.1], abs=1e-6)
    floored = pooled(head, own, ("en", "hi", "es"), ("en", "hi", "unknown"), Pooling(1.0, 0.2)).exp()
    assert floored[0].numpy() == pytest.approx(np.array([0.2, 0.8, 0.2]) / 1.2, abs=1e-6)


def test_own_detection_beside_the_head(manifests, toy_folder, tmp_path):
    """The toy base knows its languages; the head sees one clip of each. What is served is what the run says it scores,
    and it is not worse than the head alone; frames are the head's own."""
    import torch

    from training.own_detection import judge_served
    from zoo.whisper_family import family

    options = ["data.max_train_clips=1", "head.heads=[linear]", "head.epochs=1", "head.own_detection=true"]
    folder = train_classifier(recipe(manifests, toy_folder, tmp_path, *options))
    base = family.load(toy_folder, family.card(toy_folder, "debug"), context="dynamic")
    classifier = TapClassifier.load(folder / "classifier", base)
    assert classifier.pooling is not None
    assert 0 < classifier.pooling.share <= 0.95
    table = {row["head"]: row for row in rows(folder / "results.csv") if row["slice"] == "all"}
    with_it, without = (float(table[name]["accuracy"]) for name in ("linear + own detection", "linear"))
    assert with_it > without
    from training.clips import load_clips
    from training.data.manifest import read_manifest
    from training.recipe import DataOptions

    clips = load_clips(read_manifest(manifests["mixed_valid"]), DataOptions())
    assert judge_served(base, classifier, clips, classifier.languages).accuracy == pytest.approx(with_it, abs=1e-3)
    from zoo.speech import Utterance

    with torch.inference_mode():
        hidden = base.encode(base.features([Utterance(clips.audio(0))]), until=base.tap)
    whole, frames = classifier(hidden), classifier(hidden, frames_only=True)
    alone = TapClassifier.load(folder / "classifier")(hidden)
    assert torch.equal(frames.log_probabilities, alone.log_probabilities)
    assert torch.equal(whole.frames, alone.frames)
    assert not torch.equal(whole.log_probabilities, alone.log_probabilities)


def test_clips_that_switch_are_drawn_as_a_corpus_of_their_own():
    from training.classifier_scores import drawn_as

    segments = (Segment(0.0, 1.5, "hi"), Segment(1.5, 2.0, "en"))
    plain = Record("x", Path("espeak/x.wav"), "", "hi", extra={"corpus": "espeak"})
    switched = Record("y", Path("espeak/y.wav"), "", "hi", segments=segments, extra={"corpus": "espeak"})
    assert (drawn_as(plain), drawn_as(switched)) == ("espeak", "espeak, switched")
