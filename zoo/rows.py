"""Who must know when the rows of a running decode are moved.

A decode expands rows into beams, reorders them and drops finished ones. Whatever holds a value per row beside the
cache (a mixture of adapters) has to move by the very index that moved the cache. The zoo knows nobody, so whoever
cares enters `following(...)` around the call; `moved(index)` tells the followers of this call and of no other one:
the list lives in a context variable, which threads and tasks do not share.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Follower(Protocol):
    """Something with one value per row."""

    def select(self, index: "torch.Tensor") -> None:
        """Row i becomes what row `index[i]` was; `index` int64 `[new rows]`."""

    def snapshot(self) -> Any: ...

    def restore(self, state: Any) -> None: ...


_followers: ContextVar[tuple[Follower, ...]] = ContextVar("boli_row_followers", default=())


@contextmanager
def following(follower: Follower) -> Iterator[None]:
    """Tell `follower` of every move made inside this block."""
    token = _followers.set((*_followers.get(), follower))
    try:
        yield
    finally:
        _followers.reset(token)


@contextmanager
def moving() -> Iterator[None]:
    """Around one decode: afterwards, also after an exception, the followers' rows are as they were before."""
    saved = [(follower, follower.snapshot()) for follower in _followers.get()]
    try:
        yield
    finally:
        for follower, state in saved:
            follower.restore(state)


def moved(index: "torch.Tensor") -> None:
    """Say that the rows were moved: new row i is old row `index[i]`."""
    for follower in _followers.get():
        follower.select(index)


def followers() -> tuple[Follower, ...]:
    """Who follows the rows of this call: the same object as long as nobody came or went."""
    return _followers.get()


def members_of(index: "torch.Tensor", size: int) -> "torch.Tensor":
    """int64 `[n]` -> `[n * size]`: the rows `i * size ... i * size + size - 1` for each i of `index`."""
    import torch

    return (index[:, None] * size + torch.arange(size, device=index.device)).reshape(-1)


@contextmanager
def in_groups(size: int) -> Iterator[None]:
    """Inside this block a search's row stands for `size` neighbouring rows of every follower."""
    token = _followers.set(tuple(_Grouped(follower, size) for follower in _followers.get()))
    try:
        yield
    finally:
        _followers.reset(token)


class _Grouped:
    """A follower with `size` rows for each row of the search."""

    def __init__(self, follower: Follower, size: int):
        self.follower, self.size = follower, size

    def select(self, index: "torch.Tensor") -> None:
        self.follower.select(members_of(index, self.size))

    def snapshot(self) -> Any:
        return self.follower.snapshot()

    def restore(self, state: Any) -> None:
        self.follower.restore(state)
