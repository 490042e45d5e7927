"""The loss over frames by hand; with weights of classes and smoothed labels: tests/training/test_following.py."""

import math

import pytest
import torch

from training.frame_loss import frame_loss


def test_each_frame_counts_as_often_as_it_is_told():
    """ln 2 for an undecided frame, ln(1 + e) for a wrong one by a nat: (1 ln 2 + 3 ln(1 + e)) / 4; padding counts nothing."""
    logits = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]]])
    labels, counts = torch.tensor([[0, 0, -1]]), torch.tensor([[1.0, 3.0, 9.0]])
    real = labels >= 0
    expected = (math.log(2) + 3 * math.log(1 + math.e)) / 4
    assert float(frame_loss(logits[real], labels[real], counts[real])) == pytest.approx(expected)
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert float(frame_loss(logits[none], labels[none], counts[none])) == 0.0
