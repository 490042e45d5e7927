"""A progress bar in minutes, for trainings that the clock ends: their number of steps is not known."""

from tqdm import tqdm
from transformers import TrainerCallback

from training.schedule import Progress


class ClockBar(TrainerCallback):
    """Counts minutes up to the budget, resumed ones included, and names the step."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(
            total=self.progress.budget_s / 60,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n:.2f} of {total:.2f} min{postfix}",
        )

    def on_step_end(self, args, state, control, **kwargs):
        bar = self.bar
        if bar is not None:
            bar.set_postfix_str(f"step {state.global_step}", refresh=False)
            bar.update(max(0.0, min(bar.total, self.progress.elapsed_s() / 60) - bar.n))

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
            self.bar = None
