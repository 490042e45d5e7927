"""How far a training is, and the learning rate that goes with it."""

import math
import time


class Progress:
    """Share of the training done: by steps, or by the clock where minutes are given (their decay always completes).

    began: `time.monotonic()` at the start of the job, loading included; the schedule starts when this is made.
    spent: seconds of earlier attempts of the same run.
    """

    def __init__(self, steps: int, max_minutes: float, began: float, spent: float = 0.0):
        self.steps, self.budget_s, self.began, self.spent = steps, 60 * max_minutes, began, spent
        self.loaded_s = time.monotonic() - began

    def elapsed_s(self) -> float:
        return self.spent + time.monotonic() - self.began

    def share(self, step: int) -> float:
        """0 at the start, 1 (or a little more) at the end."""
        if not self.budget_s:
            return step / self.steps
        return (self.elapsed_s() - self.loaded_s) / max(1e-9, self.budget_s - self.loaded_s)

    def eta_s(self, step: int) -> float | None:
        done = self.share(step)
        return (self.elapsed_s() - self.loaded_s) * max(0.0, 1 / done - 1) if done > 0 else None


def rate(done: float, warmup: float, decay: str = "cosine", final: float = 0.0) -> float:
    """Factor on the peak learning rate after share `done`: linear warm-up, then down to `final`."""
    if done < warmup:
        return max(done / warmup, 1e-3)
    left = min(1.0, (done - warmup) / (1 - warmup))
    fall = {"cosine": 0.5 * (1 + math.cos(math.pi * left)), "linear": 1 - left, "constant": 1.0}[decay]
    return final + (1 - final) * fall
