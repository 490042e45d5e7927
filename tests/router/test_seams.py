"""No frame is dropped or doubled, wherever the cuts lie."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from router.seams import at_quietest, own_frames, stretch
from zoo.interface import Hidden

FRAME = 320


def base(context: str = "dynamic"):
    """Only what cutting needs of a base model: 50 frames a second, a grid of 1 s, up to 30 s."""

    def grid_s(utterance):
        return 30.0 if context == "30s" else float(max(1, -(-len(utterance.audio) // 16_000)))

    return SimpleNamespace(frame_rate=50.0, max_duration_s=30.0, grid_s=grid_s)


@pytest.mark.parametrize("seed", range(30))
def test_random_cuts_leave_every_frame_in_one_segment(seed):
    """Through the very functions that the router uses; an encoder that gives each frame its own number."""
    random = np.random.default_rng(seed)
    audio = random.standard_normal(int(random.integers(3 * FRAME, 25 * 16_000))).astype(np.float32)
    frames = -(-len(audio) // FRAME)
    cuts = sorted(
        random.choice(np.arange(1, frames), min(frames - 1, int(random.integers(1, 30))), replace=False).tolist()
    )
    moved = at_quietest(audio, cuts, frames, FRAME, int(random.integers(0, 12)))
    assert len(moved) == len(cuts)
    assert all(a < b for a, b in zip([0, *moved], [*moved, frames], strict=True))
    context, kind = int(random.integers(0, 20)), base(str(random.choice(["30s", "dynamic"])))
    heard, sound = [], []
    for start, end in zip([0, *moved], [*moved, frames], strict=True):
        one = stretch(kind, audio, start, end, context)
        assert len(one.utterance.audio) / 16_000 <= 30.0
        total = round(kind.grid_s(one.utterance) * 50)
        assert one.left + one.kept + one.right <= total
        numbers = torch.full((total,), -1)  # of the chunk's frames; -1: silence behind
        real = min(frames, end + one.right) - (start - one.left)
        numbers[:real] = torch.arange(start - one.left, start - one.left + real)
        seen = own_frames(Hidden(numbers[None, :, None].float(), torch.tensor([total]), 0), [one])
        assert seen.values.shape[1] == one.kept >= one.own
        assert seen.lengths.tolist() == [one.own]
        heard += seen.values[0, : one.own, 0].int().tolist()
        assert (seen.values[0, one.own :, 0] == -1).all(), "behind its own frames there is silence, not the neighbour"
        sound.append(one.utterance.audio[one.left * FRAME : (one.left + one.own) * FRAME])
    assert heard == list(range(frames))
    assert np.array_equal(np.concatenate(sound)[: len(audio)], audio)


def test_a_seam_moves_into_the_pause_beside_it():
    audio = np.ones(100 * FRAME, np.float32)
    audio[46 * FRAME : 48 * FRAME] = 0.001
    assert at_quietest(audio, [50], 100, FRAME, 7) == [47]
    assert at_quietest(audio, [50], 100, FRAME, 1) == [50], "too far away"
    assert at_quietest(np.ones_like(audio), [50], 100, FRAME, 7) == [50], "nowhere quieter"
    assert at_quietest(audio, [48, 51], 100, FRAME, 7) == [47, 51], "never over a third of the neighbour"


def test_one_batch_holds_segments_with_and_without_context_in_front():
    audio = np.ones(3 * 16_000, np.float32)
    first, last = stretch(base(), audio, 0, 40, 10), stretch(base(), audio, 110, 150, 10)
    assert (first.left, first.right, last.left, last.right) == (0, 10, 10, 0)
    assert first.kept == last.kept == 50
    hidden = Hidden(torch.arange(100.0).repeat(2, 1)[:, :, None], torch.tensor([100, 100]), 0)
    seen = own_frames(hidden, [first, last]).values[:, :, 0].int().tolist()
    assert seen[0] == [*range(40), *range(50, 60)]
    assert seen[1] == [*range(10, 50), *range(50, 60)]
