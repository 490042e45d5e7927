"""A job that keeps the contract of design.md section 4.6 and learns nothing: its "weights" are a chain of hashes.

Each step depends on all before it, so that weights equal to those of an uninterrupted run prove an exact resume. On
SIGTERM and SIGUSR1 it writes a checkpoint atomically and leaves with exit code 75 and state `preempted`.

    pretend_training.py --folder RUN --steps 20 --step-s 0.05 --seed 3 [--fail-at 7 [--code 3] [--say TEXT]]
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--folder", type=Path, required=True)
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--step-s", type=float, default=0.05)
parser.add_argument("--seed", default="0")
parser.add_argument("--fail-at", type=int, default=-1)
parser.add_argument("--code", type=int, default=3)
parser.add_argument("--say", default="this one was to fail")
options = parser.parse_args()

asked_to_leave = False


def leave(number, frame):
    global asked_to_leave
    asked_to_leave = True


signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGUSR1, leave)


def write(name, data):
    staged = options.folder / f".{name}.{os.getpid()}"
    staged.write_text(json.dumps(data))
    os.replace(staged, options.folder / name)


def tell(state, error=None):
    write("status.json", {
        "state": state, "step": step, "steps": options.steps, "metrics": {"loss": 1 / (1 + step), "wer": 0.9 ** step},
        "eta_s": (options.steps - step) * options.step_s, "restarts": restarts, "error": error, "host": "here",
        "updated": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    })  # fmt: skip


options.folder.mkdir(parents=True, exist_ok=True)
checkpoint = options.folder / "checkpoint.json"
if checkpoint.exists():
    saved = json.loads(checkpoint.read_text())
    step, weights, restarts = saved["step"], saved["weights"], saved["restarts"] + 1
else:
    step, weights, restarts = 0, options.seed, 0
tell("running")
while step < options.steps:
    if asked_to_leave:
        write("checkpoint.json", {"step": step, "weights": weights, "restarts": restarts})
        tell("preempted")
        sys.exit(75)
    if step == options.fail_at:
        print(options.say, flush=True)
        if options.code < 0:
            os.kill(os.getpid(), -options.code)
        sys.exit(options.code)
    time.sleep(options.step_s)
    step, weights = step + 1, hashlib.sha256(f"{step} {weights}".encode()).hexdigest()
    tell("running")
write("weights.json", weights)
tell("done")
