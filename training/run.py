"""A run: the folder that a job leaves behind (design.md, section 4.6).

`status.json` is all that others read while the job runs; it is replaced atomically, so a reader never sees half of
it. Metrics go to the same places from one call: the log, the curves, TensorBoard and Weights & Biases.
"""

import csv
import io
import json
import logging
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from training.data.files import written_whole
from training.recipe import RunOptions
from zoo.errors import RecipeError

State = Literal["queued", "running", "done", "failed", "preempted"]
STATUS_EVERY_S = 2.0  # a status is rewritten at most this often while running


@dataclass
class Status:
    """What `status.json` holds."""

    state: State = "queued"
    step: int = 0
    steps: int = 0
    """Steps planned; 0 where only the clock decides."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Latest value of each metric."""
    eta_s: float | None = None
    updated: str = ""
    """UTC, ISO 8601."""
    host: str = ""
    restarts: int = 0
    error: str | None = None


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`: a reader sees the old file or the new one, never a part. Raises DataError."""
    with written_whole(path) as staged:
        staged.write_text(text, encoding="utf-8")


def read_status(folder: Path) -> Status:
    return Status(**json.loads((folder / "status.json").read_text(encoding="utf-8")))


class Run:
    """One job's folder, log and trackers. Only the process of rank 0 writes; `active=False` makes all calls silent."""

    def __init__(self, folder: Path, options: RunOptions, config_text: str, restarts: int = 0, active: bool = True):
        self.folder, self.options, self.active = folder, options, active
        self.status = Status(host=socket.gethostname(), restarts=restarts)
        self.history: list[dict[str, float]] = []
        self.final: dict[str, Any] = {}
        self._written = 0.0
        self._tensorboard: Any = None
        self._wandb: Any = None
        self.logger = logging.getLogger(f"boli.run.{folder.name}")
        if not active:
            return
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self._open_log()
        if restarts == 0:
            write_atomically(folder / "config.yaml", config_text)
        elif (folder / "metrics.json").is_file():
            self.history = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["history"]
        self._open_trackers(config_text)
        self.update("running", force=True)

    @classmethod
    def start(cls, options: RunOptions, config_text: str, default_name: str, active: bool = True) -> "Run":
        """A new run folder. Two jobs that start in the same second get different folders."""
        name = options.name or default_name
        root = Path(options.root)
        for attempt in range(1000):
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            folder = root / f"{stamp}_{name}{f'-{attempt}' if attempt else ''}"
            if not active:
                return cls(folder, options, config_text, active=False)
            try:
                folder.mkdir(parents=True)
                return cls(folder, options, config_text)
            except FileExistsError:
                continue
        raise RecipeError(f"Run folder {str(root / name)!r} could not be made", remedy="give another run.name")

    @staticmethod
    def unfinished(options: RunOptions) -> Path | None:
        """The newest run of `options.name` under `options.root` that is not done: what a requeued job goes on with.

        A run that was killed before it could write its first status.json has nothing to go on with.
        """
        if not options.name:
            raise RecipeError(
                "run.resume_latest is set and run.name is empty", remedy="give the run a name: run.name=NAME"
            )
        stamped = re.compile(rf"\d{{8}}-\d{{6}}_{re.escape(options.name)}(-\d+)?")
        folders = [
            path.parent for path in Path(options.root).glob("*/status.json") if stamped.fullmatch(path.parent.name)
        ]
        return max((folder for folder in folders if read_status(folder).state != "done"), default=None)

    @classmethod
    def resume(cls, folder: Path, options: RunOptions, active: bool = True) -> "Run":
        """Go on in an existing folder: restarts + 1, same config, curves continued."""
        if not (folder / "status.json").is_file():
            raise RecipeError(f"Run {str(folder)!r} has no status.json", valid="a folder that `boli train` made")
        status = read_status(folder)
        return cls(folder, options, (folder / "config.yaml").read_text(encoding="utf-8"), status.restarts + 1, active)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def log(
        self, step: int, metrics: Mapping[str, float], steps: int = 0, eta_s: float | None = None, quiet: bool = False
    ) -> None:
        """Record `metrics` of one step everywhere."""
        if not self.active:
            return
        values = {key: float(value) for key, value in metrics.items()}
        self.history.append({"step": step, "time": round(time.time(), 3), **values})
        self.status.metrics |= values
        self.status.step, self.status.steps, self.status.eta_s = step, steps, eta_s
        if not quiet:
            self.logger.info("step %d  %s", step, "  ".join(f"{k} {v:.5g}" for k, v in values.items()))
        if self._tensorboard:
            for key, value in values.items():
                self._tensorboard.add_scalar(key, value, step)
        if self._wandb:
            self._wandb.log(values, step=step)
        self.update("running")

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step`: the resumed run will log those steps again."""
        self.history = [row for row in self.history if row["step"] <= step]

    def update(self, state: State, error: str | None = None, force: bool = False) -> None:
        if not self.active:
            return
        self.status.state, self.status.error = state, error
        now = time.monotonic()
        if not force and now - self._written < STATUS_EVERY_S:
            return
        self._written = now
        self.status.updated = datetime.now(UTC).isoformat(timespec="seconds")
        write_atomically(self.folder / "status.json", json.dumps(asdict(self.status), indent=1, allow_nan=True))
        write_atomically(self.folder / "metrics.json", json.dumps({"final": self.final, "history": self.history}))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `rows` as `<name>.csv`; the columns are the keys of all rows in order of appearance."""
        if not self.active:
            return
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.folder / f"{name}.csv", text.getvalue())

    def finish(self, final: Mapping[str, Any], state: State = "done", error: str | None = None) -> None:
        """Last status, curves, and the trackers closed."""
        if not self.active:
            return
        self.final = dict(final)
        if state == "done":
            self.status.eta_s = 0.0
            self.status.metrics |= {k: float(v) for k, v in final.items() if isinstance(v, int | float)}
        self.update(state, error, force=True)
        if self.history:
            self._draw()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish(exit_code=0 if state == "done" else 1)
        for handler in list(self.logger.handlers):
            handler.close()
            self.logger.removeHandler(handler)

    def _open_log(self) -> None:
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        for handler in (logging.FileHandler(self.folder / "train.log", encoding="utf-8"), logging.StreamHandler()):
            handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
            self.logger.addHandler(handler)

    def _open_trackers(self, config_text: str) -> None:
        import yaml

        if self.options.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.folder / "tensorboard"))
        if self.options.wandb != "none":
            import wandb

            self._wandb = wandb.init(
                project=self.options.wandb_project,
                name=self.folder.name,
                id=self.folder.name,
                dir=str(self.folder),
                mode=cast(Any, self.options.wandb),
                config=yaml.safe_load(config_text),
                resume="allow",
            )

    def _draw(self) -> None:
        """curves.png: one panel per metric, small, so that a glance tells whether the job learned."""
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:  # a training must not fail at its end for want of a picture
            self.logger.warning("no curves.png: matplotlib is not installed")
            return

        keys = list(dict.fromkeys(k for row in self.history for k in row if k not in ("step", "time")))
        columns = min(3, len(keys))
        rows = -(-len(keys) // columns)
        figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        for i, key in enumerate(keys):
            axes = figure.add_subplot(rows, columns, i + 1)
            points = [(row["step"], row[key]) for row in self.history if key in row]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 40 else "")
            axes.set_title(key)
            axes.set_xlabel("step")
            axes.grid(alpha=0.3)
        figure.savefig(self.folder / "curves.png", dpi=110)
