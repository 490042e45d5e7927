"""Versions of a clip that seems to switch: their scores by hand, and on the trained debug model against decoding anew."""

from dataclasses import replace

import pytest
import torch

from router.passes import Passed
from router.policies import Decision
from router.smoothing import Smoothing
from router.stretches import Spoken, cuts_of
from router.versions import Version, best, versions_of, weighed
from tests.toy_router import make, switched
from zoo.interface import Hypothesis
from zoo.speech import Utterance


def version(*languages: str, ctc=0.0, written=0.0, heard=0.0, texts=()) -> Version:
    spans = tuple(Spoken(k, k + 1, {tag: 1.0}, Decision(tag, {tag: 1.0}, "")) for k, tag in enumerate(languages))
    passed = tuple(Passed(Hypothesis(text, (), "", 0.0), Decision("", {}, ""), {}, {}) for text in texts)
    return Version(spans, passed, ctc, written, heard)


def test_a_score_is_the_weighted_sum_of_its_judges():
    one = version("hi", "en", ctc=-10.0, written=-3.0, heard=-0.5, texts=("one", "", "two"))
    assert one.score(Smoothing(written=2.0, heard=4.0)) == -18.0
    assert one.text == "one two"


def test_the_most_probable_version_is_taken_and_the_margin_helps_cuts():
    whole, cut = version("hi", ctc=-5.0), version("hi", "en", ctc=-7.0)
    other, worse = version("te", ctc=-6.0), version("te", "en", ctc=-9.0)
    versions = [worse, cut, other, whole]
    assert best(versions, Smoothing(), 0.0) is whole
    assert best(versions, Smoothing(), 2.0) is cut
    assert best(versions, Smoothing(), 1.9) is whole
    assert best([worse, cut], Smoothing(), -100.0) is cut
    assert best([other, whole], Smoothing(), 100.0) is whole


def test_a_whole_takes_the_language_that_wrote_it_best_and_leaves_the_others_theirs():
    said = {"unknown": 0.4, "hi": 0.3, "pa": 0.2, "en": 0.1}
    versions = [version("hi", ctc=-12.0), version("pa", ctc=-10.0), version("hi", "pa", ctc=-1.0)]
    found = weighed(said, versions, Smoothing(), 2.0)
    share = 1 / (1 + 2.718281828 ** (-2.0 / 2.0))
    assert list(found) == ["unknown", "pa", "hi", "en"]
    assert found == {
        "unknown": 0.4,
        "en": 0.1,
        "pa": pytest.approx(0.5 * share),
        "hi": pytest.approx(0.5 * (1 - share)),
    }


def test_a_parameter_that_makes_no_sense_is_refused():
    from zoo.errors import ModelError

    for name in ("written", "heard"):
        with pytest.raises(ModelError, match=f"switching {name} is -1"):
            Smoothing(**{name: -1.0})


def test_versions_are_what_the_router_writes(toy_folder, toy_store, monkeypatch):
    """Each cut as `write_segments` writes it, each whole as the language alone does, the frames' evidence by hand; and
    chunks of a batch have the versions that each has alone."""
    from router.by_segment import write_segments
    from router.passes import Clock, listen

    router = make(toy_folder, toy_store, monkeypatch)
    base, clock = router.base, Clock(router.base.device)
    options = replace(router.options, switching=True)
    clips = [Utterance(audio) for audio, _ in switched(6, seed=9, languages=("en", "hi", "te"))]
    clips = [u for u in clips if base.grid_s(u) == base.grid_s(clips[0])]
    assert len(clips) > 1
    languages = router.classifier.languages

    def versions(utterances):
        one = listen(base, router.bank, router.classifier, [], utterances, clock)
        cuts = [
            cuts_of(frames, router.classifier, utterance, base, options, router.smoothing)
            for frames, utterance in zip(one.frames, utterances, strict=True)
        ]
        found = versions_of(
            base, router.bank, router.classifier, [one], utterances, cuts, [("en", "te")] * len(cuts), options, router.smoothing,
            router.rescoring,
            lambda wanted, chosen: write_segments(
                base, router.bank, router.adapters, router.lowest_layers, utterances, wanted, chosen, clock
            ),
        )  # fmt: skip
        return found, one, cuts

    together, one, cuts = versions(clips)
    assert any(len(each) >= 3 for each in together)
    for i, (utterance, found) in enumerate(zip(clips, together, strict=True)):
        ((alone,), _, _) = versions([utterance])
        assert [(v.text, len(v.spans)) for v in alone] == [(v.text, len(v.spans)) for v in found]
        assert [v.written for v in alone] == pytest.approx([v.written for v in found], rel=1e-3, abs=1e-3)
        if not cuts[i]:
            assert found == []
            continue
        assert [v.spans[0].decision.language for v in found if len(v.spans) == 1] == ["en", "te"]
        for v in found:
            assert v.ctc == 0.0, "the toy has no CTC"
            rows = torch.maximum(one.frames[i], torch.tensor(router.smoothing.floor))
            heard = sum(float(rows[s.start : s.end, languages.index(s.decision.language)].sum()) for s in v.spans)
            assert v.heard == pytest.approx(heard / base.frame_rate, rel=1e-4)
            if len(v.spans) == 1:
                tag = v.spans[0].decision.language
                assert v.text == router.transcribe(utterance.audio, language=tag).text
            else:
                assert v.spans[-1].end == -(-len(utterance.audio) // 320)
