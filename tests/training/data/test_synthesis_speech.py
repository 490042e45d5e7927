"""espeak-ng as a library, the channel, and the check of transcripts."""

import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from training.data import synthesis
from training.data.prompts_align import believed
from training.data.synthesis import Espeak, Manner, Voice, draw_manner, draw_voice, join, trim
from training.data.synthesis_channel import ChannelOptions, Channels, codec
from training.data.synthesis_plan import BASE, TARGETS, UNKNOWN, UNSEEN_UNKNOWN, plan
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE

PLAIN = Voice("hi", "m3", Fraction(8, 11), 50, 50)


@pytest.fixture(scope="module")
def espeak():
    try:
        return Espeak()
    except DataError as error:
        pytest.skip(str(error))


def test_the_same_seed_gives_the_same_samples_and_a_slower_rate_longer_ones(espeak):
    text = "यहाँ से लगभग पाँच मील दूर"
    fast, slow = (espeak.speak(text, PLAIN, Manner(rate, 0)) for rate in (200, 110))
    assert fast.dtype == np.float32
    assert 0.05 < np.abs(fast).max() < 1.3
    assert 1.3 < len(slow) / len(fast) < 2.5
    assert 1.0 < len(fast) / SAMPLE_RATE < 4


def test_every_voice_that_may_be_drawn_exists(espeak):
    for variant in {variant for variants in synthesis.VARIANTS.values() for variant in variants}:
        assert len(espeak.speak("no", replace(PLAIN, accent="it", variant=variant), Manner(160, 0))) > 1000
    for language in {*BASE, *TARGETS, *UNKNOWN, *UNSEEN_UNKNOWN}:
        for accent in synthesis.ACCENTS.get(language, (language,)):
            espeak.speak("a", replace(PLAIN, accent=accent), Manner(160, 0))


def test_a_voice_that_is_not_there_is_named(espeak):
    with pytest.raises(DataError, match=r"no voice 'xx\+m3'"):
        espeak.speak("a", replace(PLAIN, accent="xx"), Manner(160, 0))


def test_a_root_without_espeak_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(synthesis.ESPEAK_ROOT, str(tmp_path))
    with pytest.raises(DataError, match="no espeak-ng below"):
        Espeak()


def test_no_voice_is_in_two_splits():
    speakers = {
        split: {draw_voice(random.Random(seed), "hi", split).speaker for seed in range(1500)}
        for split in ("train", "dev", "test")
    }
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["dev"]
    assert len(speakers["train"]) > 250
    assert len(speakers["test"]) >= 15
    rates = [draw_manner(random.Random(seed)).rate for seed in range(500)]
    assert min(rates) < 100
    assert max(rates) > 210


def test_silence_is_cut_and_pieces_are_joined_at_the_times_said():
    tone = np.sin(np.arange(SAMPLE_RATE) / 5).astype(np.float32)
    cut = trim(np.pad(tone, (5000, 8000)))
    assert abs(len(cut) - len(tone)) < 0.06 * SAMPLE_RATE
    joined, spans = join([tone, tone[:8000]], [0.25])
    assert spans == [(0.0, 1.0), (1.25, 1.75)]
    assert len(joined) == int(1.75 * SAMPLE_RATE)
    assert len(trim(np.zeros(0, np.float32))) == 0


def test_a_channel_keeps_length_and_timing_and_every_clip_stays_finite():
    rng = np.random.default_rng(0)
    clip = np.zeros(24_000, np.float32)
    clip[9_000:15_000] = 0.2 * rng.standard_normal(6_000)
    channels, seen = Channels(0), set()
    for _ in range(80):
        heard = channels.apply(clip, rng)
        assert heard.shape == clip.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        level = 20 * np.log10(np.sqrt(np.mean(heard**2)))
        assert -45 < level < -10
        seen.add(round(level))
    assert len(seen) > 8
    quiet = Channels(0, ChannelOptions(room=0, filter=0, band=0, noise=0, codec=0)).apply(clip, rng)
    assert np.corrcoef(quiet, clip)[0, 1] > 0.9999


def test_two_channel_banks_of_one_seed_are_one():
    clip = np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    first, second = (Channels(5).apply(clip, np.random.default_rng(2)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["opus", "vorbis", "mp3"])
def test_every_strength_of_a_codec_that_may_be_drawn_is_taken(kind):
    class Drawn:
        def choice(self, kinds):
            return kind

        def uniform(self, low, high):
            return high - 1.2e-7  # Vorbis refuses it

    clip = 0.1 * np.random.default_rng(4).standard_normal(8000).astype(np.float32)
    assert codec(clip, Drawn()).shape == clip.shape


@pytest.mark.parametrize("kind", ["ulaw", "alaw", "gsm", "opus", "vorbis", "mp3"])
def test_codecs_add_no_delay(kind):
    rng = np.random.default_rng(3)
    smooth = np.convolve(rng.standard_normal(16_000), np.ones(12) / 12, "same")
    clip = (0.3 * smooth * np.repeat(rng.random(20), 800)).astype(np.float32)

    class Drawn:
        def choice(self, kinds):
            return kind

        def uniform(self, low, high):
            return 0.7

    heard = codec(clip, Drawn())
    assert heard.shape == clip.shape
    lags = np.correlate(np.pad(heard, 300), clip, "valid")
    assert abs(int(np.argmax(lags)) - 300) <= 2
    assert np.corrcoef(heard, clip)[0, 1] > 0.85


def test_a_transcript_is_believed_only_where_it_is_said(espeak):
    texts = [
        "accendi la luce",
        "che ore sono",
        "imposta un timer",
        "dove si trova",
        "buona notte a tutti",
        "vorrei del pane",
    ]
    reader = Voice("it", "m7", Fraction(7, 10), 55, 60)
    clips = [espeak.speak(text, reader, Manner(140, 0)) for text in texts]
    assert believed(espeak, clips, texts, "it") == [True] * 6
    assert sum(believed(espeak, [clips[i - 1] for i in range(6)], texts, "it")) <= 1


def test_the_plan_grows_with_the_scale_and_knows_every_target():
    sizes = {}
    for chunk in plan(1.0):
        sizes[chunk.name, chunk.split] = sizes.get((chunk.name, chunk.split), 0) + chunk.count
    assert sizes["base", "train"] == 60_000
    assert all(sizes[language, "train"] == 12_000 for language in TARGETS)
    assert sizes["unknown", "train"] == 6_000
    base = dict(BASE)
    for language in TARGETS[1:]:
        assert 0.02 <= base[language] / sum(base.values()) <= 0.05
    assert sum(chunk.count for chunk in plan(0.01)) < 2_500
