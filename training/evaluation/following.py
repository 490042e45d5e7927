"""The causal decision on many clips, under many parameters: every window is heard once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from training.clips import Clips

if TYPE_CHECKING:
    from router.causal import Change
    from router.router import Router
    from router.windows import Causal


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
