"""Clips as the router hears them: cut as it cuts them, up to the tap, and what the classifier says of each."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from training.clips import Clips
from zoo.speech import Utterance

if TYPE_CHECKING:
    from router.chunks import Chunk
    from router.router import Router


def listened(router: "Router", utterances: Sequence[Utterance]) -> list[tuple[dict[str, float], torch.Tensor | None]]:
    """Of each, in their order, language -> probability, and log-probabilities `[T, L]` of its frames (None where the
    classifier has no frames). Clips of equal grid are heard together."""
    from router.passes import Clock, listen

    clock = Clock(router.base.device)
    by_grid: dict[float, list[int]] = {}
    for k, utterance in enumerate(utterances):
        by_grid.setdefault(router.base.grid_s(utterance), []).append(k)
    heard: dict[int, tuple[dict[str, float], torch.Tensor | None]] = {}
    for members in by_grid.values():
        for start in range(0, len(members), router.options.batch_size):
            batch = members[start : start + router.options.batch_size]
            found = listen(router.base, router.bank, router.classifier, [], [utterances[k] for k in batch], clock)
            frames = found.frames or [None] * len(batch)
            heard.update(zip(batch, zip(found.probabilities, frames, strict=True), strict=True))
    return [heard[k] for k in range(len(utterances))]


def pieces_of(router: "Router", clips: Clips, i: int) -> "Iterator[Chunk]":
    """Clip i as the router cuts it."""
    from router.chunks import Recording
    from router.vad import voice_activity

    return Recording([clips.audio(i)], router.longest_s, lambda: voice_activity(router.options.vad)).chunks()


def sources_of(clips: Clips) -> list[str]:
    """The manifest that each clip is from."""
    return clips.sources or [""] * len(clips)
