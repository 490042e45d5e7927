"""With timestamps a model may say that it stopped early: what is left of the chunk is written, too."""

from dataclasses import replace

import numpy as np
import pytest

from tests import toy
from tests.toy_router import make
from zoo.interface import DecodeOptions, Hidden
from zoo.search import Found


@pytest.fixture
def toy_router(toy_folder, toy_store, monkeypatch):
    return make(toy_folder, toy_store, monkeypatch)


@pytest.mark.parametrize(
    ("times", "goes_on"),
    [([], None), ([0.0, "a", 1.5], None), ([0.0, "a", 1.5, 1.5], 1.5), ([0.0, "a", 1.5, 1.5, "b"], None)],
)
def test_two_timestamps_at_the_end_say_that_it_goes_on(toy_base, times, goes_on):
    first = toy_base.module.generation_config.no_timestamps_token_id + 1
    tokens = [5 if isinstance(each, str) else first + round(each / 0.02) for each in times]
    import torch

    hidden = Hidden(torch.zeros(1, 1, 1), torch.tensor([150]), 0, True)
    found = [Found(tokens, 0.0, [0.0] * len(tokens))]
    (said,) = toy_base._hypotheses(found, ["en"], hidden, DecodeOptions(timestamps=True))
    assert said.goes_on_s == goes_on
    (plain,) = toy_base._hypotheses(found, ["en"], hidden, DecodeOptions())
    assert plain.goes_on_s is None


def test_the_rest_of_a_chunk_is_heard_until_all_is_written(toy_router, monkeypatch):
    import router.router as module

    made = [u.audio for u, _, _ in toy.clips(8, ("en",), 3)]
    sound = np.concatenate(made)
    seconds = len(sound) / 16_000
    real, heard, stops = module.run, [], [1.0, 0.8]

    def stopping_early(base, bank, classifier, adapters, lowest, utterances, *rest):
        parts = real(base, bank, classifier, adapters, lowest, utterances, *rest)
        heard.extend(utterance.audio for utterance in utterances)
        if not stops:
            return parts
        at = stops.pop(0)
        (part,) = parts[0]
        passed = replace(part.passed, hypothesis=replace(part.passed.hypothesis, goes_on_s=at))
        return [[replace(part, passed=passed)]]

    monkeypatch.setattr(module, "run", stopping_early)
    transcript = toy_router.transcribe(sound, language="en", timestamps="segment")
    assert [len(each) for each in heard] == [len(sound), len(sound) - 16_000, len(sound) - 16_000 - 12_800]
    assert np.array_equal(heard[2], sound[28_800:])
    assert transcript.segments[-1].end == pytest.approx(seconds)
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)
    assert {round(s.seek / 100, 2) for s in transcript.segments} <= {0.0, 1.0, 1.8}


@pytest.mark.parametrize("at", [0.2, "end"])
def test_a_model_that_gets_nowhere_is_not_asked_again(toy_router, monkeypatch, at):
    import router.router as module

    sound = next(iter(toy.clips(1, ("en",), 3)))[0].audio
    where = len(sound) / 16_000 - 0.1 if at == "end" else at
    real, calls = module.run, []

    def stuck(*given):
        calls.append(1)
        ((part,),) = real(*given)
        return [
            [replace(part, passed=replace(part.passed, hypothesis=replace(part.passed.hypothesis, goes_on_s=where)))]
        ]

    monkeypatch.setattr(module, "run", stuck)
    toy_router.transcribe(sound, language="en", timestamps="segment")
    assert len(calls) == 1
