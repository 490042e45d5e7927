"""A chunk that was written in several scripts: cut where the script changes, no word lost; by hand and on the trained debug model."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from router.by_script import by_script, runs, scripts_in
from router.classifier import LanguageProbabilities
from router.passes import Passed
from router.policies import Decision
from router.stretches import Spoken
from tests.router.test_rescoring import Undecided
from tests.toy_router import make, switched
from zoo.interface import Hypothesis, TimedWord
from zoo.scripts import letters, script_of

KNOWN = {"LATIN", "TELUGU", "DEVANAGARI"}
LANGUAGES = ["en", "it", "te", "hi"]


def timed(*texts: str) -> tuple[TimedWord, ...]:
    return tuple(TimedWord(f" {text}", k * 0.5, k * 0.5 + 0.4, 1.0, (k,)) for k, text in enumerate(texts))


def passed(words: tuple[TimedWord, ...], language: str = "it") -> Passed:
    tokens = tuple(token for word in words for token in word.tokens)
    hypothesis = Hypothesis(
        "".join(word.word for word in words).strip(), tokens, language, -1.0, tuple(-0.1 * (k + 1) for k in tokens)
    )
    return Passed(
        hypothesis, Decision(language, {language: 1.0}, "hard: it p=0.90"), {language: 0.9}, {"a": 1.0}, words=words
    )


def frames(seconds: float, **shares: float) -> torch.Tensor:
    row = torch.tensor([shares.get(tag, 0.01) for tag in LANGUAGES]).log()
    return row.repeat(round(seconds * 50), 1)


def test_languages_are_written_in_their_scripts():
    assert [script_of(tag) for tag in ("hi", "pa", "te", "en", "it", "pt-BR", "ru")] == [
        "DEVANAGARI", "GURMUKHI", "TELUGU", "LATIN", "LATIN", "LATIN", "CYRILLIC",
    ]  # fmt: skip
    assert letters("ab రె, 12") == {"LATIN": 2, "TELUGU": 2}
    assert scripts_in("personalità giuridica ఒకటి రండు", LANGUAGES) == {"LATIN", "TELUGU"}
    assert scripts_in("personalità giuridica ఒ", LANGUAGES) == {"LATIN"}, "a letter is a slip"
    assert scripts_in("personalità ఒకటి", ["it", "hi"]) == {"LATIN"}, "nobody may speak Telugu"


def test_words_of_one_script_are_a_run_and_what_has_none_goes_with_what_stands_before():
    def found(*texts: str) -> list[tuple[str, str]]:
        return [(script, "".join(word.word for word in words).strip()) for script, words in runs(timed(*texts), KNOWN)]

    assert found("alla", "persona", "ఒకటి", "రండు") == [("LATIN", "alla persona"), ("TELUGU", "ఒకటి రండు")]
    assert found("12", "alla", "...", "ఒకటి") == [("LATIN", "12 alla ..."), ("TELUGU", "ఒకటి")]
    assert found("alla", "ఒ", "persona", "ఒకటి") == [("LATIN", "alla ఒ persona"), ("TELUGU", "ఒకటి")]
    assert found("ఒ", "alla") == [("LATIN", "ఒ alla")]
    assert found("ocటి", "ఒకటి") == [("TELUGU", "ocటి ఒకటి")], "two letters are no run"
    assert found("1", "2") == [("", "1 2")]
    assert found() == []


def test_each_run_is_a_part_with_its_language_between_the_words():
    words = timed("alla", "persona", "ఒకటి", "రండు")
    parts = by_script(passed(words), 2.2, frames(2.2, it=0.9), LANGUAGES, LANGUAGES, 50.0, timed=False)
    assert [(p.start_s, p.end_s) for p in parts] == [(0.0, pytest.approx(0.95)), (pytest.approx(0.95), 2.2)]
    one, two = (p.passed for p in parts)
    assert (one.hypothesis.text, two.hypothesis.text) == ("alla persona", "ఒకటి రండు")
    assert (one.decision.language, two.decision.language) == ("it", "te")
    assert one.decision.reason == "hard: it p=0.90"
    assert two.decision.reason == "written in Telugu (hard: it p=0.90)"
    assert (one.weights, two.weights) == ({"a": 1.0}, {"a": 1.0}), "the whole was written under these"
    assert one.hypothesis.token_log_probabilities == pytest.approx((-0.1, -0.2))
    assert two.hypothesis.token_log_probabilities == pytest.approx((-0.3, -0.4))
    assert two.probabilities == {"te": 1.0}
    assert len(one.frames) + len(two.frames) == 110
    assert (one.words, two.words) == ((), ())
    kept = by_script(passed(words), 2.2, frames(2.2, it=0.9), LANGUAGES, LANGUAGES, 50.0, timed=True)
    assert [word.start_s for word in kept[1].passed.words] == pytest.approx([0.05, 0.55])


def test_among_languages_of_one_script_the_one_it_was_written_in_else_the_frames_choose():
    words = timed("ఒకటి", "రండు", "alla", "persona")
    for heard, wanted in (({"it": 0.6, "en": 0.2}, "it"), ({"it": 0.2, "en": 0.6}, "en")):
        parts = by_script(passed(words, "te"), 2.0, frames(2.0, **heard), LANGUAGES, LANGUAGES, 50.0, timed=False)
        assert [p.passed.decision.language for p in parts] == ["te", wanted]
        assert parts[1].passed.probabilities[wanted] == pytest.approx(0.75)
        parts = by_script(passed(words, "it"), 2.0, frames(2.0, **heard), LANGUAGES, LANGUAGES, 50.0, timed=False)
        assert [p.passed.decision.language for p in parts] == ["te", "it"]


def cut(*stretches: tuple[int, str]) -> list[Spoken]:
    ends = [start for start, _ in stretches[1:]] + [110]
    return [
        Spoken(start, end, {tag: 1.0}, Decision(tag, {tag: 1.0}, ""))
        for (start, tag), end in zip(stretches, ends, strict=True)
    ]


def test_a_cut_with_the_same_scripts_says_when_and_which_language():
    words = timed("alla", "persona", "ఒకటి", "రండు")
    cuts = [cut((0, "te"), (40, "en")), cut((0, "it"), (15, "en"), (55, "te")), cut((0, "it"), (70, "te"))]
    parts = by_script(passed(words), 2.2, frames(2.2), LANGUAGES, LANGUAGES, 50.0, timed=False, cuts=cuts)
    assert [p.start_s for p in parts] == [0.0, 1.1], (
        "the first has other scripts, the second is more probable than the third"
    )
    assert [p.passed.decision.language for p in parts] == ["en", "te"], "longest of those in Latin"
    unknown = [cut((0, "it"), (20, "unknown"), (60, "te"))]
    parts = by_script(passed(words, "it"), 2.2, frames(2.2), LANGUAGES, LANGUAGES, 50.0, timed=False, cuts=unknown)
    assert [(p.start_s, p.passed.decision.language) for p in parts] == [(0.0, "it"), (1.2, "te")]
    nobody = [cut((0, "unknown"), (20, "unknown"), (60, "te"))]  # a seam that moved may leave two neighbours unknown
    parts = by_script(passed(words, "it"), 2.2, frames(2.2), LANGUAGES, LANGUAGES, 50.0, timed=False, cuts=nobody)
    assert [(p.start_s, p.passed.decision.language) for p in parts] == [(0.0, "unknown"), (1.2, "te")]


def test_one_script_is_one_part():
    words = timed("alla", "persona")
    (part,) = by_script(passed(words), 1.0, frames(1.0), LANGUAGES, LANGUAGES, 50.0, timed=False)
    assert (part.start_s, part.end_s, part.passed.words) == (0.0, 1.0, ())
    (part,) = by_script(passed(()), 1.0, frames(1.0), LANGUAGES, LANGUAGES, 50.0, timed=True)
    assert part.passed.hypothesis.text == ""


@given(
    st.lists(st.sampled_from(["alla", "per", "ఒకటి", "రం", "हिन्दी", "12", "ab", "ि"]), max_size=12), st.floats(0.5, 8.0)
)
def test_no_word_is_lost_or_doubled_and_parts_cover_the_chunk(texts, seconds):
    words = timed(*texts)
    parts = by_script(passed(words), seconds, frames(seconds), LANGUAGES, LANGUAGES, 50.0, timed=False)
    said = [p.passed.hypothesis.text for p in parts]
    assert " ".join(text for text in said if text).split() == [word.word.strip() for word in words]
    assert (parts[0].start_s, parts[-1].end_s) == (0.0, seconds)
    assert all(one.end_s == two.start_s for one, two in pairwise(parts))
    assert sum(len(p.passed.frames) for p in parts if p.passed.frames is not None) in (0, round(seconds * 50))


class Flat(Undecided):
    """In every frame, too."""

    def __call__(self, hidden, frames_only=False):
        found = super().__call__(hidden)
        frames = torch.full((*hidden.values.shape[:2], len(self.languages)), -math.log(len(self.languages)))
        return LanguageProbabilities(self.languages, found.log_probabilities, frames)


def test_a_whole_in_two_scripts_becomes_two_segments_with_the_same_words(toy_folder, toy_store, monkeypatch):
    """On the debug model: whatever it writes, the words are those without switching. All three languages' adapters are mixed,
    because the right one alone writes in one script where the toy has learned well."""
    router = make(toy_folder, toy_store, monkeypatch, policy="soft", top_k=3).sharing(classifier=Flat())
    monkeypatch.setattr("router.switching.cuts_of", lambda *args, **options: [])  # the frames show nothing
    several = 0
    for audio, _ in switched(60, seed=5, languages=("en", "te", "hi")):
        plain = router.transcribe(audio, switching=False)
        assert len(plain.segments) == 1
        for timestamps in ("none", "word"):
            found = router.transcribe(audio, timestamps=timestamps)
            assert found.text.replace(" ", "") == plain.text.replace(" ", "")
            languages = [s.language for s in found.segments]
            if len(scripts_in(plain.text, ("en", "te", "hi"))) > 1 and len(set(languages)) > 1:
                several += 1
                assert all(s.weights == plain.segments[0].weights for s in found.segments)
            if timestamps == "none":
                assert found.segments[0].start == 0.0
                assert found.segments[-1].end == pytest.approx(found.duration)
                for one, two in pairwise(found.segments):
                    assert one.end == pytest.approx(two.start)
                    assert one.language != two.language
        assert np.isfinite(found.duration)
    assert several, "the toy writes some clip in two scripts"
