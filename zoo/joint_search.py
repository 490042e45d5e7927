"""Beam search in which CTC has a say: that of ESPnet's BatchBeamSearch, over many clips at once.

Not transformers' beam search (zoo/search.py): the beams that end leave the search and are not replaced, the scores are
those of the whole distribution (forbidden tokens are not renormalised away), CTC scores join, and a clip is over when
ESPnet's end detection says so (Watanabe et al. 2017, eq. 50) or no beam runs. One beam is greedy search.

Rows of all clips that still run lie side by side; each move of them goes to the decoder's cache, to the CTC scorer and
to `zoo.rows` with the same index.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from zoo import rows
from zoo.ctc import CtcPrefixScorer
from zoo.search import Found, Stepper

PRE_BEAM = 1.5  # CTC scores so many times the beam of the decoder's best tokens, as in ESPnet
END_DETECT_LENGTHS = 3
END_DETECT_MARGIN = -10.0

Rules = Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
"""Tokens int64 `[R, length]`, how many of them are the prompt, scores `[R, V]` -> scores, those of forbidden tokens -inf."""


@dataclass
class _Clip:
    """What one clip has found."""

    ended: list[tuple[float, int, list[int], list[float]]] = field(default_factory=list)
    """Score, length with prompt and end token, tokens, gains."""

    def over(self, step: int) -> bool:
        """ESPnet's `end_detect`: of the last lengths, none ended near the best."""
        if not self.ended:
            return False
        best = max(score for score, *_ in self.ended)
        count = 0
        for length in range(step, step - END_DETECT_LENGTHS, -1):
            same = [score for score, n, *_ in self.ended if n == length]
            count += bool(same) and max(same) - best < END_DETECT_MARGIN
        return count == END_DETECT_LENGTHS

    def best(self, length_penalty: float) -> Found:
        if not self.ended:
            return Found([], 0.0, [])
        score, _, tokens, gains = max(self.ended, key=lambda e: e[0] / max(1, len(e[2]) + 1) ** length_penalty)
        return Found(tokens, score, gains)


def search(
    stepper: Stepper,
    prompt: torch.Tensor,
    end: int,
    limits: Sequence[int],
    beams: int,
    rules: Rules,
    *,
    ctc: CtcPrefixScorer | None = None,
    ctc_weight: float = 0.0,
    length_penalty: float = 0.0,
    prompt_as_labels: bool = True,
) -> list[Found]:
    """prompt: int64 `[B, P]`; limits: most new tokens of each clip. `Found.log_probability` is the joint score.

    prompt_as_labels: ESPnet's scores count the prompt's tokens behind the first as labels that CTC has emitted."""
    device = prompt.device
    count, prompt_length = prompt.shape
    clips = [_Clip() for _ in range(count)]
    most = torch.tensor(limits, device=device)
    with rows.moving():
        tokens, clip = prompt, torch.arange(count, device=device)
        total = torch.zeros(count, dtype=torch.float32, device=device)
        gains = torch.zeros(count, 0, device=device)
        logits = stepper.start()
        for step in range(max(limits)):
            scores = rules(tokens, prompt_length, (1.0 - ctc_weight) * logits.float().log_softmax(dim=-1))
            emitted = step + (prompt_length - 1 if prompt_as_labels else 0)
            labels, gained = _candidates(scores, beams, end, tokens[:, -1], emitted, clip, ctc, ctc_weight)
            source, column, value = _best(total[:, None] + gained, clip, count, beams)
            if len(source) == 0:
                break
            chosen = labels[source, column]
            grown = torch.cat([tokens[source], chosen[:, None]], dim=1)
            history = torch.cat([gains[source], gained[source, column][:, None]], dim=1)
            owner = clip[source]
            ends = (chosen == end) | (most[owner] == step + 1)
            for i in ends.nonzero()[:, 0].tolist():
                written = grown[i, prompt_length:].tolist()
                written = written[:-1] if written[-1] == end else written
                length = prompt_length + step + 1
                clips[int(owner[i])].ended.append((float(value[i]), length, written, history[i].tolist()))
            over = torch.tensor([c.over(step) for c in clips], device=device)
            going = (~ends & ~over[owner]).nonzero()[:, 0]
            if len(going) == 0:
                break
            index = source[going]
            same = len(going) == len(clip) and bool((clip == owner[going]).all())
            tokens, gains, total, clip = grown[going], history[going], value[going], owner[going]
            if not same or not torch.equal(index, torch.arange(len(index), device=device)):
                stepper.select(index, same_clips=same)
                rows.moved(index)
            if ctc is not None:
                ctc.select(index, column[going])
            logits = stepper.step(tokens[:, -1])
    return [c.best(length_penalty) for c in clips]


def _candidates(
    scores: torch.Tensor,
    beams: int,
    end: int,
    last: torch.Tensor,
    emitted: int,
    clip: torch.Tensor,
    ctc: CtcPrefixScorer | None,
    ctc_weight: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens each row may go on with and what each gains, both `[R, S]`; -inf where it may not.

    Without CTC the best `beams`. With it the decoder's best are scored by CTC too, and the end token always; where the
    decoder has no say (weight 1) all tokens are.
    """
    if ctc is None:
        value, label = scores.topk(min(beams, scores.shape[1]), dim=-1)
        return label, value
    size = int(PRE_BEAM * beams)
    everything = ctc_weight == 1.0 or size >= scores.shape[1]
    if everything:
        label = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    else:
        label = scores.topk(size, dim=-1).indices
        label = torch.cat([label, torch.full_like(label[:, :1], end)], dim=1)
    gain, _ = ctc.score(clip, last, emitted, label)
    value = scores.gather(1, label) + ctc_weight * gain.float()
    if not everything:  # the end token stands last: not twice
        doubled = label[:, :-1] == end
        value = torch.cat([value[:, :-1].masked_fill(doubled, -math.inf), value[:, -1:]], dim=1)
    return label, value


def _best(
    value: torch.Tensor, clip: torch.Tensor, count: int, beams: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of all candidates `[R, S]` the best `beams` of each clip: row, column and value of each, clip by clip."""
    width = value.shape[1]
    order = torch.arange(len(clip), device=clip.device)
    first = torch.searchsorted(clip, torch.arange(count, device=clip.device))
    slot = order - first[clip]
    most = int(slot.max()) + 1
    table = value.new_full((count, most, width), -math.inf)
    table[clip, slot] = value
    top, where = table.flatten(1).topk(min(beams, most * width), dim=1)
    keep = top > -math.inf
    owner = torch.arange(count, device=clip.device)[:, None].expand_as(top)[keep]
    where = where[keep]
    return first[owner] + where // width, where % width, top[keep]
