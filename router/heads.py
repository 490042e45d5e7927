"""Language heads on frozen tap features.

Each maps hidden states `[B, T, d]` and lengths `[B]` to frame logits `[B, T, L]` and utterance logits `[B, L]`. Only
real frames are pooled.
"""

import torch
from torch import nn

from zoo.joining import frame_mask


def mean_pool(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """`[B, T, d]` -> `[B, d]` over real frames."""
    mask = frame_mask(lengths, x.shape[1])[:, :, None]
    return (x * mask).sum(dim=1) / lengths[:, None].clamp(min=1)


def centred(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """`[B, T, d]` less each clip's mean over its real frames; 0 behind them.

    What stays the same through a clip is its voice and its channel: without it a head hears sounds (as cepstral mean
    subtraction: Atal, JASA 1974; Furui, IEEE ASSP 1981)."""
    mask = frame_mask(lengths, x.shape[1])[:, :, None]
    return (x - mean_pool(x, lengths)[:, None]) * mask


class LinearHead(nn.Module):
    """Mean pool, then one linear map; the same map gives the frames."""

    def __init__(self, size: int, classes: int, width: int = 0):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.out = nn.Linear(size, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.norm(x)
        return self.out(x), self.out(mean_pool(x, lengths))


class MlpHead(nn.Module):
    """A hidden layer per frame, mean pool, linear."""

    def __init__(self, size: int, classes: int, width: int = 128):
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width), nn.GELU(), nn.Dropout(0.1))
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x)
        return self.out(x), self.out(mean_pool(x, lengths))


class CnnHead(nn.Module):
    """Two convolutions over time (padding is zeroed before each), mean pool, linear."""

    def __init__(self, size: int, classes: int, width: int = 128, kernel: int = 9):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.first = nn.Conv1d(size, width, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = frame_mask(lengths, x.shape[1])[:, None, :]
        x = self.norm(x).transpose(1, 2) * mask
        x = nn.functional.gelu(self.first(x)) * mask
        x = self.drop(nn.functional.gelu(self.second(x))).transpose(1, 2)
        return self.out(x), self.out(mean_pool(x, lengths))


class LstmHead(nn.Module):
    """A bidirectional LSTM (packed, so padding is never read), mean pool, linear."""

    def __init__(self, size: int, classes: int, width: int = 64):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.lstm = nn.LSTM(size, width, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames = x.shape[1]
        packed = nn.utils.rnn.pack_padded_sequence(self.norm(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=frames)
        return self.out(x), self.out(mean_pool(x, lengths))


class AttentionHead(nn.Module):
    """Self-attentive pooling: a learned weight per frame, softmax over real frames (Safari et al., Interspeech 2020)."""

    def __init__(self, size: int, classes: int, width: int = 128):
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, width), nn.GELU(), nn.Dropout(0.1))
        self.score = nn.Linear(width, 1)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x)
        score = self.score(x)[:, :, 0].masked_fill(~frame_mask(lengths, x.shape[1]), float("-inf"))
        pooled = (score.softmax(dim=1)[:, :, None] * x).sum(dim=1)
        return self.out(x), self.out(pooled)


class TdnnHead(nn.Module):
    """Dilated convolutions over time, one channel each, and a mixing layer behind each (time-delay network: Snyder et
    al., ICASSP 2018; separable as in Chollet 2017): a frame hears 0.6 s on both sides at 50 frames a second. Mean pool.

    A language shows in the order of sounds, hardly in one frame: this is the head that tells frames apart."""

    def __init__(
        self, size: int, classes: int, width: int = 96, kernel: int = 5, dilations: tuple[int, ...] = (1, 2, 4, 8)
    ):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in dilations)
        self.over_time = nn.ModuleList(
            nn.Conv1d(width, width, kernel, padding=kernel // 2 * d, dilation=d, groups=width) for d in dilations
        )
        self.mixing = nn.ModuleList(nn.Linear(width, width) for _ in dilations)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = frame_mask(lengths, x.shape[1])[:, :, None]
        x = nn.functional.gelu(self.first(self.norm(x)))
        for norm, over_time, mixing in zip(self.norms, self.over_time, self.mixing, strict=True):
            heard = over_time((norm(x) * mask).transpose(1, 2)).transpose(1, 2)
            x = x + self.drop(nn.functional.gelu(mixing(heard)))
        return self.out(x), self.out(mean_pool(x, lengths))


class FollowingHead(nn.Module):
    """Reads frames in the order in which they come, so each answer rests on its own frame and those before: one hidden
    layer, then gated recurrent units (Cho et al., EMNLP 2014).

    What is spoken now is heard against what was spoken before, in the same voice and the same room; and it is taught on
    frames that have hardly any sound behind them, as a causal decision reads them."""

    def __init__(self, size: int, classes: int, width: int = 128, layers: int = 1):
        """layers: so many layers' states stand beside each other, each `size` wide."""
        super().__init__()
        self.layers = layers
        self.first = nn.Linear(layers * size, width)
        self.drop = nn.Dropout(0.1)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x `[B, T, layers * size]`; state: of an earlier call, None at a recording's start. Logits `[B, T, L]`, and the state."""
        each = x.unflatten(-1, (self.layers, -1))
        x = nn.functional.layer_norm(each, each.shape[-1:]).flatten(-2)
        x = self.drop(nn.functional.gelu(self.first(x)))
        x, state = self.memory(x, state)
        return self.out(self.drop(x)), state


HEADS: dict[str, type[nn.Module]] = {
    "linear": LinearHead,
    "mlp": MlpHead,
    "cnn": CnnHead,
    "lstm": LstmHead,
    "attention": AttentionHead,
    "tdnn": TdnnHead,
}
