"""CTC of a hybrid model: the best path, and prefix scores for the joint search.

Prefix scores are those of Watanabe et al. 2017 (Hybrid CTC/Attention, Algorithm 2) as ESPnet's CTCPrefixScoreTH
computes them, with two differences in how, none in what: all clips of a batch at once, and the forward recursion over
frames as one cumulative log-sum in float64 instead of a Python loop.

ESPnet counts the prompt (language, task, no-timestamps) as labels already emitted, so scoring starts that many frames
into the clip; kept, because scores must be equal.
"""

import torch

NEVER = -1.0e10  # ESPnet's logzero


class CtcPrefixScorer:
    """log_probabilities: `[clips, T, V]`, of which a float64 copy of the wanted labels only is made."""

    def __init__(self, log_probabilities: torch.Tensor, blank: int, end: int):
        self.x, self.blank, self.end = log_probabilities, blank, end
        self.frames = log_probabilities.shape[1]
        blanks = log_probabilities[:, :, blank].double().cumsum(1)
        self.state = torch.stack([torch.full_like(blanks, NEVER), blanks], dim=-1)
        """`[R, T, 2]`: log-probability of each row's prefix up to each frame, ending in a label or in a blank."""
        self.prefix = blanks.new_zeros(len(blanks))
        """`[R]` score of each row's prefix so far."""
        self._forward: torch.Tensor | None = None

    def score(
        self, clip: torch.Tensor, last: torch.Tensor, emitted: int, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gains `[R, S]` of appending each label, and `[R]` of ending.

        clip: int64 `[R]` clip of each row; last: int64 `[R]` last token of its prefix; emitted: tokens of the prefix
        after the first; labels: int64 `[R, S]`.
        """
        start = max(emitted, 1)
        ended = self.state.logsumexp(-1)
        x = self.x[clip[:, None, None], torch.arange(self.frames, device=labels.device)[None, :, None], labels[:, None]]
        x = x.double()
        blank = self.x[clip, :, self.blank].double()[:, :, None]
        phi = torch.where((labels == last[:, None])[:, None], self.state[:, :, 1, None], ended[:, :, None])
        label = torch.full_like(x, NEVER)
        other = torch.full_like(x, NEVER)
        if emitted == 0:
            label[:, 0] = x[:, 0]
        if start < self.frames:
            label[:, start:] = _recursion(label[:, start - 1], phi[:, start - 1 : -1], x[:, start:])
            other[:, start:] = _recursion(other[:, start - 1], label[:, start - 1 : -1], blank[:, start:])
            whole = torch.cat([phi[:, start - 1 : -1] + x[:, start:], label[:, start - 1 : start]], dim=1).logsumexp(1)
        else:
            whole = label[:, min(start, self.frames) - 1]
        whole = torch.where(labels == self.blank, NEVER, whole)
        whole = torch.where(labels == self.end, ended[:, -1:], whole)
        self._forward, self._whole = torch.stack([label, other], dim=2), whole
        return whole - self.prefix[:, None], ended[:, -1] - self.prefix

    def select(self, row: torch.Tensor, column: torch.Tensor) -> None:
        """New row i is old row `row[i]` with the label in `column[i]` of the last `score` appended."""
        assert self._forward is not None
        self.state = self._forward[row, :, :, column]
        self.prefix = self._whole[row, column]


def _recursion(first: torch.Tensor, into: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """y[t] = x[t] + log(exp(y[t - 1]) + exp(into[t])) with y[-1] = first, over axis 1.

    With X the running sum of x, y - X is a cumulative log-sum of `into` - X one frame before: all terms are positive, so
    nothing cancels; float64 holds sums of thousands of frames.
    """
    total = x.cumsum(1)
    before = torch.cat([torch.zeros_like(total[:, :1]), total[:, :-1]], dim=1)
    terms = torch.cat([first[:, None], (into - before)], dim=1)
    return total + terms.logcumsumexp(1)[:, 1:]


def best_path(log_probabilities: torch.Tensor, blank: int) -> list[tuple[list[int], list[float], float]]:
    """Per clip of `[clips, T, V]`: tokens of the most probable path, repeats and blanks removed, the best
    log-probability among each token's frames, and that of the whole path."""
    best, choice = log_probabilities.max(dim=-1)
    found = []
    for path, values in zip(choice.tolist(), best.tolist(), strict=True):
        tokens: list[int] = []
        scores: list[float] = []
        previous = blank
        for token, value in zip(path, values, strict=True):
            if token != blank and token != previous:
                tokens.append(token)
                scores.append(value)
            elif token != blank:
                scores[-1] = max(scores[-1], value)
            previous = token
        found.append((tokens, scores, float(sum(values))))
    return found
