"""What a caller can ask of one transcription."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from router.policies import PolicyOptions
from zoo.errors import RoutingError
from zoo.interface import DecodeOptions


@dataclass(frozen=True)
class TranscribeOptions(PolicyOptions):
    """Each field's text is the help of the option of the same name."""

    beam_size: int = 1
    """1 is greedy; more is beam search. `router.load` asks the model's card where nothing is said, here and below."""
    ctc_weight: float = 0.0
    """Share of CTC in the scores, for bases with a CTC head (OWSM, the embedded model): 0 the decoder alone, 1 CTC alone."""
    timestamps: Literal["none", "segment", "word"] = "none"
    """Times inside a chunk: those the model writes (segment; only models trained to do so), or per word (word) by
    aligning the decoder's cross-attention (Whisper) or CTC (OWSM)."""
    batch_size: int = 8
    """Most chunks in one pass."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """Write the language spoken, or English."""
    max_tokens: int | None = None
    """Stop a chunk after this many tokens; None: more than anybody can say in its time."""
    ensemble: Literal["weights", "logits"] = "weights"
    """Several adapters are mixed in one pass (weights), or each runs alone under its own language's token and their
    distributions are averaged (logits; for comparison only)."""
    carry_context: bool = False
    """Give each chunk of a long recording the text before it. Chunks then run one by one; only models trained with
    previous text profit, the embedded one was not."""
    cut_loops: bool = True
    """Where only the limit of tokens ended a text that was repeating itself, keep what it repeats once."""
    rescore: bool = True
    """Let each candidate language write a clip that the classifier is not sure of, and hear how sure it is (only where the
    classifier's config says how: `boli train rescoring`); write a clip that seems to change language in several versions, and
    take the most probable one."""
    vad: Literal["silero", "energy"] = "silero"
    """What finds the pauses in which long audio is cut."""
    switching: bool | None = None
    """Cut audio where the language changes: True wherever smoothing finds a change, False never, None where a recording
    clearly shows more than one language."""
    strategy: Literal["segments", "frames"] = "segments"
    """Where the language changes: each segment is written under its own mixture (segments), or all in one pass under a
    mixture that changes from frame to frame (frames)."""
    switch_cost: float | None = None
    """What one change of language must be worth, in nat-seconds; None: what was chosen for the classifier. Less finds
    more changes, also false ones."""

    def __post_init__(self):
        super().__post_init__()
        if self.beam_size < 1:
            raise RoutingError(f"beam_size is {self.beam_size}", valid="1 or more")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise RoutingError(f"ctc_weight is {self.ctc_weight}", valid="0 to 1")
        if self.batch_size < 1:
            raise RoutingError(f"batch_size is {self.batch_size}", valid="1 or more")
        if self.timestamps not in ("none", "segment", "word"):
            raise RoutingError(f"timestamps is {self.timestamps!r}", valid="none, segment, word")
        if self.ensemble not in ("weights", "logits"):
            raise RoutingError(f"ensemble is {self.ensemble!r}", valid="weights, logits")
        if self.ensemble == "logits" and self.timestamps == "word":
            raise RoutingError('ensemble="logits" has no word times', valid='timestamps="none" or "segment"')
        if self.vad not in ("silero", "energy"):
            raise RoutingError(f"vad is {self.vad!r}", valid="silero, energy")
        if self.strategy not in ("segments", "frames"):
            raise RoutingError(f"strategy is {self.strategy!r}", valid="segments, frames")
        if self.strategy == "frames" and self.ensemble == "logits":
            raise RoutingError(
                'strategy="frames" mixes weights in one pass, ensemble="logits" runs several',
                valid='strategy="segments", or ensemble="weights"',
            )
        if self.switch_cost is not None and not self.switch_cost >= 0:
            raise RoutingError(f"switch_cost is {self.switch_cost}", valid="0 or more")
        if self.switching and self.language is not None:
            raise RoutingError(
                f"switching is on, but only {self.language!r} is spoken", valid="language or switching, not both"
            )
        if self.task not in ("transcribe", "translate"):
            raise RoutingError(f"task is {self.task!r}", valid="transcribe, translate")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RoutingError(f"max_tokens is {self.max_tokens}", valid="1 or more")

    def decoding(self, longest: Sequence[int], previous: str = "") -> DecodeOptions:
        """longest: tokens of each clip where no limit is set; previous: text said before."""
        return DecodeOptions(
            self.beam_size,
            ctc_weight=self.ctc_weight,
            timestamps=self.timestamps == "segment",
            max_tokens=tuple(longest) if self.max_tokens is None else self.max_tokens,
            task=self.task,
            previous=previous,
            cut_loops=self.cut_loops,
        )


def transcribe_options(
    changes: Mapping[str, Any], defaults: TranscribeOptions = TranscribeOptions()
) -> TranscribeOptions:
    """`defaults` with `changes`. Raises RoutingError for an option that does not exist or a value that cannot be."""
    known = {f.name for f in fields(TranscribeOptions)}
    if unknown := sorted(set(changes) - known):
        raise RoutingError(f"transcribe() has no options {unknown}", valid=", ".join(sorted(known)))
    changes = dict(changes)
    if isinstance(changes.get("languages"), str):
        changes["languages"] = (changes["languages"],)
    elif changes.get("languages") is not None:
        changes["languages"] = tuple(changes["languages"])
    if changes.get("timestamps") == "segment" or changes.get("ensemble") == "logits":
        changes.setdefault("ctc_weight", 0.0)  # CTC has no say in either: who asks for them does not ask for it
    return replace(defaults, **changes)
