"""Probes on planted features, the control task, and states that are those of the encoder."""

import numpy as np
import pytest
import torch

from analysis.cache import Cache
from analysis.hearing import listen
from analysis.inputs import Choice, read_clips
from analysis.probe_data import PHONE, WORD, Task, states, tasks
from analysis.probes import ProbeOptions, control_labels, held_out, probe, run_probe
from analysis.spoken import Spoken, Timed
from tests.analysis.speech import needs_espeak
from tests.toy_router import name_toy
from tests.training.conftest import write_manifest
from zoo.errors import DataError
from zoo.speech import Utterance

OPTIONS = ProbeOptions(controls=5, bootstrap=50)


def task(name="voicing", n=600, kinds=40, seed=0) -> Task:
    """Samples of `kinds` phones, half of which have the feature; ten to a sentence."""
    rng = np.random.default_rng(seed)
    types = rng.integers(0, kinds, n)
    return Task(name, False, np.arange(n), types % 2, ("no", "yes"), types, np.arange(n) // 10, np.arange(n) // 10)


def test_a_planted_feature_is_found_and_selective():
    made = task()
    rng = np.random.default_rng(1)
    values = rng.normal(size=(600, 20)).astype(np.float32)
    values[:, 3] += 4 * made.labels  # the layer says it on one axis
    right, control = run_probe(values, made, OPTIONS)
    assert right.mean() > 0.95
    assert control < 0.7
    assert right.mean() - control > 0.25


def test_an_absent_feature_is_chance():
    made = task()
    right, control = run_probe(np.random.default_rng(2).normal(size=(600, 20)), made, OPTIONS)
    assert right.mean() == pytest.approx(0.5, abs=0.08)
    assert control == pytest.approx(0.5, abs=0.1)


def test_a_layer_that_only_names_its_types_is_accurate_and_not_selective():
    """What Hewitt and Liang warn of: a probe that can learn every type by heart does any task on types."""
    made = task(kinds=12)
    right, control = run_probe(np.eye(12)[made.types] * 10, made, OPTIONS)
    assert right.mean() > 0.99
    assert control > 0.95


def test_control_labels_are_the_types_own():
    made = task()
    labels = control_labels(made, np.random.default_rng(0))
    assert all(len(set(labels[made.types == t])) == 1 for t in set(made.types))
    assert (labels != made.labels).any()
    shuffled = control_labels(task(PHONE), np.random.default_rng(0))
    assert sorted(shuffled) == sorted(made.labels)


def test_probes_are_scikit_learns_ridge_classifier():
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(3)
    values, groups = rng.normal(size=(300, 12)), np.arange(300) // 10
    labels = (values[:, :4] + rng.normal(size=(300, 4))).argmax(1)
    other = rng.integers(0, 3, 300)
    ours, _ = held_out(values, [labels, other], groups, OPTIONS)
    theirs = np.empty(300, dtype=int)
    for train, test in GroupKFold(3, shuffle=True, random_state=OPTIONS.seed).split(values, groups=groups):
        scale = StandardScaler().fit(values[train])
        model = RidgeClassifier(alpha=OPTIONS.ridge, solver="cholesky").fit(
            scale.transform(values[train]), labels[train]
        )
        theirs[test] = model.predict(scale.transform(values[test]))
    assert np.array_equal(ours, theirs)


def spoken(text: str, labels: str, speaker: str = "a") -> Spoken:
    marks = tuple(Timed(label, 0.1 * i, 0.1 * (i + 1)) for i, label in enumerate(labels))
    words = tuple(Timed(word, 0.1 * i, 0.1 * (i + 1)) for i, word in enumerate(text.split()))
    return Spoken(text, "xx", speaker, np.zeros(1600 * len(labels), np.float32), marks, words)


def test_tasks_leave_out_what_too_few_sentences_have():
    made = [spoken(f"one two {i}", "patapata" if i % 2 else "badabada") for i in range(12)]
    made.append(spoken("rare", "kkkkkkkk"))
    found, missing = tasks(made)
    names = {t.name: t for t in found}
    assert names["vowel or consonant"].classes == ("consonant", "vowel")
    assert names["voicing"].classes == ("voiced", "voiceless")
    assert "k" not in names[PHONE].classes  # in one sentence only
    assert any(WORD in reason for reason in missing)  # 24 words, fewer than 40
    assert any("manner" in reason for reason in missing)  # stops alone
    assert names["place"].classes == ("coronal", "labial")
    assert len(set(names["place"].texts)) == 12


def test_states_are_means_of_the_encoders_own_frames(toy_folder, toy_store, monkeypatch):
    name_toy(toy_folder, monkeypatch)
    listener = listen(Choice(toy_store), Cache(None))
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal(12_000)).astype(np.float32)
    one = Spoken("x", "hi", "a", audio, (Timed("a", 0.1, 0.3), Timed("k", 0.3, 0.301)), (Timed("x", 0.1, 0.5),))
    base, adapter = listener.base, listener.adapters[0]
    plain, adapted = states(listener, [one], None), states(listener, [one], adapter)
    assert len(plain.phones) == base.n_layers + 1
    with torch.inference_mode():
        hidden = base.encode(base.features([Utterance(audio)]), until=1).values[0].numpy()
    first, last = int(0.1 * base.frame_rate), round(0.3 * base.frame_rate)
    assert np.allclose(plain.phones[1][0], hidden[first:last].mean(0), atol=1e-5)
    assert np.allclose(plain.phones[1][1], hidden[int(0.3 * base.frame_rate)], atol=1e-5)
    assert np.allclose(plain.phones[0], adapted.phones[0])
    assert not np.allclose(plain.phones[-1], adapted.phones[-1], atol=1e-3)


@needs_espeak
def test_probes_of_a_toy_store(toy_folder, toy_store, monkeypatch, tmp_path):
    name_toy(toy_folder, monkeypatch)
    manifest = write_manifest(tmp_path / "m.jsonl", ("hi", "te"), 3, 1)
    sentences = ["यहाँ से पाँच मील दक्षिण", "धोबिन जब सोकर उठती", "चौका साफ पड़ा है और बर्तन", "गाँव है यहाँ", "मील और गाँव"]
    lines = manifest.read_text(encoding="utf-8").splitlines()
    import json

    rows = [json.loads(lines[0]) | {"id": f"s{i}", "text": text, "lang": "hi"} for i, text in enumerate(sentences)]
    manifest.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    listener = listen(Choice(toy_store), Cache(tmp_path / "cache"))
    clips = read_clips([manifest])
    found = probe(listener, clips, ProbeOptions(controls=1, bootstrap=20), manifests=[manifest])
    assert {p.system for p in found.probes} == {"base", "adapter"}
    assert {p.layer for p in found.probes} == set(range(listener.base.n_layers + 1))
    stem = [row for row in found.changes if row["layer"] == 0]
    assert stem
    assert all(row["change"] == 0 for row in stem)  # no adapter touches the stem
    best = max(p.accuracy for p in found.probes if p.task == "vowel or consonant")
    assert best > 0.75
    made = listener.cache.made
    again = probe(listener, clips, ProbeOptions(controls=1, bootstrap=20), manifests=[manifest])
    assert listener.cache.made == made
    assert again.probes == found.probes


@needs_espeak
def test_texts_without_enough_phones_are_refused(toy_folder, toy_store, monkeypatch, tmp_path):
    name_toy(toy_folder, monkeypatch)
    manifest = write_manifest(tmp_path / "m.jsonl", ("hi",), 1, 1)
    listener = listen(Choice(toy_store), Cache(None))
    with pytest.raises(DataError, match="Nothing to probe"):
        probe(listener, read_clips([manifest]), ProbeOptions(bootstrap=0))
