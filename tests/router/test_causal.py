"""The causal decision: Page's test by hand, and that nothing after t is heard before t."""

from dataclasses import replace

import numpy as np
import pytest

from router.causal import Causal, Follower, Odds, Page
from tests.toy_router import LANGUAGES, make, switched
from zoo.errors import ModelError, RoutingError

P = np.log([0.8, 0.1, 0.1])  # a frame of the first language; the lead is ln 8 = 2.079


@pytest.fixture
def toy_router(toy_folder, toy_store, monkeypatch):
    return make(toy_folder, toy_store, monkeypatch)


def follower(router, **options) -> Follower:
    chosen = Causal(**{"window_s": 1.0, "hop_s": 0.1, "look_ahead_s": 0.1, "threshold": 0.2, **options})
    return Follower(router.base, router.bank, router.classifier, chosen)


def decisions(page: Page, letters: str, length: float = 0.1) -> list[tuple[int, str, float]]:
    """(frame, language, since) of each change, for frames that are `a`, `b` or `c`."""
    rows = np.stack([np.roll(P, "abc".index(letter)) for letter in letters])
    changes = page.add(rows, length * np.arange(len(rows)), length)
    return [(t, page.language, round(since_s, 6)) for t, since_s in changes]


def test_pages_test_by_hand():
    # A frame of 0.1 s leads by 0.208: the threshold of 0.5 is passed by the third. Evidence began with the first.
    page = Page(("a", "b", "c"), Causal(threshold=0.5))
    assert decisions(page, "aaaaabbbbcc") == [(2, "a", 0.0), (7, "b", 0.5)]
    # c follows at frame 9 with two frames; two more complete it
    assert decisions(page, "cc", 0.1) == [(0, "c", 0.9)] or page.languages[page.present] == "c"


def test_a_third_language_must_lead_by_more():
    """Three frames pass 0.5, five 0.5 + 0.5; who was heard before needs three again."""
    letters = "aaa" + "bbb" + "ccccc" + "aaa" + "ccc"
    page = Page(("a", "b", "c"), Causal(threshold=0.5, third=0.5))
    assert [(t, tag) for t, tag, _ in decisions(page, letters)] == [(2, "a"), (5, "b"), (10, "c"), (13, "a"), (16, "c")]
    plain = decisions(Page(("a", "b", "c"), Causal(threshold=0.5)), letters)
    assert [(t, tag) for t, tag, _ in plain][:3] == [(2, "a"), (5, "b"), (8, "c")]


def test_the_first_language_needs_less_the_longer_it_is_heard():
    """Odds of e^2.05 at every frame of 0.1 s: 3 nats that fall by one a second come down to that with the tenth frame; what falls
    to no less than the threshold of 2.1 never does. Behind the first decision nothing falls."""

    def frame(odds: float) -> np.ndarray:
        share = np.exp(odds) / (1 + np.exp(odds))
        return np.log([share, (1 - share) / 2, (1 - share) / 2])

    def declared(options: Causal, frames: list[np.ndarray]) -> list[tuple[int, int]]:
        test = Odds(("a", "b", "c"), options)
        return [(t, test.present) for t, _ in test.add(np.stack(frames), 0.1 * np.arange(len(frames)), 0.1)]

    falling = Causal(threshold=1.0, first=3.0, first_fall=1.0, floor=-20.0)
    assert declared(falling, [frame(2.05)] * 30) == [(9, 0)]
    assert declared(replace(falling, first_fall=0.0), [frame(2.05)] * 30) == []
    assert declared(replace(falling, threshold=2.1), [frame(2.05)] * 60) == []
    assert declared(replace(falling, threshold=2.1), [frame(2.05)] * 9 + [frame(3.0), np.roll(frame(2.09), 1)]) == [
        (9, 0)
    ]
    assert declared(replace(falling, threshold=4.0), [frame(3.5)]) == [(0, 0)], "first may be below the threshold"
    with pytest.raises(ModelError, match=r"first_fall.*0 or more"):
        Causal(first_fall=-0.1)


@pytest.mark.parametrize("kind", [Page, Odds])
def test_blocks_decide_as_their_frames_do(kind):
    """However a recording's frames come in, one by one or all at once."""
    random = np.random.default_rng(0)
    found = 0
    for _ in range(50):
        walk = random.standard_normal((60, 3)).cumsum(axis=0)
        rows, starts = walk - np.logaddexp.reduce(walk, axis=1, keepdims=True), 0.1 * np.arange(60)
        options = Causal(threshold=random.uniform(0.02, 2), first=2.0, first_fall=1.0, third=random.choice([0.0, 1.0]))
        whole, single = kind("abc", options), kind("abc", options)
        at_once = [(t, whole.language, since_s) for t, since_s in whole.add(rows, starts, 0.1)]
        one_by_one = [
            (t, single.language, since_s) for t in range(60) for _, since_s in single.add(rows[[t]], starts[[t]], 0.1)
        ]
        assert [(t, tag, pytest.approx(since_s)) for t, tag, since_s in at_once] == one_by_one
        found += len(at_once)
    assert found > 100


def test_doubt_that_does_not_add_up_is_no_change():
    page = Page(("a", "b", "c"), Causal(threshold=0.5))
    assert decisions(page, "aaa" + "ba" * 20) == [(2, "a", 0.0)]
    assert decisions(Page(("a", "b", "c"), Causal(threshold=0.3)), "aa" + "bba" * 3)[:2] == [
        (1, "a", 0.0),
        (3, "b", 0.2),
    ]


def test_no_frame_is_surer_than_the_floor():
    page = Page(("a", "b"), Causal(threshold=0.3, floor=-2.0))
    list(page.add(np.log([[0.9, 0.1]] * 5), 0.1 * np.arange(5), 0.1))
    assert page.present == 0
    assert not list(page.add(np.log([[1e-30, 1.0]]), np.array([0.5]), 0.1))
    assert page.lead[1] == pytest.approx(0.2)


def test_what_comes_after_t_changes_no_decision_before_t(toy_router):
    """Other samples behind t, or none: the decisions up to t are the same, whatever the blocks."""
    audio = np.concatenate([clip for clip, _ in switched(2, seed=5, parts=3)])
    wanted = follower(toy_router).feed(audio)
    assert len(wanted) >= 4
    random = np.random.default_rng(0)
    for t in (16_000, 23_456, len(audio) - 4000):
        before = [change for change in wanted if change.decided_s <= t / 16_000]
        other = audio.copy()
        other[t:] = random.standard_normal(len(audio) - t)
        changed = follower(toy_router).feed(other)
        assert [change for change in changed if change.decided_s <= t / 16_000] == before
        assert follower(toy_router).feed(audio[:t]) == before
    in_blocks = follower(toy_router)
    found = []
    for start in range(0, len(audio), 777):
        found += in_blocks.feed(audio[start : start + 777])
    assert found == wanted
    assert len(in_blocks._held) < 1.5 * 16_000, "only the window is kept"


def test_switches_are_noticed_soon(toy_router):
    delays, missed = [], 0
    for audio, segments in switched(10, seed=21):
        changes = [c for c in follower(toy_router).feed(audio) if c.before]
        start, end, language, _ = segments[1]
        late = [c.decided_s - start for c in changes if c.language == language and start - 0.25 <= c.decided_s <= end]
        delays += late[:1]
        missed += not late
    assert missed <= 2
    assert np.median(delays) <= 0.5


def test_the_first_decision_is_no_switch(toy_router):
    audio, segments = switched(1, seed=5)[0]
    first = follower(toy_router).feed(audio)[0]
    assert (first.before, first.language) == ("", segments[0][2])
    assert first.decided_s * 10 == pytest.approx(round(first.decided_s * 10)), "decisions fall on the hop"


def test_quiet_frames_say_nothing(toy_router):
    audio, _ = switched(1, seed=5)[0]
    silence = 1e-5 * np.random.default_rng(1).standard_normal(32_000).astype(np.float32)
    running = follower(toy_router)
    running.feed(audio)
    assert running.feed(silence) == []


def test_a_router_follows_a_recording(toy_router, tmp_path):
    import soundfile

    audio, segments = switched(1, seed=5)[0]
    path = tmp_path / "both.wav"
    soundfile.write(path, audio, 16_000, subtype="FLOAT")
    changes = list(toy_router.follow(path))
    assert changes == list(toy_router.follow(audio))
    assert [change.language for change in changes] == [language for *_, language, _ in segments]
    only = [language for *_, language, _ in segments][:1]
    assert {change.language for change in toy_router.follow(audio, languages=only)} == set(only)
    with pytest.raises(RoutingError, match="no language forced"):
        next(toy_router.follow(audio, language="hi"))
    toy_router.classifier = None
    with pytest.raises(RoutingError, match="only where it is detected"):
        next(toy_router.follow(audio))


def test_impossible_parameters_are_refused():
    with pytest.raises(ModelError, match=r"window_s is 0.1, look_ahead_s 0.1.*0.2 s"):
        Causal(window_s=0.1)
    with pytest.raises(ModelError, match="threshold is 0"):
        Causal(threshold=0)
    assert Causal().threshold > 0
    assert len(LANGUAGES) == 5
