"""The causal decision on many clips, under many parameters: every window is heard once."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.clips import Clips

if TYPE_CHECKING:
    from router.causal import Change
    from router.router import Router
    from router.windows import Causal


TIMED_HOPS = 60


def hop_cost(router: "Router", audios: Iterable[np.ndarray]) -> list[float]:
    """Seconds that each hop took to compute, one at a time, once a whole window was heard; the recordings follow one another."""
    from router.causal import Follower

    assert router.classifier is not None
    follower = Follower(router.base, router.bank, router.classifier, router.causal, router.options.languages)
    taken: list[float] = []
    fed, hop = 0, follower.windows.hop
    for audio in audios:
        for start in range(0, len(audio) - hop + 1, hop):
            began = time.perf_counter()
            follower.feed(audio[start : start + hop])
            fed += hop
            if fed > follower.windows.window:
                taken.append(time.perf_counter() - began)
            if len(taken) == TIMED_HOPS:
                return taken
    return taken


class Followed:
    """Clips as the causal decision hears them; what was heard is kept (per clip, window and hop)."""

    def __init__(self, router: "Router", clips: Clips):
        self.router, self.clips = router, clips
        self._kept: dict[tuple[int, float, float], dict[int, np.ndarray]] = {}

    def changes(self, i: int, causal: "Causal") -> "list[Change]":
        """What is decided in clip `i`."""
        from router.causal import Follower

        kept = self._kept.setdefault((i, causal.window_s, causal.hop_s), {})

        def hear(ends: Sequence[int]) -> list[np.ndarray]:
            missing = [end for end in ends if end not in kept]
            kept.update(zip(missing, follower.heard(missing) if missing else [], strict=True))
            return [kept[end] for end in ends]

        router = self.router
        assert router.classifier is not None
        follower = Follower(router.base, router.bank, router.classifier, causal, router.options.languages, hear)
        return follower.feed(self.clips.audio(i))
