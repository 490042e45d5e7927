"""Clips in one language joined at random into others that change language, or only the speaker.

Sets that `boli data codeswitch` makes are what a system is measured on: pieces of one level and one spectrum, of few kinds.
What a head that follows learns from may be more various: pieces of any length, other languages than the classifier's
classes, several changes of speaker within one language. Without them a head of the embedded base found fewer switches of
synthetic voices (docs/log.md).
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from router.classifier import UNKNOWN
from training.clips import PCM, Clips
from training.data.levels import at_level
from training.data.manifest import Segment
from training.data.speed import at_speed
from zoo.speech import SAMPLE_RATE

PIECE_S = (0.5, 5.0)  # as evenly drawn on a logarithmic scale
CLIP_S = (4.0, 11.0)  # shortest, so many seconds are passed by the last piece
PAUSE_S = 0.5  # longest
PAUSED = 0.6  # share of the seams with a pause
CHANGED = 0.6  # share of the seams where the language changes
THIRD = 0.08  # and where it is any of all languages, not the other one of the clip's two
LEVEL_DB, VARIED_DB = -26.0, 3.0
NOISE_DB = (-100.0, -60.0)  # white, under the whole
FADE = round(0.01 * SAMPLE_RATE)
SPEED = (0.85, 1.18)  # of a piece, as evenly drawn on a logarithmic scale: other voices


def switched(clips: Clips) -> Clips:
    """A view of those that change language, or speaker, already."""
    keep = [i for i, record in enumerate(clips.records) if record.segments]
    return Clips(
        [clips.records[i] for i in keep], clips.samples, clips.starts[keep], clips.lengths[keep], [],
        [clips.source(i) for i in keep],
    )  # fmt: skip


def joined(clips: Clips, classes: tuple[str, ...], count: int, seed: int, sped: float = 0.0) -> Clips:
    """`count` clips joined from those of `clips` that are in one language, every language and each of its corpora as often.

    classes: languages in none of them are drawn as one, `unknown`. sped: share of the pieces that are faster or slower.
    """
    pools: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, record in enumerate(clips.records):
        if not record.segments:
            pools[record.lang if record.lang in classes else UNKNOWN][record.corpus].append(i)
    languages = sorted(pools)
    if not count or len(languages) < 2:
        return Clips([], np.zeros(0, np.int16), np.zeros(0, np.int64), np.zeros(0, np.int64), [])
    records, samples = [], []
    for number in range(count):
        random = np.random.default_rng([seed, number, 9])
        audio, segments, first = _one(clips, pools, languages, random, sped)
        whole = replace(clips.records[first], id=f"joined_{number}", text="", segments=tuple(segments), extra={})
        records.append(replace(whole, lang=segments[0].lang, duration=len(audio) / SAMPLE_RATE, offset=0.0))
        samples.append(np.round(np.clip(audio, -1, 1) * PCM).astype(np.int16))
    lengths = np.array([len(each) for each in samples], dtype=np.int64)
    return Clips(records, np.concatenate(samples), np.cumsum(lengths) - lengths, lengths, [], ["joined"] * count)


def _one(
    clips: Clips, pools, languages: list[str], random: np.random.Generator, sped: float
) -> tuple[np.ndarray, list[Segment], int]:
    """The sound of one clip, its segments, and the clip that its first piece is from."""
    two = [languages[k] for k in random.choice(len(languages), 2, replace=False)]
    wanted, present = random.uniform(*CLIP_S), two[0]
    parts: list[np.ndarray] = []
    segments: list[Segment] = []
    at, first = 0, -1
    while at < wanted * SAMPLE_RATE:
        if segments and random.random() < CHANGED:
            present = two[1] if present == two[0] else two[0]
        if random.random() < THIRD:
            present = languages[random.integers(len(languages))]
        corpora = sorted(pools[present])
        members = pools[present][corpora[random.integers(len(corpora))]]
        i = members[random.integers(len(members))]
        first = i if first < 0 else first
        pause = round(SAMPLE_RATE * random.uniform(0, PAUSE_S)) if random.random() < PAUSED else 0
        piece = _piece(clips.audio(i), random, sped)
        segments.append(
            Segment((at + pause) / SAMPLE_RATE, (at + pause + len(piece)) / SAMPLE_RATE, clips.records[i].lang)
        )
        parts += [np.zeros(pause, np.float32), piece]
        at += pause + len(piece)
    audio = np.concatenate(parts)
    noise = 10 ** (random.uniform(*NOISE_DB) / 20) * random.standard_normal(len(audio))
    return (audio + noise).astype(np.float32), segments, first


def _piece(audio: np.ndarray, random: np.random.Generator, sped: float) -> np.ndarray:
    """A random part of a clip, some faster or slower and so in another voice, at the level of all pieces but for a little,
    faded in and out."""
    length = min(len(audio), round(SAMPLE_RATE * np.exp(random.uniform(*np.log(PIECE_S)))))
    start = random.integers(0, len(audio) - length + 1)
    piece = audio[start : start + length]
    if sped and random.random() < sped:  # 0 draws nothing: recipes without it keep their clips
        piece = at_speed(piece, np.exp(random.uniform(*np.log(SPEED))))
    piece = at_level(piece, LEVEL_DB + random.uniform(-VARIED_DB, VARIED_DB)).copy()
    fade = np.linspace(0, 1, min(FADE, len(piece) // 2), dtype=np.float32)
    piece[: len(fade)] *= fade
    piece[len(piece) - len(fade) :] *= fade[::-1]
    return piece
