"""A bar on stderr for what takes long; silent where stderr is no terminal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def steps(label: str, items: Sequence[T] | Iterable[T], total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """The items, one by one, with a bar that names `label` and the time left. show=False: only the items."""
    if not show:
        yield from items
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        if total is None and isinstance(items, Sequence):
            total = len(items)
        yield from bars.track(items, total=total, description=label)
