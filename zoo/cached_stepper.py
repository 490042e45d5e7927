"""What every attention decoder's steps share: a cache of keys and values whose rows can be moved."""

from abc import ABC, abstractmethod

import torch

from zoo import rows
from zoo.errors import ModelError
from zoo.interface import Hidden
from zoo.joining import frame_mask


class CachedStepper(ABC):
    """A `zoo.search.Stepper` for one batch; a family's own says how the cache is opened and how a step is computed.

    states: the finished encoder's; prompt: int64 `[B, P]`. Keys and values are `[R, heads, positions, d / heads]`, one a
    layer, those of the cross-attention computed once.
    """

    def __init__(self, states: Hidden, prompt: torch.Tensor):
        self.prompt = prompt
        self.states: torch.Tensor | None = states.values
        self.seen = states.seen
        self.position = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.cross_keys: list[torch.Tensor] = []
        self.cross_values: list[torch.Tensor] = []
        self.cross_mask: torch.Tensor | None = None
        """bool `[R, 1, 1, T]`, the frames that each row sees; None where it sees all."""
        self.followers: tuple = ()

    def start(self) -> torch.Tensor:
        states, self.states = self.states, None
        assert states is not None, "a decode starts once"
        self.followers = rows.followers()
        self._open(states)
        # A step reads all of them: in the order in which they are read that pays for long clips.
        self.cross_keys = [key.contiguous() for key in self.cross_keys]
        self.cross_values = [value.contiguous() for value in self.cross_values]
        self._mask(states.shape[1])
        return self._run(self.prompt)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._run(tokens[:, None])

    def select(self, index: torch.Tensor, same_clips: bool) -> None:
        self.keys = [_moved(key, index, self.position) for key in self.keys]
        self.values = [_moved(value, index, self.position) for value in self.values]
        if same_clips:
            return
        frames = self.cross_keys[0].shape[2]
        if self.seen is not None:
            self.seen = self.seen[index]
            frames = int(self.seen.max())  # the longest clips may be finished
        self.cross_keys = [key[index, :, :frames] for key in self.cross_keys]
        self.cross_values = [value[index, :, :frames] for value in self.cross_values]
        self._mask(frames)

    def _mask(self, frames: int) -> None:
        self.cross_mask = None
        if self.seen is not None and bool((self.seen < frames).any()):
            self.cross_mask = frame_mask(self.seen, frames)[:, None, None]

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits `[R, V]` of the token after `tokens` `[R, n]`. Raises ModelError where the adapters have changed."""
        if rows.followers() is not self.followers:
            raise ModelError(
                "A decode goes on under other adapters than those that filled its cache",
                valid="one mixture from the first token to the last",
                remedy="start a new decode",
            )
        start, self.position = self.position, self.position + tokens.shape[1]
        return self._logits(tokens, start, self.position)

    @abstractmethod
    def _open(self, states: torch.Tensor) -> None:
        """Lay out `keys` and `values`, and fill `cross_keys` and `cross_values`."""

    @abstractmethod
    def _logits(self, tokens: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Logits `[R, V]` after `tokens` `[R, stop - start]`, which stand at these positions."""


def split_heads(x: torch.Tensor, heads: int, width: int) -> torch.Tensor:
    """`[R, n, heads * width]` -> `[R, heads, n, width]`"""
    return x.view(x.shape[0], x.shape[1], heads, width).transpose(1, 2)


def joined_heads(x: torch.Tensor) -> torch.Tensor:
    """`[R, heads, n, width]` -> `[R, n, heads * width]`"""
    return x.transpose(1, 2).flatten(2)


def _moved(cache: torch.Tensor, index: torch.Tensor, length: int) -> torch.Tensor:
    new = cache.new_empty((len(index), *cache.shape[1:]))
    new[:, :, :length] = cache[index, :, :length]
    return new
