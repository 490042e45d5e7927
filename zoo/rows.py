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
