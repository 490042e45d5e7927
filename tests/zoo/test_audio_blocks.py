"""Blocks of one recording as they come: what they join to is what the whole gives."""

import numpy as np
import pytest

from zoo import audio
from zoo.errors import AudioError


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_blocks_join_without_a_click(rate):
    time = np.arange(rate) / rate
    whole = (0.4 * np.sin(2 * np.pi * 300 * time) + 0.2 * np.sin(2 * np.pi * 1_234 * time)).astype(np.float32)
    found = np.concatenate(list(audio.joined(np.array_split(whole, 13), rate)))
    wanted = audio.from_array(whole, rate)
    assert abs(len(found) - len(wanted)) <= 1
    np.testing.assert_allclose(found[:15_900], wanted[:15_900], atol=2e-3)


def test_integers_channels_and_empty_blocks():
    block = np.full((160, 2), 16_384, np.int16)
    parts = list(audio.joined([block, block[:0], block], None))
    assert [len(part) for part in parts] == [160, 160, 0]
    np.testing.assert_allclose(np.concatenate(parts), 0.5)


def test_bad_blocks_say_so():
    with pytest.raises(AudioError, match="sample rate of 3 Hz"):
        next(audio.joined([np.zeros(5)], 3))
    with pytest.raises(AudioError, match="values of type"):
        list(audio.joined(["a.wav"], None))
