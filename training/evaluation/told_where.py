"""How well the new language is heard by who is told where it begins: a decision after so many seconds can hardly do better.

The sound from a switch on, cut off after some seconds, goes through the classifier alone, and through the head that follows
where there is one: no language before it disturbs, no change has to be noticed, and false alarms cannot happen.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from router.causal import Follower
from training.clips import Clips
from training.evaluation.codeswitching_runs import speech_kind
from training.evaluation.measurements import Measurement
from training.evaluation.switches import spoken_switches
from training.listening import listened
from zoo.speech import SAMPLE_RATE, Utterance

if TYPE_CHECKING:
    from router.router import Router

SECONDS = (0.25, 0.5, 1.0, 2.0)


def told_where(router: "Router", clips: Clips, positions: Sequence[int]) -> list[Measurement]:
    """`language_told_where` for each kind of speech, each of SECONDS and each head, over the switches of the clips at `positions`
    after which the new language lasts so long."""
    assert router.classifier is not None, "router.load gives one"
    switches = [(i, spoken) for i in positions for spoken in spoken_switches(clips.records[i])]
    heads = {"classifier": _classified}
    if getattr(router.classifier, "following", None) is not None:
        heads["following"] = _followed
    measured = []
    for seconds in SECONDS:
        lasting = [(i, spoken) for i, spoken in switches if spoken.until - spoken.high >= seconds]
        starts = [(i, round(spoken.high * SAMPLE_RATE)) for i, spoken in lasting]
        sounds = [clips.audio(i)[start : start + round(seconds * SAMPLE_RATE)] for i, start in starts]
        for head, hear in heads.items():
            right: dict[str, list[bool]] = {}
            for (i, spoken), heard in zip(lasting, hear(router, sounds), strict=True):
                right.setdefault(speech_kind(clips.records[i]), []).append(heard == spoken.language)
            measured += [
                Measurement(
                    "language_told_where", sum(found) / len(found), count=len(found), system="told where", speech=speech,
                    conditions={"seconds": seconds, "head": head},
                )
                for speech, found in sorted(right.items())
            ]  # fmt: skip
    return measured


def _classified(router: "Router", sounds: Sequence[np.ndarray]) -> list[str]:
    return [max(row, key=lambda tag: row[tag]) for row, _ in listened(router, [Utterance(each) for each in sounds])]


def _followed(router: "Router", sounds: Sequence[np.ndarray]) -> list[str]:
    """The most probable language of the last frame that is read; empty where none is."""
    assert router.classifier is not None
    found = []
    for sound in sounds:
        follower = Follower(router.base, router.bank, router.classifier, router.causal, router.options.languages)
        read = follower.read(sound)
        found.append(follower.test.languages[int(read[-1].log_probabilities.argmax())] if read else "")
    return found
