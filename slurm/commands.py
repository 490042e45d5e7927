"""`boli slurm plan | submit | status | collect | resubmit | cancel | run`."""

import fnmatch
import functools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from slurm.errors import SlurmError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Plan, submit, watch and collect studies on a SLURM cluster."
)

StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML); slurm/studies/ has the ones that ship.")]
SiteFile = Annotated[
    Path | None, typer.Option("--site", help="Site file (TOML). Default: $BOLI_SITE, then ./site.toml.")
]
Only = Annotated[
    list[str] | None, typer.Option("--only", help="Phase, or pattern for phase/task ('adapters/*_hi_*'); repeatable.")
]


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Register a command; its SlurmError becomes one line and exit code 1, its own number the exit code."""

    @functools.wraps(function)
    def run(*arguments, **options) -> None:
        try:
            code = function(*arguments, **options)
        except SlurmError as error:
            print(f"boli: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        if code:
            raise typer.Exit(code)

    app.command(function.__name__.rstrip("_"))(run)
    return run


def _look(study: Path, site: Path | None):
    from slurm.site import load_site
    from slurm.state import look
    from slurm.study import load_study

    return look(load_study(study), load_site(site))


def _chosen(picture, only: list[str] | None, states: tuple[str, ...] | None = None):
    """The states of the tasks that `only` names (all without it) and that are in one of `states` and not in hand."""
    tasks = picture.tasks
    if only:
        for pattern in only:
            if not any(_matches(state.task, pattern) for state in tasks):
                raise SlurmError(f"--only {pattern!r} matches no task", valid=", ".join(picture.study.phases))
        tasks = [state for state in tasks if any(_matches(state.task, pattern) for pattern in only)]
    return [state for state in tasks if states is None or (state.state in states and not state.live)]


def _matches(task, pattern: str) -> bool:
    return task.phase == pattern or fnmatch.fnmatchcase(task.id, pattern)


def _print(renderable) -> None:
    from rich.console import Console

    # into a pipe or a file the table keeps its full width instead of 80 columns
    Console(width=None if sys.stdout.isatty() else 220, highlight=False).print(renderable)


@command
def plan(study: StudyFile, site: SiteFile = None, only: Only = None) -> None:
    """Show what would be submitted and write the scripts to read; nothing is submitted."""
    from slurm import submission, table
    from slurm.task import unused_values

    picture = _look(study, site)
    chosen = [state.task for state in _chosen(picture, only, ("planned", "preempted"))]
    result = submission.plan(picture, chosen)
    print(f"{picture.study.name}: {picture.study.title or f'{len(picture.study.phases)} phases'}\n")
    _print(table.plan(picture, result.arrays, result.tasks))
    _say_skipped(result, picture)
    for name, phase in picture.study.phases.items():
        for value in unused_values(phase):
            print(f"\nwarning: phase {name!r} has {value!r} in its grid, but not in its command")
    for word in sorted({state.task.command.split()[0] for state in picture.tasks}):
        if "=" not in word and not shutil.which(word, path=f"{Path(picture.site.python).parent}:{_path()}"):
            print(f"\nwarning: {word!r} is not found on this machine; the jobs will need it on their PATH"
                  + (" (pip install -e .)" if word == "boli" else ""))  # fmt: skip
    print(f"\nscripts: {result.folder}\nNothing was submitted. To submit: boli slurm submit {study}")


@command
def submit(study: StudyFile, site: SiteFile = None, only: Only = None) -> int:
    """Submit every task that is neither finished nor in hand nor failed."""
    return _submit(study, site, only, ("planned", "preempted"))


@command
def resubmit(
    study: StudyFile,
    site: SiteFile = None,
    only: Only = None,
    failed: Annotated[bool, typer.Option("--failed", help="Failed, lost, cancelled, blocked tasks.")] = False,
    memory: Annotated[str, typer.Option(help="Give them this much memory instead: 64G.")] = "",
    time: Annotated[str, typer.Option(help="Give them this time limit instead: 24:00:00.")] = "",
) -> int:
    """Submit again what did not succeed; each continues from its last checkpoint. Finished tasks are never repeated."""
    from slurm.state import UNHAPPY

    if not failed and not only:
        raise SlurmError("boli slurm resubmit does not know which tasks", valid="--failed, --only PATTERN, or both")
    return _submit(study, site, only, (*UNHAPPY, "preempted"), memory, time)


def _submit(study: Path, site: Path | None, only, states: tuple[str, ...], memory: str = "", time: str = "") -> int:
    from dataclasses import replace

    from slurm import submission
    from slurm.site import load_site, with_overrides
    from slurm.study import load_study
    from slurm.task import study_folder

    folder = study_folder(load_study(study), load_site(site))
    with submission.lock(folder):
        picture = _look(study, site)
        chosen = [state.task for state in _chosen(picture, only, states)]
        chosen = [replace(t, resources=with_overrides(t.resources, memory=memory, time=time)) for t in chosen]
        if chosen:
            result = submission.submit(picture, chosen)
            for array, job, options in result.arrays:
                print(f"{job}  {array.name}: {len(array.tasks)} tasks  {' '.join(options)}".rstrip())
            for remark in result.remarks:
                print(f"warning: some tasks keep their array's larger limits: {remark}", file=sys.stderr)
            _say_skipped(result, picture)
            print(f"{result.tasks} tasks submitted. To watch: boli slurm status --watch {study}")
            return 1 if result.skipped else 0
    print("There is nothing to submit.")
    _say_skipped(None, picture)
    return 0


def _path() -> str:
    import os

    return os.environ.get("PATH", "")


def _say_skipped(result, picture) -> None:
    """Why some of the study is not among what is submitted."""
    from slurm.state import UNHAPPY

    sent = {task.id for array, _, _ in result.arrays for task in array.tasks} if result else set()
    for phase, why in (result.skipped if result else {}).items():
        print(f"{phase}: not submitted, {why}")
    if done := picture.counts()["done"]:
        print(f"{done} tasks are finished and are not run again")
    if in_hand := sum(state.live for state in picture.tasks):
        print(f"{in_hand} tasks are in the queue or running already")
    unhappy = [state for state in picture.tasks if state.state in UNHAPPY and not state.live]
    unhappy = [state for state in unhappy if state.task.id not in sent]
    if unhappy:
        first = unhappy[0]
        print(f"{len(unhappy)} tasks did not succeed ({first.task.id}: {first.note or first.state}); "
              "to submit them again: boli slurm resubmit --failed")  # fmt: skip


@command
def status(
    study: StudyFile,
    site: SiteFile = None,
    everything: Annotated[bool, typer.Option("--all", help="Every task, not only those in hand or trouble.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing until nothing is in hand; Ctrl-C ends.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks with --watch.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per task and line.")] = False,
) -> int:
    """State, step, last WER and time left of each task. Exit code 1 where a task did not succeed."""
    import json
    import time

    from slurm import collect, table
    from slurm.state import UNHAPPY

    picture = _look(study, site)
    if as_json:
        for row in collect.rows(picture):
            print(json.dumps(row))
    elif watch:
        from rich.live import Live

        with Live(table.status(picture, everything), auto_refresh=False) as live:
            while any(state.live for state in picture.tasks):
                time.sleep(max(1.0, every))
                picture = _look(study, site)
                live.update(table.status(picture, everything), refresh=True)
    else:
        _print(table.status(picture, everything))
    return int(any(state.state in UNHAPPY for state in picture.tasks))


@command
def collect(
    study: StudyFile,
    site: SiteFile = None,
    only: Only = None,
    out: Annotated[Path | None, typer.Option(help="File to write, .csv or .parquet. Default: both.")] = None,
) -> int:
    """Write one row per task: its values, state and metrics. Missing tasks are named; exit code 1 if there are any."""
    from dataclasses import replace

    from slurm import collect

    picture = _look(study, site)
    picture = replace(picture, tasks=_chosen(picture, only))
    table = collect.rows(picture)
    for path in [out] if out else [picture.folder / "results.csv", picture.folder / "results.parquet"]:
        collect.write(table, path)
        print(f"{len(table)} rows: {path}")
    missing = [state for state in picture.tasks if state.state != "done"]
    if missing:
        print(f"{len(missing)} of {len(table)} tasks are missing:")
        for state in missing:
            print(f"  {state.task.id}  {state.state}{f': {state.note}' if state.note else ''}")
    return int(bool(missing))


@command
def cancel(study: StudyFile, site: SiteFile = None, only: Only = None) -> None:
    """Cancel what is queued or running; running tasks checkpoint first and can be resubmitted."""
    from slurm import scheduler
    from slurm.submission import lock

    picture = _look(study, site)
    with lock(picture.folder):
        picture = _look(study, site)
        jobs = [state.job for state in _chosen(picture, only) if state.live and state.job]
        # dependants first: else each failure of what they need would be reported as one of their own
        scheduler.scancel(list(reversed(jobs)))
    print(f"{len(jobs)} tasks cancelled. To go on later: boli slurm resubmit --failed {study}")


@command
def run(
    study: StudyFile,
    site: SiteFile = None,
    only: Only = None,
    local: Annotated[bool, typer.Option("--local", help="On this machine, without SLURM.")] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Tasks at once.")] = 1,
    gpus: Annotated[str, typer.Option(help="GPUs to share out, one per task: 0,1.")] = "",
) -> int:
    """Run a study on this machine; what was stopped or failed is tried again, what is finished is not."""
    from slurm.local import LocalRunner
    from slurm.submission import lock

    if not local:
        raise SlurmError("boli slurm run runs tasks on this machine", valid="boli slurm run --local -j 2 STUDY",
                         remedy=f"for a cluster: boli slurm submit {study}")  # fmt: skip
    picture = _look(study, site)
    with lock(picture.folder):
        picture = _look(study, site)
        asked = list(_chosen(picture, only))
        chosen = [state.task for state in asked if state.state != "done" and not state.live]
        runner = LocalRunner(picture, jobs, [gpu for gpu in gpus.split(",") if gpu])
        outcome = runner.run(chosen)
    ended = [outcome[task.id] for task in chosen]
    rest = sum(state.state == "done" for state in asked)
    print(f"{ended.count('done')} of {len(chosen)} tasks done" + (f", {rest} were finished before" if rest else ""))
    return 0 if all(state == "done" for state in ended) else (130 if runner.stopping.is_set() else 1)
