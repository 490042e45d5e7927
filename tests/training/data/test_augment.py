from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.augment import Augmenter, AugmentOptions, resampled, spec_augment
from zoo.errors import RecipeError

OFF = AugmentOptions(speed=0, reverberation=0, channel=0, noise=0, codec=0, level=0)
ALL = AugmentOptions(speed=1, reverberation=1, channel=1, noise=1, codec=1, level=1)
RATE = 16_000


@pytest.fixture
def batch():
    """Three clips of vowel-like tones, 1, 1.5 and 2 s."""
    lengths = torch.tensor([16_000, 24_000, 32_000])
    time = torch.arange(32_000) / RATE
    audio = torch.stack([sum(torch.sin(2 * np.pi * f * k * time) / k for k in (1, 2, 5)) for f in (120, 200, 320)])
    audio = 0.05 * audio * (torch.arange(32_000)[None] < lengths[:, None])
    return audio.float(), lengths


def test_nothing_is_changed_when_everything_is_off(batch):
    audio, lengths = Augmenter(OFF)(*batch, clips=[0, 1, 2])
    assert torch.allclose(audio, batch[0], atol=1e-6)
    assert torch.equal(lengths, batch[1])


def test_follows_from_seed_epoch_and_clip_alone(batch):
    augmenter = Augmenter(replace(ALL, speed=0))
    first, _ = augmenter(*batch, clips=[7, 8, 9])
    again, _ = Augmenter(replace(ALL, speed=0))(*batch, clips=[7, 8, 9])
    assert torch.equal(first, again)
    turned, _ = augmenter(batch[0].flip(0), batch[1].flip(0), clips=[9, 8, 7])
    assert torch.allclose(turned.flip(0), first, atol=1e-5)
    for changed in (augmenter(*batch, clips=[7, 8, 9], epoch=1)[0], augmenter(*batch, clips=[6, 8, 9])[0][:1]):
        assert not torch.allclose(changed[0], first[0], atol=1e-3)


@pytest.mark.parametrize("name", ["speed", "reverberation", "channel", "noise", "codec", "level"])
def test_each_change_alone_is_heard_and_stays_sound(batch, name):
    options = replace(OFF, **{name: 1.0}, high_hz=(3000, 3400))
    audio, lengths = Augmenter(options)(*batch, clips=[0, 1, 2])
    assert torch.isfinite(audio).all()
    assert audio.abs().max() <= 1
    for row in range(3):
        assert not audio[row, lengths[row] :].any()
        n = min(int(lengths[row]), int(batch[1][row]))
        assert (audio[row, :n] - batch[0][row, :n]).abs().max() > 1e-3


def test_all_together(batch):
    audio, lengths = Augmenter(ALL)(*batch, clips=[0, 1, 2])
    assert torch.isfinite(audio).all()
    assert (audio.square().sum(1) / lengths > 1e-5).all()


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_speed_moves_length_and_pitch(speed):
    tone = torch.sin(2 * np.pi * 1000 * torch.arange(RATE) / RATE)[None]
    audio, lengths = resampled(tone, torch.tensor([RATE]), np.array([speed]))
    assert int(lengths) == int(np.ceil(RATE / speed))
    expected = torch.sin(2 * np.pi * 1000 * speed * torch.arange(int(lengths)) / RATE)
    middle = slice(200, int(lengths) - 200)
    assert (audio[0, middle] - expected[middle]).abs().max() < 0.01


def test_noise_has_the_ratio_drawn(batch):
    options = replace(OFF, noise=1.0, noise_db=(12.0, 12.0))
    audio, _ = Augmenter(options)(*batch, clips=[0, 1, 2])
    for row in range(3):
        n = int(batch[1][row])
        speech, noise = batch[0][row, :n], audio[row, :n] - batch[0][row, :n]
        assert 20 * torch.log10(speech.norm() / noise.norm()) == pytest.approx(12.0, abs=0.1)


def test_channel_limits_the_band_and_keeps_the_level():
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((1, RATE)).astype(np.float32)) * 0.05
    options = replace(OFF, channel=1.0, low_hz=(300, 300), high_hz=(3400, 3400), tilt_db=0, ripple_db=0)
    changed, _ = Augmenter(options)(audio, torch.tensor([RATE]), clips=[0])
    power = torch.fft.rfft(changed[0]).abs().square()
    bands = [power[a:b].mean() for a, b in ((20, 100), (500, 3000), (6000, 8000))]
    assert bands[0] < bands[1] * 1e-2
    assert bands[2] < bands[1] * 1e-2
    assert changed.std() == pytest.approx(float(audio.std()), rel=0.02)


def test_spec_augment_masks_real_frames_only():
    features = torch.randn(2, 80, 100)
    options = AugmentOptions(time_masks=2, time_mask=0.5, frequency_masks=1, frequency_mask=20)
    masked = spec_augment(features, torch.tensor([100, 60]), [3, 4], options)
    assert torch.equal(masked[1, :, 60:], features[1, :, 60:])
    changed = masked != features
    assert 0.02 < changed.float().mean() < 0.9
    assert torch.equal(masked, spec_augment(features, torch.tensor([100, 60]), [3, 4], options))
    assert torch.allclose(masked[0][changed[0]], features[0].mean().expand(int(changed[0].sum())), atol=1e-5)
    none = AugmentOptions(time_masks=0, frequency_masks=0)
    assert torch.equal(spec_augment(features, torch.tensor([100, 60]), [3, 4], none), features)


@pytest.mark.parametrize(
    "wrong", [{"speed": 2.0}, {"noise_db": (9.0, 1.0)}, {"speed_range": (0.1, 1.0)}, {"channel": -0.1}]
)
def test_impossible_options(wrong):
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        AugmentOptions(**wrong)
