from collections import Counter

import numpy as np
import pytest

from training.data.buckets import BatchOptions, LengthBuckets
from training.data.sampling import balanced, mixed
from zoo.errors import DataError

DURATIONS = np.random.default_rng(0).uniform(0.4, 12, 500).tolist()


def grid(i):
    return int(np.ceil(DURATIONS[i]))


def test_batches_hold_one_grid_and_every_clip_once():
    batches = LengthBuckets(DURATIONS, BatchOptions(batch_size=8)).batches()
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert all(len({grid(i) for i in batch}) == 1 and len(batch) <= 8 for batch in batches)


def test_order_follows_seed_and_epoch_alone_and_resumes():
    one, two = (LengthBuckets(DURATIONS, BatchOptions(seed=3)) for _ in range(2))
    one.set_epoch(2)
    two.set_epoch(2, start=5)
    assert list(one)[5:] == list(two)
    assert len(two) == len(one) - 5
    two.set_epoch(3)
    assert list(one) != list(two)


def test_seconds_a_batch_are_limited():
    batches = LengthBuckets(DURATIONS, BatchOptions(batch_size=64, max_batch_s=30)).batches()
    assert all(len(batch) * grid(batch[0]) <= 30 for batch in batches)


def test_unshuffled_starts_with_the_longest():
    batches = LengthBuckets(DURATIONS, BatchOptions(shuffle=False)).batches()
    assert [grid(b[0]) for b in batches] == sorted((grid(b[0]) for b in batches), reverse=True)


def test_ranks_share_all_batches_equally():
    shares = [LengthBuckets(DURATIONS, BatchOptions(), rank=r, world_size=3).batches() for r in range(3)]
    assert len({len(s) for s in shares}) == 1
    assert {i for share in shares for batch in share for i in batch} == set(range(500))


def test_padding_is_small_beside_whispers():
    assert LengthBuckets(DURATIONS).padding() < 0.1
    assert LengthBuckets(DURATIONS, grid_of=lambda s: 30.0).padding() > 0.75


@pytest.mark.parametrize("options", [BatchOptions(batch_size=0), BatchOptions(grid_s=0)])
def test_impossible_options(options):
    with pytest.raises(DataError):
        LengthBuckets(DURATIONS, options)
    with pytest.raises(DataError, match="no clips"):
        LengthBuckets([])


def test_indices_of_an_epoch_may_repeat():
    sampler = LengthBuckets(DURATIONS, BatchOptions(batch_size=4))
    sampler.set_epoch(0, indices=[1, 1, 2, 1])
    assert sorted(i for b in sampler for i in b) == [1, 1, 1, 2]


def test_balanced_languages():
    languages = ["hi"] * 900 + ["pa"] * 90 + ["te"] * 10
    drawn = balanced(languages, seed=1)
    counts = {lang: sum(languages[i] == lang for i in drawn) for lang in ("hi", "pa", "te")}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert drawn == balanced(languages, seed=1) != balanced(languages, seed=1, epoch=1)
    # nothing is drawn twice before everything of its language was drawn once
    assert len({i for i in drawn if languages[i] == "hi"}) == counts["hi"]
    assert sum(languages[i] == "hi" for i in balanced(languages, alpha=1)) == 900


def test_balanced_corpora_within_a_language():
    """Shares n ** alpha of 10,000, 100 and 1 clips at 0.5 are 100 : 10 : 1; the languages stay equal."""
    languages = ["pa"] * 10_101 + ["hi"] * 10_101
    corpora = (["made"] * 10_000 + ["read"] * 100 + ["told"]) * 2
    drawn = balanced(languages, corpora=corpora, corpus_alpha=0.5, size=2 * 111, seed=3)
    found = Counter((languages[i], corpora[i]) for i in drawn)
    for lang in ("pa", "hi"):
        assert [found[lang, corpus] for corpus in ("made", "read", "told")] == [100, 10, 1]
    assert balanced(languages, corpora=corpora, seed=3) == balanced(languages, seed=3), "1: as in the data"
    with pytest.raises(DataError, match=r"corpus_alpha is 2"):
        balanced(languages, corpora=corpora, corpus_alpha=2)


@pytest.mark.parametrize(("ratio", "expected"), [(0.8, 80), (0.5, 50), (0.2, 20)])
def test_mixing_keeps_the_ratio_in_every_window(ratio, expected):
    sources = ["a"] * 300 + ["b"] * 700
    drawn = mixed(sources, {"a": ratio, "b": 1 - ratio}, window=100, seed=4)
    windows = [drawn[i : i + 100] for i in range(0, len(drawn) - 99, 100)]
    assert len(windows) >= 3
    assert all(sum(sources[i] == "a" for i in window) == expected for window in windows)
    assert drawn == mixed(sources, {"a": ratio, "b": 1 - ratio}, window=100, seed=4)
    assert set(drawn) >= {i for i, s in enumerate(sources) if s == ("a" if ratio < 0.3 else "b")}


def test_impossible_mixtures():
    with pytest.raises(DataError, match=r"'c' has no clips. Valid: a, b"):
        mixed(["a", "b"], {"a": 1, "c": 1})
    with pytest.raises(DataError, match="ratio of 'a' is -1"):
        mixed(["a", "b"], {"a": -1, "b": 1})
    with pytest.raises(DataError, match="window of 1000 or more"):
        mixed(["a", "b"], {"a": 0.001, "b": 0.999}, window=10)
