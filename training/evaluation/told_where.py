"""How well the new language is heard by who is told where it begins: a decision after so many seconds can hardly do better.

The sound from a switch on, cut off after some seconds, goes through the classifier alone: no language before it disturbs,
no change has to be noticed, and false alarms cannot happen.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
    """`language_told_where` for each kind of speech and each of SECONDS, over the switches of the clips at `positions` after
    which the new language lasts so long."""
    assert router.classifier is not None, "router.load gives one"
    measured = []
    for seconds in SECONDS:
        cut, wanted = [], []
        for i in positions:
            audio = clips.audio(i)
            for spoken in spoken_switches(clips.records[i]):
                if spoken.until - spoken.high >= seconds:
                    start = round(spoken.high * SAMPLE_RATE)
                    cut.append(Utterance(audio[start : start + round(seconds * SAMPLE_RATE)]))
                    wanted.append((speech_kind(clips.records[i]), spoken.language))
        right: dict[str, list[bool]] = {}
        for (row, _), (speech, language) in zip(listened(router, cut), wanted, strict=True):
            right.setdefault(speech, []).append(max(row, key=lambda tag: row[tag]) == language)
        for speech, found in sorted(right.items()):
            measured.append(
                Measurement(
                    "language_told_where", sum(found) / len(found), count=len(found), system="told where", speech=speech,
                    conditions={"seconds": seconds},
                )
            )  # fmt: skip
    return measured
