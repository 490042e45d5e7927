"""Puts what the chunks of one recording gave together to a Transcript."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from router.classifier import UNKNOWN
from router.passes import Passed
from router.transcript import Posteriors, Segment, Transcript, Word
from zoo.interface import TimedWord

PAUSE_S = 0.6  # a pause this long ends a segment, where words are timed
LONGEST_S = 7.0  # as does this length, so that segments can be read as subtitles
SENTENCE_ENDS = (".", "?", "!", "।", "॥", "؟", "。")


@dataclass(frozen=True)
class Part:
    """One chunk's place in its recording, in seconds, and what it gave."""

    start_s: float
    end_s: float
    passed: Passed


def assemble(
    name: str,
    duration_s: float,
    parts: Sequence[Part],
    timings: dict[str, float],
    languages: Sequence[str] = (),
    frame_rate: float = 0.0,
) -> Transcript:
    """Segments in order; the language that was spoken longest is the recording's.

    languages, frame_rate: of the classifier's frames, where the parts have them.
    """
    segments: list[Segment] = []
    probabilities: dict[str, float] = {}
    spoken: dict[str, float] = {}
    for part in parts:
        length = part.end_s - part.start_s
        language = part.passed.decision.language
        row = part.passed.probabilities or {language: 1.0}
        for tag, p in row.items():
            probabilities[tag] = probabilities.get(tag, 0.0) + p * length
        spoken[language] = spoken.get(language, 0.0) + length
        segments += segments_of(part, row.get(language, 0.0))
    total = sum(spoken.values())
    language = max(spoken, key=lambda tag: spoken[tag]) if spoken else UNKNOWN
    probabilities = {tag: p / total for tag, p in sorted(probabilities.items(), key=lambda item: -item[1])}
    return Transcript(
        text=" ".join(segment.text for segment in segments if segment.text),
        language=language,
        language_probability=probabilities.get(language, 0.0),
        probabilities=probabilities,
        segments=tuple(segments),
        duration=duration_s,
        timings=timings,
        source=name,
        posteriors=tuple(
            Posteriors(part.start_s, frame_rate, tuple(languages), part.passed.frames.float().exp().cpu().numpy())
            for part in parts
            if part.passed.frames is not None
        ),
    )


def segments_of(part: Part, probability: float) -> list[Segment]:
    """One segment; several where the model wrote timestamps or the words are timed."""
    hypothesis, decision = part.passed.hypothesis, part.passed.decision
    common: dict[str, Any] = {
        "language": decision.language,
        "probability": probability,
        "weights": part.passed.weights,
        "reason": decision.reason,
        "avg_logprob": hypothesis.log_probability / (len(hypothesis.tokens) + 1),
        "seek": round(part.start_s * 100),
    }
    length = part.end_s - part.start_s
    if part.passed.words:
        return [
            Segment(
                words[0].start,
                words[-1].end,
                "".join(word.word for word in words).strip(),
                tokens=tokens,
                words=words,
                **common,
            )
            for words, tokens in sentences(part.passed.words, part.start_s, length)
        ]
    if hypothesis.pieces:
        return [
            Segment(
                part.start_s + piece.start_s,
                part.start_s + min(piece.end_s, length),
                piece.text,
                tokens=piece.tokens,
                **common,
            )
            for piece in hypothesis.pieces
        ]
    return [Segment(part.start_s, part.end_s, hypothesis.text, tokens=hypothesis.tokens, **common)]


def sentences(
    words: Sequence[TimedWord], start_s: float, length_s: float
) -> list[tuple[tuple[Word, ...], tuple[int, ...]]]:
    """Words grouped at sentence ends, pauses and subtitle length, and the tokens of each group."""
    groups: list[list[TimedWord]] = []
    for word in words:
        last = groups[-1][-1] if groups else None
        if (
            last is None
            or word.start_s - last.end_s >= PAUSE_S
            or last.word.rstrip().endswith(SENTENCE_ENDS)
            or word.end_s - groups[-1][0].start_s > LONGEST_S
        ):
            groups.append([])
        groups[-1].append(word)
    return [
        (
            tuple(
                Word(w.word, start_s + min(w.start_s, length_s), start_s + min(w.end_s, length_s), w.probability)
                for w in group
            ),
            tuple(token for w in group for token in w.tokens),
        )
        for group in groups
    ]
