"""Greedy and beam search over any decoder that steps token by token.

The search moves rows: it drops finished clips, expands clips into beams and reorders beams. Each move goes to the
decoder's cache and to `zoo.rows` with the same index, so that whatever rides on the rows (a mixture of adapters)
cannot come apart from the cache it belongs to.

Beam search follows transformers' `generate` (early_stopping=False): a clip is finished when its best running beam,
divided by the current length ** length_penalty, cannot beat the worst of its finished beams.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from zoo import rows

NEVER = -1.0e9  # score of a beam that cannot be chosen; finite, so that sums of it stay ordered

Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(token rows `[R, length]`, scores `[R, V]`) -> scores `[R, V]`."""


class Stepper(Protocol):
    """A decoder with its cache, for rows that all stand at the same position."""

    def start(self) -> torch.Tensor:
        """Run the prompt; logits `[B, V]` of the next token."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append `tokens` `[R]`; logits `[R, V]` of the next."""

    def select(self, index: torch.Tensor, same_clips: bool) -> None:
        """Row i of the cache becomes old row `index[i]`. `same_clips`: each row stays with its clip, only beams of
        one clip change places (what depends on the clip alone need not move)."""


class Suppressed:
    """A Processor: these tokens are never written, or not as the token at position `only_at`.

    As transformers' SuppressTokensLogitsProcessor, which looks each of the vocabulary's tokens up anew at every step (2
    to 3 ms a step for Whisper's list).
    """

    def __init__(self, tokens: Sequence[int], device: torch.device, only_at: int | None = None):
        self.tokens = torch.tensor(list(tokens), device=device)
        self.only_at = only_at

    def __call__(self, rows: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.only_at is not None and rows.shape[1] != self.only_at:
            return scores
        return scores.index_fill(1, self.tokens, float("-inf"))


@dataclass
class Found:
    """The best token sequence of one clip."""

    tokens: list[int]
    log_probability: float
    token_log_probabilities: list[float]


def greedy(
    stepper: Stepper, prompt: torch.Tensor, end: int, limits: Sequence[int], processors: Sequence[Processor] = ()
) -> list[Found]:
    """The most probable token at each step. prompt: int64 `[B, P]`; limits: most new tokens of each clip."""
    clips = prompt.shape[0]
    most = torch.tensor(limits, device=prompt.device)
    found = [Found([], 0.0, []) for _ in range(clips)]
    alive = torch.arange(clips, device=prompt.device)
    with rows.moving():
        tokens = prompt
        logits = stepper.start()
        for step in range(max(limits)):
            scores = logits.float()
            for processor in processors:
                scores = processor(tokens, scores)
            best, choice = scores.max(dim=-1)
            chosen_log_probability = best - scores.logsumexp(dim=-1)
            for clip, token, value in zip(
                alive.tolist(), choice.tolist(), chosen_log_probability.tolist(), strict=True
            ):
                found[clip].log_probability += value
                found[clip].token_log_probabilities.append(value)
                if token != end:
                    found[clip].tokens.append(token)
            going = (choice != end) & (most[alive] > step + 1)
            if not bool(going.any()):
                break
            tokens = torch.cat([tokens, choice[:, None]], dim=1)
            if not bool(going.all()):
                keep = going.nonzero()[:, 0]
                alive, tokens, choice = alive[keep], tokens[keep], choice[keep]
                stepper.select(keep, same_clips=False)
                rows.moved(keep)
            logits = stepper.step(choice)
    return found


def beam(
    stepper: Stepper,
    prompt: torch.Tensor,
    end: int,
    limits: Sequence[int],
    beams: int,
    length_penalty: float = 1.0,
    processors: Sequence[Processor] = (),
) -> list[Found]:
    """Beam search; see the module. prompt: int64 `[B, P]`; limits: most new tokens of each clip."""
    device = prompt.device
    clips, prompt_length = prompt.shape
    best: list[Found | None] = [None] * clips
    alive = list(range(clips))
    most = torch.tensor(limits, device=device)
    with rows.moving():
        logits = stepper.start()
        expand = torch.arange(clips, device=device).repeat_interleave(beams)
        stepper.select(expand, same_clips=False)
        rows.moved(expand)
        logits = logits[expand]
        running = prompt[expand].view(clips, beams, prompt_length)
        running_history = torch.zeros(clips, beams, 0, device=device)
        running_scores = torch.full((clips, beams), NEVER, device=device)
        running_scores[:, 0] = 0.0  # all beams are equal at first: only one may be continued
        finished = [_Finished(beams) for _ in range(clips)]
        for step in range(max(limits)):
            n, length = running.shape[0], running.shape[2]
            scores = logits.float().log_softmax(dim=-1)
            for processor in processors:
                scores = processor(running.reshape(n * beams, length), scores)
            vocabulary = scores.shape[-1]
            total = (scores.view(n, beams, vocabulary) + running_scores[:, :, None]).view(n, -1)
            top, where = total.topk(2 * beams, dim=-1)
            source, token = where // vocabulary, where % vocabulary
            ends = (token == end) | (most[alive] == step + 1)[:, None]
            candidates = torch.cat(
                [running.gather(1, source[:, :, None].expand(-1, -1, length)), token[:, :, None]], dim=2
            )
            past = running_history.gather(1, source[:, :, None].expand(-1, -1, step))
            gained = top - running_scores.gather(1, source)
            history = torch.cat([past, gained[:, :, None]], dim=2)

            next_scores, order = (top + ends * NEVER).topk(beams, dim=-1)
            stop: list[bool] = []
            for i, clip in enumerate(alive):
                for j in range(beams):  # only the best `beams` candidates may end
                    if bool(ends[i, j]) and float(top[i, j]) > NEVER / 2:
                        value = float(top[i, j])
                        finished[clip].add(
                            value / (step + 1) ** length_penalty, value, candidates[i, j, prompt_length:], history[i, j]
                        )
                reachable = float(next_scores[i, 0]) / (step + 1) ** length_penalty
                stop.append(step + 1 == limits[clip] or finished[clip].unbeatable(reachable))

            running = candidates.gather(1, order[:, :, None].expand(-1, -1, length + 1))
            running_history = history.gather(1, order[:, :, None].expand(-1, -1, step + 1))
            running_scores = next_scores
            moves = source.gather(1, order) + torch.arange(n, device=device)[:, None] * beams
            for clip, over in zip(alive, stop, strict=True):
                if over:
                    best[clip] = finished[clip].best(end)
            if all(stop):
                break
            keep = torch.tensor([i for i, over in enumerate(stop) if not over], device=device)
            alive = [clip for clip, over in zip(alive, stop, strict=True) if not over]
            running, running_history, running_scores = running[keep], running_history[keep], running_scores[keep]
            index = moves[keep].reshape(-1)
            stepper.select(index, same_clips=len(keep) == n)
            rows.moved(index)
            logits = stepper.step(running[:, :, -1].reshape(-1))
    return [found or Found([], 0.0, []) for found in best]


class _Finished:
    """The best finished beams of one clip."""

    def __init__(self, beams: int):
        self.beams = beams
        self.kept: list[tuple[float, float, list[int], list[float]]] = []

    def add(self, score: float, log_probability: float, tokens: torch.Tensor, history: torch.Tensor) -> None:
        self.kept.append((score, log_probability, tokens.tolist(), history.tolist()))
        self.kept.sort(key=lambda entry: -entry[0])
        del self.kept[self.beams :]

    def unbeatable(self, reachable: float) -> bool:
        return len(self.kept) == self.beams and reachable <= self.kept[-1][0]

    def best(self, end: int) -> Found:
        if not self.kept:
            return Found([], 0.0, [])
        _, log_probability, tokens, history = self.kept[0]
        return Found([token for token in tokens if token != end], log_probability, history)
