"""Several members write one text together: their distributions are averaged step by step.

For comparison only: it costs one decoder run per member. Rows of the members' decoder lie clip by clip, so row i of the
search stands for the rows `i * members ... i * members + members - 1` of the decoder and of whatever follows its rows.
"""

import torch

from zoo import rows
from zoo.search import Stepper


class EnsembleStepper:
    """Implements `zoo.search.Stepper` over a stepper of `clips * members` rows.

    weights: `[clips, members]`, rows summing to one; a member of weight 0 is not heard.
    """

    def __init__(self, stepper: Stepper, weights: torch.Tensor):
        self.stepper, self.members = stepper, weights.shape[1]
        self.log_weights = weights.float().log()

    def start(self) -> torch.Tensor:
        return self._mixed(self.stepper.start())

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._mixed(self.stepper.step(tokens.repeat_interleave(self.members)))

    def select(self, index: torch.Tensor, same_clips: bool) -> None:
        self.log_weights = self.log_weights[index]
        self.stepper.select(rows.members_of(index, self.members), same_clips)

    def _mixed(self, logits: torch.Tensor) -> torch.Tensor:
        """`[rows * members, V]` -> log of the mixed distribution `[rows, V]`."""
        each = logits.float().log_softmax(dim=-1).view(-1, self.members, logits.shape[-1])
        return (each + self.log_weights[:, :, None]).logsumexp(dim=1)
