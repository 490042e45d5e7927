"""The head that follows: what it was taught on is what it hears, it remembers, and it fits its base or is refused."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from router.causal import Follower, Odds
from router.classifier import TapClassifier
from router.following import Following, FollowingConfig
from router.windows import Causal, Windows
from tests.toy_router import LANGUAGES, TAP, make, switched
from training.clips import PCM, Clips
from training.data.manifest import Record
from training.following_data import Streams, encode_streams
from zoo.errors import ModelError, RoutingError

TAUGHT = Causal(window_s=1.0, hop_s=0.1, look_ahead_s=0.1, threshold=0.4, floor=-20.0)


@pytest.fixture
def toy_router(toy_folder, toy_store, monkeypatch):
    return make(toy_folder, toy_store, monkeypatch)


def head(base, finished: bool = True, causal: Causal = TAUGHT, seed: int = 0) -> Following:
    torch.manual_seed(seed)
    config = FollowingConfig(
        LANGUAGES, "toy", TAP, base.hidden_size, finished, 16, asdict(causal), base_sha256=base.weights_sha256
    )
    return Following.new(config)


def joined(count: int, seed: int) -> np.ndarray:
    return np.concatenate([clip for clip, _ in switched(count, seed=seed, parts=3)])


def declared(test: Odds, rows) -> list[tuple[int, str, float]]:
    """(frame, language, since) of each change, for frames of 0.1 s."""
    changes = test.add(np.log(rows), 0.1 * np.arange(len(rows)), 0.1)
    return [(k, test.language, round(since_s, 6)) for k, since_s in changes]


def test_the_odds_by_hand():
    """A language enters where it is so much more probable than all others together; one that was not spoken counts as less
    probable."""
    rows = [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.55, 0.35], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7]]
    # ln(0.6 / 0.4) = 0.41 and ln(0.7 / 0.3) = 0.85 for a. b leads a at frame 2, but 0.55 is as probable as a and c together:
    # only ln(0.7 / 0.3) is enough, and it was the more probable half from frame 3 on; so it is for c
    plain = Odds(("a", "b", "c"), Causal(threshold=0.5, floor=-20.0))
    assert declared(plain, rows) == [(1, "a", 0.0), (4, "b", 0.3), (5, "c", 0.5)]
    surer = Odds(("a", "b", "c"), Causal(threshold=0.5, first=0.4, floor=-20.0))
    assert declared(surer, rows)[0] == (0, "a", 0.0)
    # a and b were spoken, so c counts as half as probable: ln(0.35 / 0.3) = 0.15, then ln(0.45 / 0.1) = 1.5 with 0.9
    third = Odds(("a", "b", "c"), Causal(threshold=0.5, third=float(np.log(2)), floor=-20.0))
    assert declared(third, [*rows, [0.05, 0.05, 0.9]]) == [(1, "a", 0.0), (4, "b", 0.3), (6, "c", 0.5)]
    assert third.language == "c"


def test_a_language_alone_is_declared_at_once():
    assert declared(Odds(("a",), Causal(threshold=9.0, floor=-20.0)), [[1.0]]) == [(0, "a", 0.0)]
    with pytest.raises(ModelError, match="first is 0"):
        Causal(first=0)


@pytest.mark.parametrize("finished", [True, False])
def test_it_is_taught_on_what_it_hears(toy_router, tmp_path, finished):
    """The frames of a training clip are those that are read while it runs, and one pass over all of them says what many
    small ones with the memory between them say."""
    following = head(toy_router.base, finished)
    toy_router.classifier.following = following
    audio = joined(1, 5)
    audio = np.round(audio * PCM).astype(np.int16)
    clips = Clips([Record("a", tmp_path / "a.wav", "", "hi")], audio, np.array([0]), np.array([len(audio)]), [])
    stream = Streams.read(encode_streams(toy_router.base, clips, LANGUAGES, TAUGHT, finished, tmp_path / "streams"))
    wanted, _ = following(stream.states, None)

    running = Follower(toy_router.base, toy_router.bank, toy_router.classifier, TAUGHT)
    heard: list[np.ndarray] = []

    def hear(ends):
        rows = running.heard(ends)
        for end, row in zip(ends, rows, strict=True):
            low, high = (
                frame - running.windows.start(end) // running.windows.per_frame for frame in running.windows.read(end)
            )
            heard.append(row[low:high])
            assert np.isnan(row[:low]).all(), "frames that were read before are not read again"
        return rows

    running._hear = hear
    sound = clips.audio(0)
    for start in range(0, len(sound), 3333):
        running.feed(sound[start : start + 3333])
    found = np.concatenate(heard)
    assert len(found) == len(wanted) == len(sound) // running.windows.hop * 5 - 5  # a tenth of a second is five frames
    np.testing.assert_allclose(found, wanted, atol=2e-3)  # the stream is kept in half precision


def test_what_comes_after_t_changes_no_decision_before_t(toy_router):
    toy_router.classifier.following = head(toy_router.base)
    with torch.no_grad():
        toy_router.classifier.following.head.out.weight *= 30  # random weights are unsure
    audio = joined(3, 6)
    options = replace(TAUGHT, threshold=0.02)

    def changes(sound):
        return Follower(toy_router.base, toy_router.bank, toy_router.classifier, options).feed(sound)

    wanted = changes(audio)
    assert len(wanted) > 2
    for t in (20_000, 33_333):
        other = audio.copy()
        other[t:] = np.random.default_rng(0).standard_normal(len(audio) - t)
        before = [change for change in wanted if change.decided_s <= t / 16_000]
        assert [change for change in changes(other) if change.decided_s <= t / 16_000] == before


def test_every_frame_is_read_once():
    windows = Windows(320, 1600, 16_000, 5)
    read = [windows.read(end) for end in windows.ends(0, 50_000)]
    assert [frame for low, high in read for frame in range(low, high)] == list(range(read[-1][1]))
    assert windows.read(1600) == (0, 0), "nothing has had a tenth of a second behind it"


def test_saved_and_loaded_beside_the_classifier(toy_router, toy_store, tmp_path):
    import shutil

    folder = tmp_path / "classifier"
    shutil.copytree(toy_store / "classifier", folder)
    assert TapClassifier.load(folder, toy_router.base).following is None
    following = head(toy_router.base)
    following.save(folder)
    loaded = TapClassifier.load(folder, toy_router.base)
    states = torch.randn(7, 2 * toy_router.base.hidden_size)
    np.testing.assert_array_equal(loaded.following(states, None)[0], following(states, None)[0])
    assert loaded.following.causal == TAUGHT

    wrong = replace(TAUGHT, hop_s=0.2)
    with pytest.raises(RoutingError, match=r"\(1.0, 0.2, 0.1\).*taught with, \(1.0, 0.1, 0.1\)"):
        Follower(toy_router.base, toy_router.bank, loaded, wrong)

    def refused(what: str, **changes):
        kept = (folder / "following.json").read_text(encoding="utf-8")
        (folder / "following.json").write_text(json.dumps({**json.loads(kept), **changes}), encoding="utf-8")
        with pytest.raises(ModelError, match=what):
            TapClassifier.load(folder, toy_router.base)
        (folder / "following.json").write_text(kept, encoding="utf-8")

    refused("reads layer 1 of toy.*abc", base_sha256="abc")
    refused("was taught en, hi, it, pa, ta", languages=["en", "hi", "it", "pa", "ta"])
    refused("cannot be read", colour="red")
    refused("unknown keys", causal={"hops": 1})
    refused("does not fit its config", width=17)
    (folder / "following.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match=r"damaged.*boli train following"):
        TapClassifier.load(folder, toy_router.base)
