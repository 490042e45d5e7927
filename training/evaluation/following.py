"""The causal decision on many clips, under many parameters: every window is heard once."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from router.causal import Change, ChangeTest, Follower, Read, declared
from router.windows import Causal
from training.clips import Clips
from zoo.speech import SAMPLE_RATE

if TYPE_CHECKING:
    from router.router import Router

TIMED_HOPS = 60


def hop_cost(router: "Router", audios: Iterable[np.ndarray]) -> list[float]:
    """Seconds that each hop took to compute, one at a time, once a whole window was heard; the recordings follow one another."""
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
    """Clips as the causal decision hears them; what was heard is kept (per clip, window and hop), and what is read of it."""

    def __init__(self, router: "Router", clips: Clips):
        self.router, self.clips = router, clips
        self._kept: dict[tuple[int, float, float], dict[int, np.ndarray]] = {}
        self._read: dict[tuple[int, Causal], tuple[ChangeTest, list[Read], float]] = {}

    def changes(self, i: int, causal: Causal) -> list[Change]:
        """What is decided in clip `i`."""
        # what is read does not depend on when a change is declared
        reading = i, replace(causal, threshold=1.0, first=None, first_fall=0.0, third=0.0, floor=-1.0)
        if reading not in self._read:
            self._read[reading] = self._heard(i, causal)
        test, frames, length_s = self._read[reading]
        return list(declared(type(test)(test.languages, causal), frames, length_s))

    def _heard(self, i: int, causal: Causal) -> tuple[ChangeTest, list[Read], float]:
        kept = self._kept.setdefault((i, causal.window_s, causal.hop_s), {})

        def hear(ends: Sequence[int]) -> list[np.ndarray]:
            missing = [end for end in ends if end not in kept]
            kept.update(zip(missing, follower.heard(missing) if missing else [], strict=True))
            return [kept[end] for end in ends]

        router = self.router
        assert router.classifier is not None
        follower = Follower(router.base, router.bank, router.classifier, causal, router.options.languages, hear)
        return follower.test, follower.read(self.clips.audio(i)), follower.windows.per_frame / SAMPLE_RATE
