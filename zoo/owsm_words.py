"""When each word was said: the most probable CTC path through the tokens that were written.

OWSM is trained with CTC on its encoder, so the frames say where each token is without looking at the decoder's
attention. Forced alignment as in Graves et al. 2006, section 4: states are the tokens with blanks between them.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from zoo.errors import ModelError
from zoo.interface import Hidden, Hypothesis, TimedWord
from zoo.joining import frames_seen

UNSPACED = {"zh", "cmn", "yue", "ja", "th", "lo", "my", "km", "bo"}  # written without spaces: each token is a word
SPACE = "▁"  # how SentencePiece writes a space


def align(base, hidden: Hidden, hypotheses: Sequence[Hypothesis]) -> list[tuple[TimedWord, ...]]:
    """Words of each clip with their times in seconds. base: OwsmBase; hidden: finished encoder states."""
    if base.module.ctc is None:
        raise ModelError(f"{base.card.name} has no CTC to align words with", valid="timestamps none or segment")
    scores = base.module.ctc.log_softmax(hidden.values).float()
    found = []
    lengths, seen = hidden.lengths.tolist(), frames_seen(hidden).tolist()
    for row, length, most, hypothesis in zip(scores, lengths, seen, hypotheses, strict=True):
        kept = [i for i, token in enumerate(hypothesis.tokens) if not base.tokenizer.is_special(token)]
        tokens = [hypothesis.tokens[i] for i in kept]
        frames = length if length >= _needed(tokens) else most
        spans = token_spans(row[:frames], tokens, base.module.blank_id)
        probabilities = np.exp([hypothesis.token_log_probabilities[i] for i in kept])
        found.append(_words(base, tokens, spans / base.frame_rate, probabilities, hypothesis.language))
    return found


def token_spans(scores: torch.Tensor, tokens: Sequence[int], blank: int) -> np.ndarray:
    """scores: log-probabilities `[T, V]` -> `[tokens, 2]` first frame of each token and the one after its last.

    More tokens than frames have no path; they share the frames evenly.
    """
    frames, count = len(scores), len(tokens)
    if count == 0:
        return np.zeros((0, 2))
    if frames < _needed(tokens):
        edges = np.linspace(0, frames, count + 1)
        return np.stack([edges[:-1], edges[1:]], axis=1)
    states = np.full(2 * count + 1, blank)
    states[1::2] = tokens
    emitted = scores[:, torch.from_numpy(states).to(scores.device)].double().cpu().numpy()
    may_skip = np.zeros(len(states), dtype=bool)  # from a token to another one, over the blank between
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    total = np.full(len(states), -np.inf)
    total[:2] = emitted[0, :2]
    steps = np.zeros((frames, len(states)), dtype=np.int8)
    for t in range(1, frames):
        one = np.concatenate([[-np.inf], total[:-1]])
        two = np.where(may_skip, np.concatenate([[-np.inf] * 2, total[:-2]]), -np.inf)
        options = np.stack([total, one, two])
        steps[t] = options.argmax(axis=0)
        total = options.max(axis=0) + emitted[t]
    state = len(states) - 1 if total[-1] >= total[-2] else len(states) - 2
    spans = np.zeros((count, 2))
    for t in range(frames - 1, -1, -1):
        if state % 2 == 1:
            token = state // 2
            spans[token, 0] = t
            spans[token, 1] = max(spans[token, 1], t + 1)
        state -= steps[t, state]
    return spans


def _needed(tokens: Sequence[int]) -> int:
    """Frames a path needs at least: a blank stands between equal neighbours."""
    return len(tokens) + sum(one == two for one, two in itertools.pairwise(tokens))


def _words(
    base, tokens: Sequence[int], times: np.ndarray, probabilities: np.ndarray, language: str
) -> tuple[TimedWord, ...]:
    groups: list[list[int]] = []
    for i, token in enumerate(tokens):
        piece = base.tokenizer.tokens[token]
        begins = not groups or piece.startswith((SPACE, "<space>")) or language in UNSPACED
        if begins and groups and set(base.tokenizer.tokens[tokens[groups[-1][0]]]) == {SPACE} and len(groups[-1]) == 1:
            begins = piece.startswith(SPACE)  # a space of its own belongs to the word behind it
        if begins:
            groups.append([])
        groups[-1].append(i)
    words = []
    for n, group in enumerate(groups):
        spoken = [i for i in group if set(base.tokenizer.tokens[tokens[i]]) != {SPACE}] or group
        text = base.tokenizer.decode([tokens[i] for i in group])
        if text:
            space = " " if n and language not in UNSPACED else ""
            words.append(
                TimedWord(
                    space + text,
                    float(times[spoken[0], 0]),
                    float(times[spoken[-1], 1]),
                    float(np.mean(probabilities[group])),
                    tuple(tokens[i] for i in group),
                )
            )
    return tuple(words)
