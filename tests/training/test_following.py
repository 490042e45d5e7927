"""`boli train following` on the trained toy base: clips joined from single ones teach it where the language changes."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import boli
from router.following import Following
from router.windows import Quiet
from tests.toy_router import LANGUAGES, make, name_toy
from training.clips import Clips, load_clips
from training.data.manifest import Record, read_manifest
from training.following import SMOOTHED, train_following
from training.following_joins import CLIP_S, LEVEL_DB, PIECE_S, SPEED, VARIED_DB, joined
from training.following_recipe import FollowingRecipe
from training.frame_loss import frame_loss
from training.recipe import DataOptions, load
from training.run import read_status
from training.signals import Preempted
from zoo.errors import DataError, RecipeError
from zoo.speech import SAMPLE_RATE

RECIPE = Path("training/recipes/debug/following.yaml")


def recipe(manifests, folder: Path, tmp_path, *overrides: str) -> FollowingRecipe:
    given = [f"data.train=[{manifests['mixed_train']}]", f"data.valid=[{manifests['mixed_valid']}]"]
    return load(FollowingRecipe, RECIPE, [*given, f"classifier={folder}", f"run.root={tmp_path}/runs", *overrides])


@pytest.fixture
def beside(toy_store, tmp_path) -> Path:
    folder = tmp_path / "classifier"
    shutil.copytree(toy_store / "classifier", folder)
    return folder


def test_it_learns_and_is_used(manifests, beside, toy_folder, toy_store, tmp_path, monkeypatch):
    name_toy(toy_folder, monkeypatch)
    folder = train_following(recipe(manifests, beside, tmp_path))
    status = read_status(folder)
    assert status.metrics["valid_frame_accuracy"] > 0.7, "five languages; 0.80 to 0.84 with other seeds"
    router = make(toy_folder, toy_store, monkeypatch, classifier=beside)
    assert router.classifier.following is not None
    assert router.causal == router.classifier.following.causal
    assert str(tmp_path) not in (beside / "following.json").read_text(encoding="utf-8")

    from tests.toy_router import switched

    late = []
    for audio, segments in switched(10, seed=21):
        changes = [c for c in router.follow(audio) if c.before]
        start, end, language, _ = segments[1]
        late += [c.decided_s - start for c in changes if c.language == language and start - 0.25 <= c.decided_s <= end][
            :1
        ]
    assert len(late) >= 5, "of 10; 7 to 9 with other seeds"
    assert np.median(late) <= 0.5


def test_an_interrupted_job_goes_on(manifests, beside, toy_folder, tmp_path, monkeypatch):
    """What is encoded is kept; the same weights come out."""
    name_toy(toy_folder, monkeypatch)
    small = ["follow.joined=40", "follow.epochs=1", "export=false"]
    (beside / "following.json").write_text("{}", encoding="utf-8")  # a broken one is what the command mends
    whole = train_following(recipe(manifests, beside, tmp_path / "a", *small))
    asked = Counter()

    class Asked:
        received = "SIGTERM"

        def __bool__(self):
            asked["times"] += 1
            return asked["times"] == 2

    monkeypatch.setattr("training.job.StopRequest.__enter__", lambda self: Asked())
    with pytest.raises(Preempted, match="SIGTERM while encoding"):
        train_following(recipe(manifests, beside, tmp_path / "b", *small))
    monkeypatch.undo()
    name_toy(toy_folder, monkeypatch)
    (run,) = (tmp_path / "b" / "runs").iterdir()
    kept = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert kept
    train_following(recipe(manifests, beside, tmp_path / "b", *small), run)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    one, two = (Following.load(each / "following").config.weights_sha256 for each in (whole, run))
    assert one == two
    assert (beside / "following.json").read_text(encoding="utf-8") == "{}", "export=false"


def test_clips_are_joined_at_random(manifests):
    records = list(read_manifest(manifests["mixed_train"]))
    clips = load_clips(records, DataOptions())
    made = joined(clips, ("en", "hi", "it", "unknown"), 30, 3)
    assert len(made) == 30
    assert made.samples.dtype == np.int16
    spoken = Counter(segment.lang for record in made.records for segment in record.segments)
    assert set(spoken) == set(LANGUAGES)
    assert spoken["pa"] + spoken["te"] < spoken["hi"] * 2, "both are drawn as the one class unknown"
    seams = Counter()
    for i, record in enumerate(made.records):
        assert CLIP_S[0] <= made.lengths[i] / 16_000 <= CLIP_S[1] + PIECE_S[1] + 0.6
        assert record.segments[-1].end == pytest.approx(made.lengths[i] / 16_000, abs=1e-3)
        for one, two in zip(record.segments, record.segments[1:], strict=False):
            assert 0 <= two.start - one.end <= 0.5
            seams[one.lang == two.lang] += 1
    assert min(seams.values()) > 0.2 * sum(seams.values()), "some seams change the language, some only the clip"
    again = joined(clips, ("en", "hi", "it", "unknown"), 5, 3)
    np.testing.assert_array_equal(again.audio(4), made.audio(4))


def test_pieces_are_in_other_voices():
    """A tone of 1,000 Hz is heard at 850 to 1,180 Hz, and not always as it was; the level stays."""
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    tone = np.round(8000 * np.sin(2 * np.pi * 1000 * time)).astype(np.int16)
    records = [
        Record(id=tag, path=Path("tones/a.wav"), text="", lang=tag, speaker=tag, duration=5.0) for tag in ("en", "hi")
    ]
    clips = Clips(records, np.concatenate([tone, tone]), np.array([0, len(tone)]), np.array([len(tone)] * 2), [])
    made = joined(clips, ("en", "hi"), 20, 0, 0.7)
    heard = []
    for i, record in enumerate(made.records):
        for segment in record.segments:
            piece = made.audio(i)[round(segment.start * SAMPLE_RATE) : round(segment.end * SAMPLE_RATE)]
            heard.append(np.abs(np.fft.rfft(piece)).argmax() * SAMPLE_RATE / len(piece))
            assert 20 * np.log10(np.sqrt(np.mean(piece**2))) == pytest.approx(LEVEL_DB, abs=VARIED_DB + 1)
    assert 1000 * SPEED[0] - 3 <= min(heard) < 900
    assert 1100 < max(heard) <= 1000 * SPEED[1] + 3
    assert 0.1 < np.mean(np.abs(np.array(heard) - 1000) < 3) < 0.6, "some as they were"


def test_coarse_clips_are_heard_less_often(manifests, beside, toy_folder, tmp_path, monkeypatch):
    """Further clips than the others, with the labels that they would have at every hop."""
    name_toy(toy_folder, monkeypatch)
    given = ["follow.joined=6", "follow.coarse=6", "follow.coarse_hop_s=0.5", "follow.epochs=1", "export=false"]
    run = train_following(recipe(manifests, beside, tmp_path, *given))
    fine, coarse = (load_file(run / "streams" / part / "00000.safetensors") for part in ("joined", "coarse"))
    assert len(fine["lengths"]) == len(coarse["lengths"]) == 6
    assert fine["lengths"].tolist() != coarse["lengths"].tolist()
    behind = round(0.1 * 50)
    assert all((n + behind) % 25 == 0 for n in coarse["lengths"].tolist()), (
        "whole half seconds, less what is not read yet"
    )
    again = ["follow.joined=0", "follow.coarse=6", "follow.coarse_hop_s=0.1", "follow.epochs=1", "export=false"]
    each = load_file(train_following(recipe(manifests, beside, tmp_path, *again)) / "streams/coarse/00000.safetensors")
    starts = [part["lengths"].cumsum(0) - part["lengths"] for part in (coarse, each)]
    for n, more, one, two in zip(coarse["lengths"], each["lengths"], *starts, strict=True):
        assert n <= more < n + 25
        assert torch.equal(coarse["labels"][one : one + n], each["labels"][two : two + n])
    with pytest.raises(RecipeError, match=r"coarse_hop_s is 1\.0\. Valid: 0\.1 \(hop_s\) to 0\.9"):
        recipe(manifests, beside, tmp_path, "follow.coarse=1")  # a window is 1 s


def test_shares_are_as_frames_that_come_more_often():
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 3, generator=random), torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([1.0, 2.0, 0.5])
    often = torch.tensor([0, 1, 1, 2, 3, 3, 3])
    shares = torch.tensor([1.0, 2.0, 1.0, 3.0])
    wanted = torch.nn.functional.cross_entropy(logits[often], labels[often], weights, label_smoothing=0.02)
    torch.testing.assert_close(frame_loss(logits, labels, shares, weights, SMOOTHED), wanted)


def test_quiet_frames():
    loud, soft = np.full(320, 0.5, np.float32), np.full(320, 0.001, np.float32)
    quiet = Quiet(50.0, 35.0)
    assert [quiet(frame) for frame in (soft, loud, soft)] == [False, False, True]
    assert [quiet(soft) for _ in range(150)][-1] is np.False_, "three seconds later nothing loud is left"


def test_what_cannot_be_taught_says_so(manifests, beside, toy_folder, tmp_path, monkeypatch, capsys):
    name_toy(toy_folder, monkeypatch)
    with pytest.raises(RecipeError, match="classifier is ''"):
        recipe(manifests, Path(), tmp_path, "classifier=")
    with pytest.raises(DataError, match="No training clip changes its language"):
        train_following(recipe(manifests, beside, tmp_path, "follow.joined=0"))
    given = [
        str(RECIPE),
        f"data.train=[{manifests['train']}]",
        f"data.valid=[{manifests['valid']}]",
        f"run.root={tmp_path}",
    ]
    assert boli.main(["train", "following", *given, f"classifier={beside}"]) == 1
    assert "has no clip in" in capsys.readouterr().err
