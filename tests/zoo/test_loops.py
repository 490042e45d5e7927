"""What only the limit ended, in the middle of a repetition, is kept once; nothing else changes."""

import pytest

from zoo.loops import repeated, without_loop
from zoo.search import Found


@pytest.mark.parametrize(
    ("tokens", "more"),
    [
        ([], 0),
        ([1, 2, 3], 0),
        ([5] * 11, 0),  # too few tokens
        ([5] * 12, 11),
        ([1, 2, 3] + [4, 5, 6, 7] * 3, 8),
        ([1, 2, 3] + [4, 5, 6, 7] * 2, 0),  # too few rounds
        ([9, 9] + [4, 5, 6, 7] * 4 + [4, 5], 14),  # the last round is cut off
        ([4, 5, 6, 7] * 5 + [1], 0),  # it had gone on
    ],
)
def test_rounds_are_counted(tokens, more):
    assert repeated(tokens) == more


def test_a_loop_that_the_limit_ended_is_kept_once():
    looped = Found([1, *[2, 3, 4] * 5], -16.0, [-1.0] * 16)
    cut = without_loop(looped)
    assert (cut.tokens, cut.log_probability, cut.token_log_probabilities) == ([1, 2, 3, 4], -4.0, [-1.0] * 4)


def test_what_ended_by_itself_is_left_alone():
    said = Found([7] * 20, -21.0, [-1.0] * 21)  # the last is the end token's
    assert without_loop(said) is said


def test_a_decoder_that_never_ends_is_cut_by_the_router(toy_base, monkeypatch):
    """Through the family's own search: the end of text is forbidden, and every step says the same."""
    from zoo.interface import DecodeOptions

    hidden = toy_base.encode(toy_base.features([_noise()]))
    monkeypatch.setattr("zoo.whisper.greedy", lambda *_: [Found([5, 6] * 10, -20.0, [-1.0] * 20)])
    plain = toy_base.decode(hidden, ["en"], DecodeOptions(max_tokens=20))[0]
    cut = toy_base.decode(hidden, ["en"], DecodeOptions(max_tokens=20, cut_loops=True))[0]
    assert (plain.tokens, cut.tokens) == ((5, 6) * 10, (5, 6))
    assert cut.log_probability == -2.0


def _noise():
    import numpy as np

    from zoo.speech import Utterance

    return Utterance(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32))
