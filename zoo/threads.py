"""How many threads torch may use, for the length of a block."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def thread_count(count: int = 0) -> Iterator[int]:
    """torch with `count` threads (0: as many as it has), and with as many as before at the end, whatever happens.

    A process that leaves the block with another count computes other last bits than one started afresh.
    """
    import torch

    before = torch.get_num_threads()
    try:
        if count:
            torch.set_num_threads(count)
        yield count or before
    finally:
        torch.set_num_threads(before)
