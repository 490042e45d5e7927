"""Run a study on this machine, without SLURM: the same tasks, folders and rules, a few at a time."""

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from slurm import attempt
from slurm.site import Site
from slurm.state import Picture
from slurm.study import Study
from slurm.task import Task


class LocalRunner:
    """Runs tasks in subprocesses. The first SIGINT or SIGTERM tells them to checkpoint; they continue next time."""

    def __init__(self, picture: Picture, jobs: int, gpus: Sequence[str] = (), say=print):
        self.picture, self.jobs, self.say = picture, jobs, say
        self.study: Study = picture.study
        self.site: Site = picture.site
        self.logs = picture.folder / self.site.logs
        self.gpus: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.has_gpus = bool(gpus)
        for gpu in gpus:
            self.gpus.put(gpu)
        self.stopping = threading.Event()
        self.running: dict[str, subprocess.Popen] = {}
        # how each task ended: done, again, failed; tasks that are not run now keep the state they have
        self.outcome = {state.task.id: state.state for state in picture.tasks}

    def run(self, chosen: Iterable[Task]) -> dict[str, str]:
        """Run the chosen tasks as their needs are met; returns task id -> outcome."""
        self.logs.mkdir(parents=True, exist_ok=True)
        waiting = list(chosen)
        self.outcome |= {task.id: "waiting" for task in waiting}
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        futures: dict[Future, Task] = {}
        try:
            with ThreadPoolExecutor(self.jobs) as pool:
                while waiting or futures:
                    for task in list(waiting):
                        verdict = "stopped" if self.stopping.is_set() else self._verdict(task)
                        # a place that comes free goes to the first task of the file that is ready by then
                        if verdict == "wait" or (verdict == "go" and len(futures) == self.jobs):
                            continue
                        waiting.remove(task)
                        if verdict == "go":
                            futures[pool.submit(self._run_one, task)] = task
                        else:
                            self.outcome[task.id] = verdict
                            if verdict == "blocked":
                                self.say(f"blocked  {task.id}: what it needs did not succeed")
                    finished, _ = wait(futures, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self.outcome[futures.pop(future).id] = future.result()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.outcome

    def _verdict(self, task: Task) -> str:
        """`go`, `wait` for what it needs, or `blocked`."""
        ended = ("done", "failed", "blocked", "cancelled", "lost", "again")
        for need, kind in self.study.phases[task.phase].needs.items():
            needed = [state.task for state in self.picture.of(need)]
            if kind == "aftercorr":
                needed = needed[task.index : task.index + 1]
            outcomes = [self.outcome[other.id] for other in needed]
            if kind != "afterany" and any(o in ended and o != "done" for o in outcomes):
                return "blocked"
            if any(o not in ended for o in outcomes):
                return "blocked" if all(o != "waiting" for o in outcomes if o not in ended) else "wait"
        return "go"

    def _run_one(self, task: Task) -> str:
        gpu = self.gpus.get() if self.has_gpus and task.resources.gpus else None
        try:
            for restart in range(self.site.limits.max_restarts + 1):
                outcome = self._attempt(task, restart, gpu)
                if outcome != "again" or self.stopping.is_set():
                    return outcome
            return "failed"
        finally:
            if gpu is not None:
                self.gpus.put(gpu)

    def _attempt(self, task: Task, restart: int, gpu: str | None) -> str:
        if self.stopping.is_set():
            return "stopped"
        limits = self.site.limits
        code = attempt.begin(task.run, task.id, task.fingerprint, task.command, limits.max_restarts, limits.min_free_gb)
        if code != attempt.RUN:
            return "done" if code == attempt.FINISHED else "failed"
        log = self.logs / f"{task.phase}_{task.name}.out"
        began = time.monotonic()
        self.say(f"start    {task.id}")
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{attempt.MARK} of {task.id}, {attempt.now()}\n")
            file.flush()
            # a session of its own: Ctrl-C in the terminal reaches this runner, which then asks the tasks to checkpoint
            process = subprocess.Popen(["bash", "-c", task.command], stdout=file, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, env=self._environment(task, restart, gpu),
                                       start_new_session=True)  # fmt: skip
            self.running[task.id] = process
            if self.stopping.is_set():  # the signal came between the check above and now
                _tell(process, signal.SIGTERM)
            code = process.wait()
            del self.running[task.id]
        code = 128 - code if code < 0 else code
        verdict = attempt.end(task.run, code, self.stopping.is_set(), log, "")
        outcome = {0: "done", attempt.AGAIN: "again"}.get(verdict, "failed")
        word = {"again": "stopped"}.get(outcome, outcome)
        reason = f"  {attempt.last_error(task.run)}  (log: {log})" if outcome == "failed" else ""
        self.say(f"{word:<8} {task.id}  {time.monotonic() - began:.0f} s{reason}")
        return outcome

    def _environment(self, task: Task, restart: int, gpu: str | None) -> dict[str, str]:
        variables = self.site.environment.variables | self.study.phases[task.phase].variables
        environment = os.environ | {name: str(value) for name, value in variables.items()}
        environment |= {
            "PATH": f"{Path(self.site.python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "BOLI_RUN_DIR": str(task.run), "BOLI_TASK": task.id, "SLURM_RESTART_COUNT": str(restart),
            "WANDB_RUN_ID": task.fingerprint, "WANDB_RESUME": "allow", "WANDB_NAME": task.id,
            "WANDB_RUN_GROUP": f"{self.study.name}.{task.phase}",
        }  # fmt: skip
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        return environment

    def _stop(self, number: int, frame) -> None:
        if self.stopping.is_set():  # asked twice: do not wait for checkpoints
            for process in list(self.running.values()):
                _tell(process, signal.SIGKILL)
            return
        self.stopping.set()
        self.say("stopping: the tasks are told to checkpoint (once more to end them at once)")
        for process in list(self.running.values()):
            _tell(process, signal.SIGTERM)


def _tell(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
