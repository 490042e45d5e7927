"""The loss over frames of the heads: of those that count more, too."""

import torch
import torch.nn.functional as F


def frame_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    counts: torch.Tensor,
    class_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy, the mean over frames: logits `[n, L]`, labels `[n]`; counts `[n]`: how much each frame counts;
    class_weights `[L]`: and each class (None: alike). 0 where there are no frames."""
    each = F.cross_entropy(logits, labels, class_weights, label_smoothing=label_smoothing, reduction="none")
    total = counts if class_weights is None else class_weights[labels] * counts
    return (each * counts).sum() / total.sum().clamp(min=1e-6)
