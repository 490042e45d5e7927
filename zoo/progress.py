"""Progress of long copies and downloads: silent for programs, bars on stderr for people."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """A new file of `total` bytes (None: unknown), of which `done` are already there."""

    def advance(self, n_bytes: int) -> None: ...

    def say(self, text: str) -> None:
        """One line for people: what is waited for or tried again."""


class Silent:
    def start(self, label: str, total: int | None, done: int = 0) -> None:
        pass

    def advance(self, n_bytes: int) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class Bars:
    """Rich bars on stderr; a context manager. Where stderr is no terminal, one line for each file."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True, file=sys.stderr)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        self._bars = RichProgress(*columns, TimeRemainingColumn(), console=self._console)
        self._tasks = {}
        self._task = None

    def __enter__(self) -> "Bars":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        if self._console.is_terminal:
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=total)
            self._task = self._tasks[label]
            self._bars.update(self._task, total=total, completed=done)
            return
        size = "size unknown" if total is None else f"{total:,} bytes"
        resumed = f", going on from {done:,}" if done else ""
        print(f"{label}: {size}{resumed}", file=sys.stderr, flush=True)

    def advance(self, n_bytes: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, n_bytes)

    def say(self, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """transformers shows bars of its own for loads and saves that take no time; inside this block it does not."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
