import json

import pytest

from training.evaluation.criteria import CRITERIA, check
from training.evaluation.measurements import Measurement, of_scores, parse, read_scores, write_scores
from training.evaluation.metrics import score
from zoo.errors import DataError


def wer(value, language="pa", system="adapter", **more):
    more = {"normaliser": "indic", "key": "k", "speech": "human", "count": 100, **more}
    return Measurement("wer", value, language=language, system=system, **more).to_dict()


def result(name, *scores):
    (found,) = [r for r in check(list(scores)) if r.name == name]
    return found


def test_nothing_passes_by_omission():
    results = check([])
    assert len(results) == len(CRITERIA)
    assert {r.status for r in results} == {"not measured"}
    assert all(r.detail for r in results)


@pytest.mark.parametrize(("value", "status"), [(0.49, "pass"), (0.5, "fail"), (0.9, "fail")])
def test_wer_below_half(value, status):
    found = result("WER Punjabi", wer(value, low=value - 0.1, high=value + 0.1))
    assert (found.status, found.value) == (status, value)
    assert ("not settled" in found.detail) == (value < 0.6)
    assert result("WER Telugu", wer(value)).status == "not measured"


def test_whispers_normaliser_never_counts_and_human_speech_comes_first():
    assert result("WER Punjabi", wer(0.1, normaliser="whisper")).status == "not measured"
    found = result("WER Punjabi", wer(0.2, speech="synthetic"), wer(0.7))
    assert (found.status, found.value) == ("fail", 0.7)
    found = result("WER Punjabi", wer(0.4, conditions={"rank": 8}), wer(0.3, conditions={"rank": 16}))
    assert "rank=16" in found.detail
    assert "best of 2" in found.detail
    assert result("WER Punjabi", wer(0.2, normaliser="raw"), wer(0.6)).value == 0.6


def test_reduction_only_under_equal_conditions():
    name = "WER reduction against base, pa"
    found = result(name, wer(0.45), wer(0.6, system="base"))
    assert found.status == "pass"
    assert found.value == pytest.approx(0.25)
    assert "45.0% adapter against 60.0% base" in found.detail
    assert result(name, wer(0.55), wer(0.6, system="base")).status == "fail"
    found = result(name, wer(0.4), wer(0.6, system="base", key="other"))
    assert (found.status, found.detail) == ("not measured", "adapter and base were not scored under equal conditions")
    assert "no WER of pa by base" in result(name, wer(0.4)).detail


def test_routing_and_oracle():
    def accuracy(value):
        return Measurement("routing_accuracy", value, count=200).to_dict()

    assert result("Routing accuracy", accuracy(0.96)).status == "pass"
    assert result("Routing accuracy", accuracy(0.95)).status == "fail"
    assert result("Routing accuracy", accuracy(0.99), accuracy(0.9)).value == 0.9
    name = "Routed WER against oracle, pa"
    assert result(name, wer(0.42, system="routed"), wer(0.4, system="oracle")).status == "pass"
    assert result(name, wer(0.43, system="routed"), wer(0.4, system="oracle")).status == "fail"


def test_switching_counts_causal_only():
    def delay(value, mode="causal"):
        return Measurement("switch_delay_median_s", value, count=50, conditions={"mode": mode}).to_dict()

    assert result("Switch delay, median", delay(0.5)).status == "pass"
    assert result("Switch delay, median", delay(0.51)).status == "fail"
    assert result("Switch delay, median", delay(0.1, "offline")).status == "not measured"
    found = result("WER when switching", wer(0.5, "", "switched"), wer(0.48, "", "one-by-one"))
    assert found.status == "pass"


def test_few_shot_needs_the_same_share():
    name = "Few-shot from another language's adapter"

    def run(value, system, share):
        return wer(value, system=system, conditions={"share": share, "from": "hi"})

    assert result(name, run(0.5, "few-shot", 0.1), run(0.6, "scratch", 0.1)).status == "pass"
    assert result(name, run(0.6, "few-shot", 0.1), run(0.5, "scratch", 0.1)).status == "fail"
    assert result(name, run(0.5, "few-shot", 0.1), run(0.6, "scratch", 0.25)).status == "not measured"


def test_score_files_from_metrics_to_criteria(tmp_path):
    scores = score(["ਇੱਕ ਦੋ ਤਿੰਨ ਚਾਰ"], ["ਇੱਕ ਦੋ ਤਿੰਨ"], "pa", bootstrap=10)
    made = [
        m
        for name, each in scores.by_normaliser.items()
        for m in of_scores(each, name, language="pa", system="adapter", speech="human", conditions={"rank": 8})
    ]
    content = read_scores(write_scores(tmp_path / "s.json", made, model="debug"))
    assert content["model"] == "debug"
    assert parse(content) == made
    found = result("WER Punjabi", content)
    assert (found.status, found.value) == ("pass", 0.25)
    assert json.dumps(found.to_dict())


def test_what_is_no_score_file(tmp_path):
    path = tmp_path / "s.json"
    with pytest.raises(DataError, match="no score file"):
        read_scores(path)
    for text, said in (("{", "no score file"), ("{}", "no `measurements`"), ("[]", "no `measurements`")):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            read_scores(path)
    path.write_text('{"measurements": [{"measure": "wer", "value": 1, "colour": 2}]}')
    with pytest.raises(DataError, match="unknown keys colour"):
        read_scores(path)
    with pytest.raises(DataError, match="no `measure` or no `value`"):
        check([{"wer": 0.4}])
