"""What probes are trained on: states of every encoder layer, one per phone and one per word, with their labels.

The texts of a manifest are spoken by espeak-ng, whose own events say when each phone and word begins (spoken.py); a
sample is the mean of a layer's frames from the beginning to the end of one phone (or word).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.hearing import Listener
from analysis.ipa import FEATURES, phone
from analysis.spoken import Spoken, Timed

if TYPE_CHECKING:
    from adapters.store import StoredAdapter

WORD = "word identity"
PHONE = "phone"
TASKS = (*FEATURES, PHONE, WORD)
FEWEST_SAMPLES = 40  # of a task, below which it is not probed
FEWEST_TEXTS = (
    3  # a word (a phone, a feature's value) in fewer sentences cannot be learned from some and tested on others
)
MOST_WORDS = 30


@dataclass(frozen=True)
class Task:
    """One thing to be told from the states: which samples, their labels and what they are grouped by."""

    name: str
    of_words: bool
    """Over words; else over phones."""
    index: np.ndarray
    """int64 `[n]` rows of the samples."""
    labels: np.ndarray
    """int64 `[n]`, into `classes`."""
    classes: tuple[str, ...]
    types: np.ndarray
    """int64 `[n]`: what kind of thing a sample is (its phone, its word), for the control task."""
    texts: np.ndarray
    """int64 `[n]`: the sentence it comes from; no sentence is learned from and tested on."""
    utterances: np.ndarray
    """int64 `[n]`: the clip, for the intervals."""


def tasks(spoken: Sequence[Spoken]) -> tuple[list[Task], list[str]]:
    """The tasks of one language's speech, and why others are missing."""
    texts = {text: i for i, text in enumerate(dict.fromkeys(s.text for s in spoken))}
    of = {
        False: [(u, timed) for u, s in enumerate(spoken) for timed in s.phones],
        True: [(u, timed) for u, s in enumerate(spoken) for timed in s.words],
    }
    found, missing = [], []
    for name in TASKS:
        of_words = name == WORD
        samples = of[of_words]
        values = [_value(name, timed) for _, timed in samples]
        text_of = [texts[spoken[u].text] for u, _ in samples]
        kept = _frequent(values, text_of, MOST_WORDS if of_words else None)
        index = np.array([i for i, value in enumerate(values) if value in kept], dtype=np.int64)
        if len(kept) < 2 or len(index) < FEWEST_SAMPLES:
            missing.append(f"{name}: {len(index)} samples of {len(kept)} kinds in {FEWEST_TEXTS} or more sentences")
            continue
        classes = tuple(sorted(kept))
        labels = np.array([classes.index(str(values[i])) for i in index])
        symbols = [samples[i][1].label for i in index]
        kinds = {symbol: k for k, symbol in enumerate(sorted(set(symbols)))}
        found.append(
            Task(
                name, of_words, index, labels, classes,
                np.array([kinds[symbol] for symbol in symbols]),
                np.array([text_of[i] for i in index]),
                np.array([samples[i][0] for i in index]),
            )
        )  # fmt: skip
    return found, missing


def _value(name: str, timed: Timed) -> str | None:
    if name == WORD:
        plain = timed.label.strip().casefold()
        return plain if plain and not any(c.isdigit() for c in plain) else None
    known = phone(timed.label)
    if known is None:
        return None
    return timed.label if name == PHONE else known.feature(name)


def _frequent(values: Sequence[str | None], texts: Sequence[int], most: int | None) -> set[str]:
    """Values that occur in enough sentences, the most frequent first."""
    seen: dict[str, set[int]] = {}
    for value, text in zip(values, texts, strict=True):
        if value is not None:
            seen.setdefault(value, set()).add(text)
    counts = Counter(value for value in values if value is not None and len(seen[value]) >= FEWEST_TEXTS)
    return {value for value, _ in counts.most_common(most)}


@dataclass(frozen=True)
class States:
    """float32 `[samples, d]` per layer, from the stem's output to the last layer's."""

    phones: list[np.ndarray]
    words: list[np.ndarray]


def states(
    listener: Listener, spoken: Sequence[Spoken], stored: "StoredAdapter | None", batch_size: int = 16
) -> States:
    """Run the encoder, with an adapter or without, and pool each layer over every phone and word."""
    import torch

    from zoo.speech import Utterance

    base = listener.base
    utterances = [Utterance(s.audio, f"{s.language}:{i}") for i, s in enumerate(spoken)]
    by_grid: dict[float, list[int]] = {}
    for i, utterance in enumerate(utterances):
        by_grid.setdefault(base.grid_s(utterance), []).append(i)
    layers = range(base.n_layers + 1)
    phones: list[list[np.ndarray]] = [[np.empty(0)] * len(spoken) for _ in layers]
    words: list[list[np.ndarray]] = [[np.empty(0)] * len(spoken) for _ in layers]
    for members in by_grid.values():
        for start in range(0, len(members), batch_size):
            batch = members[start : start + batch_size]
            with torch.inference_mode(), listener.mixing(stored, len(batch)):
                hidden = base.features([utterances[i] for i in batch])
                for layer in layers:
                    hidden = base.encode(hidden, until=layer)
                    values = hidden.values.float().cpu().numpy()
                    for row, i in enumerate(batch):
                        frames = values[row, : int(hidden.lengths[row])]
                        phones[layer][i] = _pooled(frames, spoken[i].phones, base.frame_rate)
                        words[layer][i] = _pooled(frames, spoken[i].words, base.frame_rate)
    return States([np.concatenate(rows) for rows in phones], [np.concatenate(rows) for rows in words])


def _pooled(frames: np.ndarray, marks: Sequence[Timed], frame_rate: float) -> np.ndarray:
    """Mean of the frames of each mark, `[len(marks), d]`; at least one frame each."""
    rows = np.empty((len(marks), frames.shape[1]), dtype=np.float32)
    for k, mark in enumerate(marks):
        first = min(int(mark.start_s * frame_rate), len(frames) - 1)
        last = max(first + 1, min(round(mark.end_s * frame_rate), len(frames)))
        rows[k] = frames[first:last].mean(axis=0)
    return rows
