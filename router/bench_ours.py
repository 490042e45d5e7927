"""`boli bench router`: boli's own ways through one set of weights."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from router.bench_clips import LANGUAGES, BenchClip
from router.bench_models import Prepared

if TYPE_CHECKING:
    from router.router import Router

KINDS = {
    # name in the tables: (variant of the adapters, context, what `zoo.load` is given)
    "boli fp32": ("all", "dynamic", {}),
    "boli fp32, adapters above the tap": ("above", "dynamic", {}),
    "boli bf16": ("all", "dynamic", {"dtype": "bfloat16"}),
    "boli int8": ("all", "dynamic", {"quantize": "int8"}),
    "boli fp32, padded": ("padded", "30s", {}),
    "boli int8, padded": ("padded", "30s", {"quantize": "int8"}),
}


def load_router(prepared: Prepared, kind: str, device: str = "cpu") -> "Router":
    """The Router that `KINDS` names."""
    from adapters.store import Store
    from router.classifier import TapClassifier
    from router.options import TranscribeOptions
    from router.router import Router
    from zoo.whisper_family import family

    variant, context, given = KINDS[kind]
    settings: dict[str, Any] = dict(given)
    card = replace(family.card(prepared.base, "bench"), context=context)
    base = family.load(prepared.base, card, device=device, context=context, **settings)
    classifier = TapClassifier.load(prepared.store / "classifier", base)
    options = TranscribeOptions(languages=LANGUAGES, vad="energy")
    return Router(base, Store(prepared.store), classifier, options, variant=variant)


class Ours:
    """One Router. routed: it hears the language itself; else it is told. It counts how often it heard right.

    Changes of language inside a clip are not followed: no peer does that, and on random weights, whose frames mean nothing,
    it would cut a clip into pieces."""

    def __init__(self, router: "Router", routed: bool):
        self.router, self.routed = router, routed
        self.clips, self.right = 0, 0

    def one(self, clip: BenchClip) -> None:
        given: dict[str, Any] = {} if self.routed else {"language": clip.language}
        transcript = self.router.transcribe(clip.utterance.audio, max_tokens=clip.tokens, switching=False, **given)
        self._count([clip], [transcript])

    def batch(self, clips: list[BenchClip]) -> None:
        audios = [clip.utterance.audio for clip in clips]
        made = self.router.transcribe(audios, max_tokens=clips[0].tokens, batch_size=len(clips), switching=False)
        self._count(clips, made)

    def _count(self, clips: list[BenchClip], transcripts) -> None:
        for clip, transcript in zip(clips, transcripts, strict=True):
            self.clips += 1
            self.right += transcript.language == clip.language
