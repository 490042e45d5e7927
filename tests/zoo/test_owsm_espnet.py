"""Family owsm equals ESPnet's own Speech2Text: same tokens, scores to 1e-4, on models whose outputs vary."""

import pytest

from tests import espnet_reference, toy, toy_owsm
from zoo.interface import DecodeOptions

LANGUAGES = ("en", "hi", "it", "pa", "te")
CODES = {"en": "<eng>", "hi": "<hin>", "it": "<ita>", "pa": "<pan>", "te": "<tel>"}
SEARCHES = {
    "greedy": {"beam_size": 1},
    "beam": {"beam_size": 5},
    "joint": {"beam_size": 4, "ctc_weight": 0.3},
    "joint greedy": {"beam_size": 1, "ctc_weight": 0.5},
    "prefix": {"beam_size": 3, "ctc_weight": 1.0},
    "timestamps": {"beam_size": 1, "timestamps": True},
    "timestamps beam": {"beam_size": 3, "timestamps": True},
}


def clips(count: int, longest_s: float):
    made = toy.clips(4 * count, LANGUAGES, seed=7)
    return [clip for clip in made if clip[0].duration_s <= longest_s][:count]


@pytest.fixture(scope="module", params=toy_owsm.VARIANTS)
def model(request, tmp_path_factory):
    folder = toy_owsm.folder(request.param)
    return folder, espnet_reference.loaded(folder), tmp_path_factory.mktemp("reference")


@pytest.mark.parametrize("search", SEARCHES)
def test_tokens_scores_and_text_are_espnets(model, search):
    folder, base, scratch = model
    options = dict(SEARCHES[search])
    timestamps = options.get("timestamps", False)
    made = clips(8, toy_owsm.SHORT_S)
    ours = base.decode(
        base.encode(base.features([u for u, _, _ in made])), [lang for _, _, lang in made], DecodeOptions(**options)
    )
    recogniser = espnet_reference.recogniser(
        folder, scratch, beam_size=options["beam_size"], ctc_weight=options.get("ctc_weight", 0.0)
    )
    theirs = [espnet_reference.written(recogniser, u, CODES[lang], timestamps) for u, _, lang in made]
    assert [list(h.tokens) for h in ours] == [tokens for tokens, _, _ in theirs]
    for hypothesis, (_, score, text) in zip(ours, theirs, strict=True):
        assert hypothesis.log_probability == pytest.approx(score, abs=1e-4)
        assert hypothesis.text == text.strip()
    assert len({h.tokens for h in ours}) > 3, "the outputs must vary, or the test proves nothing"
