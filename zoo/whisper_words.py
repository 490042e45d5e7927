"""When each word was said: the decoder's cross-attention, aligned with the frames by dynamic time warping.

As openai/whisper `timing.py` does it: the weights of the alignment heads (`alignment_heads` of the generation config;
without one all heads of the decoder's upper half) are normalised, median-filtered and averaged; the cheapest monotonic
path through them tells at which frame each token begins.
"""

from collections.abc import Sequence

import numpy as np
import torch

from zoo.interface import Hidden, Hypothesis, TimedWord
from zoo.whisper_decoder import WhisperStepper

MEDIAN_WIDTH = 7  # frames, as in openai/whisper
OPENING = "\"'“¿([{-"  # joined to the word that follows
CLOSING = "\"'.。,，!！?？:：”)]}、।॥"  # joined to the word before


def align(base, hidden: Hidden, prompt: torch.Tensor, hypotheses: Sequence[Hypothesis]) -> list[tuple[TimedWord, ...]]:
    """Words of each clip with their times in seconds.

    base: WhisperBase; hidden: finished encoder states; prompt: int64 `[B, P]`, the one without timestamps.
    """
    end = base.end_token
    room = base.module.config.max_target_positions - prompt.shape[1] - 1
    texts = [[token for token in h.tokens if token < end][:room] for h in hypotheses]
    width = max(map(len, texts)) + 1
    rows = torch.full((len(texts), width), end, device=prompt.device)
    for i, tokens in enumerate(texts):
        rows[i, : len(tokens)] = torch.tensor(tokens, device=prompt.device, dtype=rows.dtype)
    decoder = base.module.model.decoder
    stepper = WhisperStepper(decoder, base.module.proj_out, hidden, torch.cat([prompt, rows], dim=1), 0, watch=True)
    stepper.start()
    assert stepper.watched is not None
    weights = torch.stack([stepper.watched[layer][:, head] for layer, head in _heads(base.module)], dim=1).float()
    found: list[tuple[TimedWord, ...]] = []
    for i, tokens in enumerate(texts):
        if not tokens:
            found.append(())
            continue
        first = prompt.shape[1] - 1  # the row that predicts the first text token
        matrix = weights[i, :, : prompt.shape[1] + len(tokens), : int(hidden.lengths[i])].softmax(dim=-1)
        deviation, mean = torch.std_mean(matrix, dim=-2, keepdim=True, unbiased=False)
        matrix = _median((matrix - mean) / deviation.clamp(min=1e-6)).mean(dim=0)
        starts = token_starts(-matrix[first:].cpu().double().numpy()) / base.frame_rate
        found.append(_words(base.tokenizer, tokens, starts, hypotheses[i]))
    return found


def token_starts(cost: np.ndarray) -> np.ndarray:
    """cost `[tokens, frames]` -> first frame of each token on the cheapest path that never goes back."""
    tokens, frames = cost.shape
    total = np.full((tokens + 1, frames + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(1, tokens + 1):
        entered = np.minimum(total[i - 1, :-1], total[i - 1, 1:])  # from the token before: at the frame before, or this
        summed = np.cumsum(cost[i - 1])  # staying on the token from frame j to k costs summed[k] - summed[j - 1]
        total[i, 1:] = summed + np.minimum.accumulate(entered - (summed - cost[i - 1]))
    starts = np.zeros(tokens, dtype=np.int64)
    i, j = tokens, frames
    while i > 0:
        starts[i - 1] = j - 1
        if j == 1:
            i -= 1
            continue
        step = int(np.argmin([total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]]))
        i, j = (i - 1, j - 1) if step == 0 else (i - 1, j) if step == 1 else (i, j - 1)
    return starts


def _heads(module) -> list[tuple[int, int]]:
    named = getattr(module.generation_config, "alignment_heads", None)
    if named:
        return [(int(layer), int(head)) for layer, head in named]
    layers, heads = module.config.decoder_layers, module.config.decoder_attention_heads
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


def _median(x: torch.Tensor) -> torch.Tensor:
    """Running median over the last axis, the ends mirrored."""
    pad = MEDIAN_WIDTH // 2
    if x.shape[-1] <= pad:
        return x
    return torch.nn.functional.pad(x, (pad, pad), mode="reflect").unfold(-1, MEDIAN_WIDTH, 1).median(dim=-1).values


def _words(tokenizer, tokens: list[int], starts: np.ndarray, hypothesis: Hypothesis) -> tuple[TimedWord, ...]:
    """starts: seconds at which each token begins, and the end token's."""
    words = []
    probabilities = np.exp(hypothesis.token_log_probabilities)
    for text, first, last in split_words(tokenizer, tokens):
        probability = float(np.mean(probabilities[first:last]))
        words.append(TimedWord(text, float(starts[first]), float(starts[last]), probability, tuple(tokens[first:last])))
    return tuple(words)


def split_words(tokenizer, tokens: list[int]) -> list[tuple[str, int, int]]:
    """(word with its leading space, first token, one behind the last). A token that holds half a character waits for
    the rest of it; punctuation joins its word; a language without spaces is split where the tokenizer splits."""
    pieces: list[tuple[str, int, int]] = []
    first = 0
    for last in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[first:last], clean_up_tokenization_spaces=False)
        if "\ufffd" not in text or last == len(tokens):
            pieces.append((text, first, last))
            first = last
    spaced = any(text.startswith(" ") for text, _, _ in pieces[1:])
    words: list[tuple[str, int, int]] = []
    for text, first, last in pieces:
        bare = text.strip()
        joins = bool(words) and (
            not bare or all(c in CLOSING for c in bare) or (spaced and not text.startswith(" "))
            or all(c in OPENING for c in words[-1][0].strip())
        )  # fmt: skip
        if joins:
            words[-1] = (words[-1][0] + text, words[-1][1], last)
        else:
            words.append((text, first, last))
    return words
