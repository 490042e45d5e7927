"""CTC of a hybrid model: its head where that lies in a file of its own, the best path, scores
of whole texts, and prefix scores for the search.

Prefix scores are those of Watanabe et al. 2017 (Hybrid CTC/Attention, Algorithm 2) as ESPnet's CTCPrefixScoreTH
computes them, with two differences in how, none in what: all clips of a batch at once, and the forward recursion over
frames as one cumulative log-sum in float64 instead of a Python loop.

ESPnet counts the prompt (language, task, no-timestamps) as labels already emitted, so scoring starts that many frames
into the clip; kept for its models, because scores must be equal.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import ModelError

HEAD = "ctc.safetensors"
"""Beside a Whisper's weights: `weight` `[1 + tokens, width]` and `bias`, on the encoder's output. Symbol 0 is the blank,
token i is symbol i + 1; special tokens have none."""
NEVER = -1.0e10  # ESPnet's logzero


def write_head(head: nn.Linear, folder: Path) -> None:
    """Keep the head beside the weights of its model, as float16."""
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().half().contiguous() for name, value in head.state_dict().items()}
    save_file(tensors, folder / HEAD)


def read_head(folder: Path, width: int) -> nn.Linear | None:
    """The head that lies in the folder; None where none does. Raises ModelError for one of another width."""
    from safetensors.torch import load_file

    if not (folder / HEAD).is_file():
        return None
    tensors = load_file(folder / HEAD)
    weight = tensors.get("weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != width or set(tensors) != {"weight", "bias"}:
        found = {name: tuple(value.shape) for name, value in tensors.items()}
        raise ModelError(
            f"{folder / HEAD} is no CTC head of this model: {found}", valid=f"weight [1 + tokens, {width}] and bias"
        )
    head = nn.Linear(width, weight.shape[0])
    head.load_state_dict({name: value.float() for name, value in tensors.items()})
    return head.requires_grad_(False)


def head_scores(head: nn.Linear, states: torch.Tensor, frames: torch.Tensor, tokens: int) -> torch.Tensor:
    """Log-probabilities `[B, T, tokens + 1]` of a model's tokens, the blank last; a special token's is `NEVER`.

    states `[B, T, d]`; frames int64 `[B]`: behind so many a clip holds nothing but a certain blank, which changes no score.
    """
    found = head(states.to(head.weight.dtype)).float().log_softmax(-1)
    scores = found.new_full((*found.shape[:2], tokens + 1), NEVER)
    scores[..., : found.shape[-1] - 1] = found[..., 1:]
    scores[..., tokens] = found[..., 0]
    filled = torch.arange(found.shape[1], device=frames.device)[None] >= frames[:, None]
    scores[filled] = NEVER
    scores[..., tokens].masked_fill_(filled, 0.0)
    return scores


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


def text_log_probabilities(scores: torch.Tensor, blank: int, texts: Sequence[Sequence[int]]) -> list[float]:
    """Log-probability of each token sequence, summed over all its alignments (Graves et al. 2006), for one clip of
    scores `[T, V]`; `NEVER` for one that is longer than the clip's frames allow."""
    lengths = torch.tensor([len(text) for text in texts], device=scores.device)
    targets = torch.zeros(len(texts), max([1, *map(len, texts)]), dtype=torch.int64, device=scores.device)
    for row, text in zip(targets, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64, device=scores.device)
    frames = torch.full_like(lengths, len(scores))
    losses = F.ctc_loss(
        scores.double()[:, None].expand(-1, len(texts), -1), targets, frames, lengths, blank, reduction="none"
    )
    return (-losses).clamp(min=NEVER).tolist()


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
