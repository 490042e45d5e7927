"""Word times: the warping and the filter pinned to transformers', and words that join the right tokens."""

import numpy as np
import pytest
import torch
from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

from zoo.whisper_words import _median, split_words, token_starts


@pytest.mark.parametrize("seed", range(8))
def test_token_starts_equal_transformers_warping(seed):
    rng = np.random.default_rng(seed)
    cost = rng.standard_normal((rng.integers(2, 30), rng.integers(30, 200)))
    tokens, frames = _dynamic_time_warping(cost)
    jumps = np.pad(np.diff(tokens), (1, 0), constant_values=1).astype(bool)
    assert np.array_equal(token_starts(cost), frames[jumps])


def test_fewer_frames_than_tokens_still_align():
    assert token_starts(np.zeros((5, 1))).tolist() == [0] * 5
    assert sorted(token_starts(np.random.default_rng(0).standard_normal((9, 3))).tolist())[-1] <= 2


def test_the_filter_equals_transformers():
    x = torch.randn(2, 3, 5, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_median(x[0]), _median_filter(x[0], 7))


class Letters:
    """A tokenizer whose tokens are pieces of bytes."""

    def __init__(self, *pieces: bytes):
        self.pieces = pieces

    def decode(self, tokens, **_):
        return b"".join(self.pieces[token] for token in tokens).decode("utf-8", errors="replace")


def test_words_join_spaces_punctuation_and_split_characters():
    hindi = "कि".encode()
    pieces = (b" On", b"ly", b" two", b".", b" \xe2\x80\x9c", b"so", b" " + hindi[:4], hindi[4:], "।".encode())
    found = split_words(Letters(*pieces), list(range(len(pieces))))
    assert found == [(" Only", 0, 2), (" two.", 2, 4), (" “so", 4, 6), (" कि।", 6, 9)]
