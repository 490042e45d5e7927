"""How many clips of what: the plan of the embedded model's corpus, cut into chunks."""

from dataclasses import dataclass

TARGETS = ("en", "hi", "it", "pa", "te")
"""Languages that get an adapter and a class of their own."""

UNKNOWN = {
    "de": 2, "fr": 2, "es": 2, "mr": 2, "ta": 2, "ur": 0.5, "ru": 2,
    "pt": 1.5, "nl": 1.5, "bn": 1.5, "kn": 1.5, "gu": 1.5, "pl": 1,
}  # fmt: skip
"""Languages the classifier is taught to reject, with weights. Urdu weighs little: spoken, it is all but Hindi."""

UNSEEN_UNKNOWN = {"ml": 1, "tr": 1}
"""Languages to reject that occur in the test set alone."""

# English and three other European languages well; of every target's script a little, so that its letters are known.
BASE = {"en": 58, "de": 10, "fr": 10, "es": 10, "hi": 3, "it": 3, "pa": 3, "te": 3}

CHUNK = 200  # clips; small enough to keep 16 workers evenly busy, large enough to hide a process's start


@dataclass(frozen=True)
class Chunk:
    """A piece of work: `count` clips of one part and split."""

    name: str
    """Part: `base`, a target language, `unknown` or `switch`."""
    split: str
    index: int
    count: int
    languages: tuple[tuple[str, float], ...]
    """Languages to draw from, with weights."""


def plan(scale: float) -> list[Chunk]:
    """Chunks of the whole corpus. Scale 1: 60,000 clips for the base, 12,000 a target, 6,000 unknown, 4,000 switched;
    dev and test sets grow with the square root, for below that they would say nothing."""
    held = min(1.0, scale**0.5)
    each = tuple((language, 1.0) for language in TARGETS)
    parts = [
        ("base", tuple(BASE.items()), 60_000, 1_000, 0),
        *((language, ((language, 1.0),), 12_000, 300, 600) for language in TARGETS),
        ("unknown", tuple(UNKNOWN.items()), 6_000, 300, 600),
        ("switch", each, 4_000, 200, 400),
    ]
    chunks = []
    for name, languages, train, dev, test in parts:
        for split, count in (("train", round(train * scale)), ("dev", round(dev * held)), ("test", round(test * held))):
            drawn = (*languages, *UNSEEN_UNKNOWN.items()) if (name, split) == ("unknown", "test") else languages
            for index in range(-(-count // CHUNK)):
                chunks.append(Chunk(name, split, index, min(CHUNK, count - index * CHUNK), drawn))
    # The slowest first, so that no worker is left with them at the end.
    return sorted(chunks, key=lambda chunk: (chunk.name != "switch", -chunk.count))
