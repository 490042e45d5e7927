"""Batches: equal grid, fixed ratios, features equal to Whisper's own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.augment import Augmenter, AugmentOptions
from training.batches import LogMel, Planned, PlanOptions, gather, plan_epoch
from training.clips import Clips, load_clips
from training.data.manifest import Record
from training.recipe import DataOptions
from zoo.errors import DataError


def clips_of(lengths, languages=None, sources=None) -> Clips:
    lengths = np.asarray(lengths, dtype=np.int64)
    samples = np.random.default_rng(0).integers(-9000, 9000, lengths.sum()).astype(np.int16)
    records = [
        Record(str(i), Path(f"{i}.wav"), "x", (languages or ["hi"] * len(lengths))[i]) for i in range(len(lengths))
    ]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return Clips(records, samples, starts, lengths, [], list(sources or []))


def test_log_mel_equals_whispers_own():
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor()
    clips = clips_of([30_000, 10_000, 32_000]).to("cpu")
    audio, lengths = gather(clips, Planned(np.arange(3), np.ones(3, dtype=np.float32), 32_000), "cpu")
    assert lengths.tolist() == [30_000, 10_000, 32_000]
    ours = LogMel(extractor, "cpu")(audio)
    for i in range(3):
        theirs = extractor(
            clips.audio(i), sampling_rate=16_000, padding="max_length", max_length=32_000, return_tensors="pt"
        )["input_features"][0]
        assert torch.allclose(ours[i], theirs, atol=1e-5)


def test_every_batch_has_one_grid_and_every_clip_once():
    rng = np.random.default_rng(1)
    clips = clips_of(rng.integers(5_000, 90_000, 300))
    options = PlanOptions(batch_clips=16, speed=[0.9, 1.1])
    plan = plan_epoch(clips, options, 1.0, 30.0, seed=3, epoch=0)
    assert sorted(np.concatenate([b.index for b in plan]).tolist()) == list(range(300))
    for batch in plan:
        played = clips.lengths[batch.index] / batch.speed / 16_000
        assert (np.ceil(played - 1e-6) == batch.samples / 16_000).all()
        assert len(batch.index) <= 16
    again = plan_epoch(clips, options, 1.0, 30.0, seed=3, epoch=0)
    assert all(
        np.array_equal(a.index, b.index) and np.array_equal(a.speed, b.speed) for a, b in zip(plan, again, strict=True)
    )
    other = plan_epoch(clips, options, 1.0, 30.0, seed=3, epoch=1)
    assert not all(np.array_equal(a.index, b.index) for a, b in zip(plan, other, strict=False))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_ratios_hold_all_along_the_epoch(ratio):
    sources = ["read"] * 900 + ["call"] * 300
    clips = clips_of([16_000] * 1200, sources=sources)
    options = PlanOptions(batch_clips=10, ratios={"read": ratio, "call": 1 - ratio}, window=100)
    plan = plan_epoch(clips, options, 1.0, 30.0, seed=0, epoch=0)
    drawn = np.concatenate([batch.index for batch in plan])
    stretch = 640
    for start in range(0, len(drawn) - stretch, stretch):
        share = np.mean([sources[i] == "read" for i in drawn[start : start + stretch]])
        assert share == pytest.approx(ratio, abs=0.05)


def test_speed_keeps_the_tune():
    """A tone played 10 % faster is 10 % higher and 10 % shorter."""
    time = np.arange(16_000) / 16_000
    tone = np.round(9_000 * np.sin(2 * np.pi * 1_000 * time)).astype(np.int16)
    clips = Clips([Record("a", Path("a"), "", "hi")], tone, np.array([0]), np.array([16_000]), []).to("cpu")
    audio, lengths = gather(clips, Planned(np.array([0]), np.array([1.1], dtype=np.float32), 16_000), "cpu")
    assert lengths.item() == int(np.ceil(16_000 / np.float32(1.1)))
    spectrum = torch.fft.rfft(audio[0, : lengths.item()]).abs()
    assert spectrum.argmax().item() * 16_000 / lengths.item() == pytest.approx(1_100, abs=2)
    assert spectrum.max() > 100 * spectrum[2_000:].max()  # cubic interpolation leaves next to no images


def test_augmentation_follows_the_seed_and_leaves_padding_silent():
    options = AugmentOptions(
        noise=0.7, babble=0.5, reverb=0.7, channel=0.7, telephone=0.5, gain_db=[-10, 3], time_masks=2, frequency_masks=2
    )
    augmenter = Augmenter(options)
    clips = clips_of([30_000, 12_000, 20_000, 31_999]).to("cpu")
    audio, lengths = gather(clips, Planned(np.arange(4), np.ones(4, dtype=np.float32), 32_000), "cpu")

    def changed(seed: int) -> torch.Tensor:
        return augmenter.waves(audio, lengths, torch.Generator().manual_seed(seed))

    assert torch.equal(changed(1), changed(1))
    assert not torch.equal(changed(1), changed(2))
    for row, n in zip(changed(1), lengths.tolist(), strict=True):
        assert row[:n].abs().max() > 0
        assert row[n:].abs().max() == 0 if n < 32_000 else True
    assert changed(3).isfinite().all()
    silent = augmenter.waves(torch.zeros(4, 32_000), lengths, torch.Generator().manual_seed(0))
    assert silent.isfinite().all()


def test_bad_clips_are_skipped_and_named(tmp_path):
    from tests.training.conftest import write_wav

    write_wav(tmp_path / "good.wav", np.zeros(16_000) + 0.1)
    write_wav(tmp_path / "long.wav", np.zeros(40_000))
    (tmp_path / "text.wav").write_text("this is no sound")
    records = [Record(name, tmp_path / name, "x", "hi") for name in ("good.wav", "long.wav", "text.wav", "missing.wav")]
    clips = load_clips(records, DataOptions(max_duration_s=2.0), ["a", "b", "c", "d"])
    assert [record.id for record in clips.records] == ["good.wav"]
    assert clips.sources == ["a"]
    assert len(clips.skipped) == 3
    assert any("2.50 s, wanted 0.1 to 2" in reason for reason in clips.skipped)
    with pytest.raises(DataError, match=r"None of the 2 clips"):
        load_clips(records[2:], DataOptions())
