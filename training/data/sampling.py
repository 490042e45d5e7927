"""Which clips an epoch sees: languages balanced, corpora mixed by ratio.

Both give a list of indices, repeats allowed, that is a function of the seed and the epoch alone.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from zoo.errors import DataError


def balanced(
    languages: Sequence[str],
    *,
    size: int | None = None,
    alpha: float = 0.0,
    corpora: Sequence[str] | None = None,
    corpus_alpha: float = 1.0,
    seed: int = 0,
    epoch: int = 0,
) -> list[int]:
    """Indices drawn so that language l comes with a share proportional to n_l ** alpha.

    alpha 0: every language equally often; 1: as in the data; between: the usual compromise (Conneau et al. 2020,
    XLM-R, section 3.1, use 0.3). Within a language every clip is drawn before any is drawn again.
    corpora: each clip's; within a language those come with shares proportional to n ** corpus_alpha in the same way, so
    that a few recordings are not lost among many synthetic clips.
    size: how many indices; None: as many as there are clips.
    """
    for name, value in (("alpha", alpha), ("corpus_alpha", corpus_alpha)):
        if not 0 <= value <= 1:
            raise DataError(f"{name} is {value}", valid="0 (equal) to 1 (as in the data)")
    members: dict[str, list[int]] = defaultdict(list)
    for index, lang in enumerate(languages):
        members[lang].append(index)
    if not members:
        raise DataError("There are no clips to draw from", remedy="boli data describe MANIFEST")
    names = sorted(members)
    shares = np.array([len(members[name]) ** alpha for name in names], dtype=np.float64)
    random = np.random.default_rng([seed, epoch, 1])
    counts = shares_to_counts(shares, len(languages) if size is None else size)
    drawn = []
    for name, count in zip(names, counts, strict=True):
        parts: dict[str, list[int]] = defaultdict(list)
        for index in members[name]:
            parts[corpora[index] if corpora is not None and corpus_alpha < 1 else ""].append(index)
        inner = shares_to_counts(np.array([len(part) ** corpus_alpha for part in parts.values()]), count)
        for part, many in zip(parts.values(), inner, strict=True):
            drawn += _cycle(part, many, random)
    return [drawn[i] for i in random.permutation(len(drawn))]


def mixed(
    sources: Sequence[str],
    ratios: Mapping[str, float],
    *,
    window: int = 100,
    size: int | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> list[int]:
    """Indices in which every window of `window` consecutive ones holds the sources in the given ratio.

    Kept per window and not only on average: an adapter trained at 0.2/0.8 must see the ratio at every stage of the
    learning-rate schedule. Exact to one clip in windows aligned at multiples of `window`; a source that runs short is
    repeated (its clips reshuffled). size: None means until the source that lasts longest, by its ratio, was seen once.

    Raises DataError for a source without clips, a ratio that is not positive, or a window too short for the ratio.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for index, source in enumerate(sources):
        members[source].append(index)
    for name, ratio in ratios.items():
        if not ratio > 0:
            raise DataError(
                f"The ratio of {name!r} is {ratio:g}", valid="a number above 0; leave a source out to drop it"
            )
        if not members.get(name):
            raise DataError(f"Source {name!r} has no clips", valid=", ".join(sorted(members)) or "none at all")
    names = sorted(ratios)
    shares = np.array([ratios[name] for name in names], dtype=np.float64)
    shares /= shares.sum()
    counts = shares_to_counts(shares, window)
    if min(counts) == 0:
        raise DataError(
            f"A window of {window} clips cannot hold {dict(ratios)}",
            valid=f"a window of {int(np.ceil(1 / shares.min()))} or more",
        )
    if size is None:
        size = max(int(np.ceil(len(members[name]) / share)) for name, share in zip(names, shares, strict=True))
    random = np.random.default_rng([seed, epoch, 2])
    windows = [counts] * (size // window) + [shares_to_counts(shares, size % window)]
    needed = np.sum(windows, axis=0)
    streams = [iter(_cycle(members[name], count, random)) for name, count in zip(names, needed, strict=True)]
    drawn: list[int] = []
    for window_counts in windows:
        order: np.ndarray = np.repeat(np.arange(len(names)), window_counts)
        drawn += [next(streams[which]) for which in random.permutation(order)]
    return drawn


def shares_to_counts(shares: np.ndarray, total: int) -> list[int]:
    """Whole numbers that sum to `total`, as near to the shares as can be (largest remainders)."""
    exact = shares / shares.sum() * total
    counts = np.floor(exact).astype(int)
    for which in np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]:
        counts[which] += 1
    return counts.tolist()


def _cycle(members: list[int], count: int, random: np.random.Generator) -> list[int]:
    drawn: list[int] = []
    while len(drawn) < count:
        drawn += [members[i] for i in random.permutation(len(members))]
    return drawn[:count]
