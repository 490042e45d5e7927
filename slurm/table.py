"""The tables that `boli slurm` prints."""

from collections import Counter

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from slurm.state import STATES, Picture, TaskState

COLOURS = {"done": "green", "running": "cyan", "preempted": "yellow", "queued": "blue", "failed": "red",
           "blocked": "magenta", "cancelled": "magenta", "lost": "red", "planned": "dim"}  # fmt: skip
SHOWN_AT_ONCE = 40


def status(picture: Picture, everything: bool = False) -> Group:
    """Counts by phase, then tasks: those in hand and those in trouble; `everything`: all of them."""
    parts: list[Table | Text] = [_phases(picture)]
    shown = [s for s in picture.tasks if everything or s.state not in ("done", "planned", "queued")]
    hidden = 0
    if not everything and len(shown) > SHOWN_AT_ONCE:
        shown.sort(key=lambda s: s.state not in ("failed", "lost", "running"))
        hidden, shown = len(shown) - SHOWN_AT_ONCE, shown[:SHOWN_AT_ONCE]
    if shown:
        parts += [Text(""), _tasks(shown)]
    if hidden:
        parts.append(Text(f"and {hidden} more: --all shows every task", style="dim"))
    parts += [Text(remark, style="yellow") for remark in picture.remarks]
    return Group(*parts)


def _phases(picture: Picture) -> Table:
    present = [state for state in STATES if picture.counts()[state]]
    columns = [Column(Text(name, style=COLOURS[name]), justify="right") for name in present]
    table = Table("phase", Column("tasks", justify="right"), *columns, box=None, padding=(0, 2, 0, 0))
    for phase in picture.study.order():
        counts = Counter(state.state for state in picture.of(phase))
        cells = [Text(str(counts[s]) if counts[s] else "·", style=COLOURS[s]) for s in present]
        table.add_row(phase, str(counts.total()), *cells)
    return table


def _tasks(states: list[TaskState]) -> Table:
    table = Table("task", "state", "step", "WER", "ETA", "restarts", "job", "host", "note", box=None,
                  padding=(0, 2, 0, 0))  # fmt: skip
    for column in table.columns[2:6]:
        column.justify = "right"
    table.columns[0].overflow = "fold"
    for s in states:
        step = f"{s.step}/{s.steps}" if s.steps else (str(s.step) if s.step else "")
        wer = "" if s.wer is None else f"{100 * s.wer:.1f} %"
        eta = duration(s.eta_s) if s.state == "running" and s.eta_s is not None else ""
        table.add_row(s.task.id, Text(s.state, style=COLOURS[s.state]), step, wer, eta, str(s.restarts or ""), s.job,
                      s.host, s.note)  # fmt: skip
    return table


def duration(seconds: float) -> str:
    """`2 d 3 h`, `5 h 20 m`, `4 m 10 s`: two units are enough to plan a day."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        amount, left = divmod(left, size)
        if amount or (unit == "s" and not parts):
            parts.append(f"{amount} {unit}")
    return " ".join(parts[:2])


def plan(picture: Picture, arrays: list, tasks: int) -> Table:
    """What would run: per array the tasks, what each asks for, what it waits for, GPU hours at most."""
    table = Table("phase", "tasks", "each asks for", "waits for", "GPU hours", box=None, padding=(0, 2, 0, 0))
    table.columns[1].justify = table.columns[4].justify = "right"
    total = 0.0
    for array, _, options in arrays:
        hours = sum(task.resources.gpu_hours for task in array.tasks)
        total += hours
        r = array.resources
        machines = f"{r.nodes} nodes × " if r.nodes > 1 else ""
        asks = f"{machines}{r.gpus} GPU, {r.cpus} cores, {r.memory}, {r.time}"
        if lowered := array.lowered():
            asks += "".join(f"\n  {len(_members(elements))}: {memory}, {time}" for elements, time, memory in lowered)
        waits = ", ".join(o.removeprefix("--dependency=") for o in options if o.startswith("--dependency"))
        table.add_row(array.name, str(len(array.tasks)), asks, waits, f"{hours:,.0f}")
    table.add_section()
    table.add_row("all", str(tasks), "", "", f"{total:,.0f}", style="bold")
    return table


def _members(elements: str) -> list[int]:
    found: list[int] = []
    for part in elements.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
