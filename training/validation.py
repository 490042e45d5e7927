"""Transcribes a job's validation clips with the model as it stands, each clip as it will be when serving."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.clips import Clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.evaluation.metrics import align, summarise
from training.evaluation.normalisers import normaliser
from zoo.interface import BaseModel, DecodeOptions
from zoo.speech import Utterance

TOKENS_PER_S = 30  # nobody speaks faster, also not in bytes: what is longer is a loop of an untrained model
TOKENS_SPARE = 12


@dataclass(frozen=True)
class Validated:
    """What the model wrote, and how wrong it was."""

    texts: list[str]
    """Hypothesis of each clip, in the order of the clips."""
    metrics: dict[str, float]
    """`wer`, `cer` over all clips (raw text), and `wer_hi`, `cer_hi`, ... per language."""
    rows: list[dict[str, Any]]
    """Per clip: id, language, reference, hypothesis, word errors and words."""


def validate(base: BaseModel, clips: Clips, batch_clips: int = 64, batch_s: float = 400.0) -> Validated:
    """Greedy transcripts of all clips, each under its own language, and their error rates."""
    texts = transcribe(base, clips, range(len(clips)), batch_clips, batch_s)
    references = [record.text for record in clips.records]
    languages = [record.lang for record in clips.records]
    alignment = align(references, texts, languages, normaliser("raw"))
    metrics = {}
    for language in ["", *sorted(set(languages))]:
        rows = None if not language else np.array([each == language for each in languages])
        scores = summarise(alignment, rows=rows, bootstrap=0)
        suffix = f"_{language}" if language else ""
        metrics[f"wer{suffix}"] = _value(scores.wer.value)
        metrics[f"cer{suffix}"] = _value(scores.cer.value)
    table = [
        {
            "id": record.id,
            "language": record.lang,
            "reference": record.text,
            "hypothesis": text,
            "word_errors": int(words[1:].sum()),
            "words": int(words[:3].sum()),
        }
        for record, text, words in zip(clips.records, texts, alignment.words, strict=True)
    ]
    return Validated(texts, metrics, table)


def transcribe(base: BaseModel, clips: Clips, indices: Sequence[int], batch_clips: int, batch_s: float) -> list[str]:
    """Greedy text of each clip of `indices`."""
    import torch

    indices = list(indices)
    utterances = [Utterance(clips.audio(i), id=clips.records[i].id) for i in indices]
    grids = [base.grid_s(utterance) for utterance in utterances]
    shape = BatchOptions(batch_size=batch_clips, max_batch_s=batch_s, shuffle=False)
    texts = [""] * len(indices)
    was_training = base.module.training
    base.module.eval()
    try:
        for members in LengthBuckets(grids, shape, grid_of=float).batches():
            with torch.inference_mode():
                hidden = base.encode(base.features([utterances[m] for m in members]))
                limit = DecodeOptions(max_tokens=TOKENS_SPARE + int(TOKENS_PER_S * grids[members[0]]))
                found = base.decode(hidden, [clips.records[indices[m]].lang for m in members], limit)
            for m, hypothesis in zip(members, found, strict=True):
                texts[m] = hypothesis.text
    finally:
        base.module.train(was_training)
    return texts


def _value(rate: float | None) -> float:
    return float("nan") if rate is None else rate


def spread(clips_per_language: int, languages: Sequence[str], seed: int | None = None) -> list[int]:
    """Positions of at most so many clips per language; 0: all. Spread evenly over the list, or drawn by `seed`."""
    chosen: list[int] = []
    for language in dict.fromkeys(languages):
        members = [i for i, each in enumerate(languages) if each == language]
        if clips_per_language and len(members) > clips_per_language:
            places = np.linspace(0, len(members) - 1, clips_per_language).astype(int)
            if seed is not None:
                places = np.random.default_rng([seed, 5]).permutation(len(members))[:clips_per_language]
            members = [members[k] for k in places]
        chosen += members
    return sorted(chosen)
