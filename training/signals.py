"""SIGTERM and SIGUSR1 mean: checkpoint now and leave.

A cluster sends one of them shortly before it kills a job. The handler only raises a flag; the loop looks at it
after each step, writes its checkpoint and raises `Preempted`, so that nothing is saved half-way through an update.
"""

import signal
import threading
from typing import Any


class Preempted(Exception):
    """The job was asked to leave and has written its checkpoint."""


EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: try again later


class StopRequest:
    """`with StopRequest() as stop: ... if stop: save()`. Handlers are put back at the end.

    Signals reach the main thread only; elsewhere (a test's thread, a notebook's kernel) the flag is never raised.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.received: str = ""
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.received = signal.Signals(number).name

    def __bool__(self) -> bool:
        return bool(self.received)
