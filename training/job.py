"""A job from its first status to its last."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.run import Run
from training.signals import Preempted, StopRequest


def carry_out(run: Run, work: Callable[[StopRequest], Mapping[str, Any]]) -> Path:
    """Do `work`, which gives the final metrics, and write how it ended to the run's status. Returns the run's folder.

    What `work` raises is raised: Preempted when it was asked to leave and has written its checkpoint.
    """
    try:
        with StopRequest() as stop:
            final = work(stop)
    except Preempted as why:
        run.finish({}, "preempted", str(why))
        raise
    except BaseException as error:
        run.finish({}, "failed", f"{type(error).__name__}: {error}")
        raise
    run.finish(final)
    return run.folder
