import time

import jiwer
import numpy as np
import pytest

from training.evaluation.metrics import (
    align,
    comparable,
    find_loop,
    relative_reduction,
    score,
    summarise,
)
from training.evaluation.normalisers import normaliser
from zoo.errors import DataError

RAW = normaliser("raw")


def garble(seed, n=200):
    random = np.random.default_rng(seed)
    vocabulary = ["एक", "दो", "तीन", "चार", "पाँच", "छह", "सात"]
    references = [" ".join(random.choice(vocabulary, random.integers(1, 12))) for _ in range(n)]
    hypotheses = []
    for text in references:
        words = [random.choice(vocabulary) if random.random() < 0.2 else w for w in text.split()]
        words = [w for w in words if random.random() > 0.1]
        hypotheses.append(" ".join(words + list(random.choice(vocabulary, random.integers(0, 2)))))
    return references, hypotheses


def test_equal_to_jiwer():
    references, hypotheses = garble(0)
    raw = score(references, hypotheses, "hi", bootstrap=0).by_normaliser["raw"]
    assert raw.wer.value == pytest.approx(jiwer.wer(references, hypotheses))
    assert raw.cer.value == pytest.approx(jiwer.cer(references, hypotheses))
    assert raw.mer.value == pytest.approx(jiwer.mer(references, hypotheses))
    output = jiwer.process_words(references, hypotheses)
    assert (raw.wer.substitutions, raw.wer.deletions, raw.wer.insertions, raw.wer.hits) == (
        output.substitutions, output.deletions, output.insertions, output.hits,
    )  # fmt: skip
    assert raw.wer.low is None


def test_three_normalisers_side_by_side_and_whispers_is_lower():
    scores = score(["मैं घर जाती हूँ"], ["मै घर जाता हु"], "hi", bootstrap=0).by_normaliser
    assert list(scores) == ["raw", "whisper", "indic"]
    assert scores["raw"].wer.value == scores["indic"].wer.value == 0.75
    assert scores["whisper"].wer.value < 0.2  # the vowel signs that were wrong are gone


def test_counts_of_empty_texts():
    scores = score(["a b", "", "c"], ["", "x y", "c"], "it", bootstrap=0).by_normaliser["raw"]
    assert (scores.wer.deletions, scores.wer.insertions, scores.wer.hits) == (2, 2, 1)
    assert scores.wer.value == pytest.approx(4 / 3)
    silence = score([""], ["x"], "it").by_normaliser["raw"]
    assert silence.wer.value is None
    assert silence.wer.errors == 1
    assert str(silence.wer) == "-"


def test_interval_holds_the_rate_and_narrows():
    few, many = (score(*garble(1, n), "hi").by_normaliser["raw"].wer for n in (30, 1000))
    for rate in (few, many):
        assert rate.low < rate.value < rate.high
    assert many.high - many.low < (few.high - few.low) / 3
    again = score(*garble(1, 30), "hi").by_normaliser["raw"].wer
    assert again == few


def test_interval_covers_as_often_as_it_says():
    population, hypotheses = garble(2, 4000)
    alignment = align(population, hypotheses, ["hi"] * 4000, RAW)
    truth = summarise(alignment, bootstrap=0).wer.value
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        wer = summarise(alignment, rows=random.integers(0, 4000, 80), bootstrap=200, seed=seed).wer
        hits += wer.low <= truth <= wer.high
    assert 0.88 <= hits / 200 <= 0.99


def test_dropped_speech_and_loops():
    references = ["a b c d e f", "a b c d", "si si si si si"]
    hypotheses = ["a e f", "a a a a a b c d", "si si si si si"]
    raw = score(references, hypotheses, "it", bootstrap=0).by_normaliser["raw"]
    assert (raw.dropped_runs, raw.loops) == (1, 1)
    assert find_loop(["x", "ma", "no", "ma", "no", "ma", "no", "ma", "no"]) == ("ma", "no")
    assert find_loop(["ma", "no", "ma", "no", "ma", "no"]) == ()


def test_key_is_equal_only_for_equal_conditions():
    def run(references=("a b",), ids=("1",), decoding=None, language="it"):
        return score(references, ["a"], language, ids=ids, decoding=decoding or {"beam_size": 1}, bootstrap=0).to_dict()

    first = run()
    assert comparable(first, run(), "raw")
    for other in (run(("a c",)), run(ids=("2",)), run(decoding={"beam_size": 5}), run(language="hi")):
        assert not comparable(first, other, "raw")
    assert first["raw"]["key"] != first["indic"]["key"]
    assert first["raw"]["wer"]["reference"] == 2


def test_relative_reduction_is_paired():
    references, hypotheses = garble(3)
    base = align(references, hypotheses, ["hi"] * 200, RAW).words
    mended = [r if i % 2 else h for i, (r, h) in enumerate(zip(references, hypotheses, strict=True))]
    difference = relative_reduction(base, align(references, mended, ["hi"] * 200, RAW).words)
    assert difference.low < difference.relative < difference.high
    assert 0.35 < difference.relative < 0.65
    assert difference.probability_better == 1.0
    with pytest.raises(DataError, match="same utterances"):
        relative_reduction(base, base[1:])
    with pytest.raises(DataError, match="no error"):
        relative_reduction(align(["a"], ["a"], ["it"], RAW).words, align(["a"], ["b"], ["it"], RAW).words)


def test_unequal_lengths():
    with pytest.raises(DataError, match="2 references, 1 hypotheses"):
        score(["a", "b"], ["a"], "it")
    with pytest.raises(DataError, match="no utterances"):
        score([], [], "it")


def test_ten_thousand_utterances_take_seconds():
    references, hypotheses = garble(4, 10_000)
    start = time.process_time()
    score(references, hypotheses, "hi")
    assert time.process_time() - start < 10
