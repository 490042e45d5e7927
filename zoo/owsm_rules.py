"""Which tokens an OWSM may write next."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TimestampRules:
    """Which tokens may follow, as ESPnet's ScoreFilter has it: no timestamps where the row holds no-timestamps (the
    prompt's, or one that the model wrote itself); else they come in pairs around text and never go back.

    first, last: ids of the first and the last timestamp; none: id of no-timestamps; end: id of the end token.
    """

    first: int
    last: int
    none: int
    end: int

    def __call__(self, tokens: torch.Tensor, prompt: int, scores: torch.Tensor) -> torch.Tensor:
        """tokens int64 `[R, length]`, the first `prompt` of them the prompt; scores `[R, V]`, forbidden ones -inf."""
        ids = torch.arange(scores.shape[1], device=scores.device)[None]
        is_time = (ids >= self.first) & (ids <= self.last)
        plain = (tokens == self.none).any(dim=1, keepdim=True)
        if bool(plain.all()):
            return scores.masked_fill(is_time, -math.inf)
        written = tokens[:, prompt:]
        if written.shape[1] == 0:
            return scores.masked_fill(torch.where(plain, is_time, ~is_time), -math.inf)
        times = (written >= self.first) & (written <= self.last)
        latest = torch.where(times, written, -1).amax(dim=1, keepdim=True)  # they never go back
        open_pair = times.sum(dim=1, keepdim=True) % 2 == 1
        in_text = (ids == self.end) | (is_time & (ids <= latest))
        may_follow = (is_time & (ids >= written[:, -1:])) | (ids == self.end)
        between = ~may_follow | ~times[:, -1:]
        forbidden = torch.where(plain, is_time, torch.where(open_pair, in_text, between))
        return scores.masked_fill(forbidden, -math.inf)
