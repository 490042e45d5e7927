"""The second family through the whole chain by its commands: pull, train, publish, classify, route, transcribe, evaluate."""

import json

import numpy as np
import pytest
import torch

import boli
import router
from adapters.store import Store
from tests import toy, toy_owsm
from tests.training.conftest import LANGUAGES, write_manifest, write_wav
from zoo.errors import AdapterError

MODEL = "owsm-toy"


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A home with the trained debug model under a name of its own, manifests, adapters for hi and te, a classifier."""
    root = tmp_path_factory.mktemp("owsm-chain")
    patch = pytest.MonkeyPatch()
    patch.setenv("BOLI_HOME", str(root / "home"))
    patch.chdir(toy_owsm.ROOT)
    made = {
        "hi": write_manifest(root / "hi.jsonl", ("hi",), 240, 1),
        "te": write_manifest(root / "te.jsonl", ("te",), 240, 2),
        "mixed": write_manifest(root / "mixed.jsonl", LANGUAGES, 160, 3),
        "held": write_manifest(root / "held.jsonl", LANGUAGES, 40, 4),
    }
    run(f"zoo pull {MODEL} --from {toy_owsm.folder()}")
    common = f"run.root={root / 'runs'} base.name={MODEL}"
    for language in ("hi", "te"):
        run(
            f"train adapter training/recipes/debug/adapter.yaml {common} data.train=[{made[language]}] data.valid=[] "
            f"fit.steps=150 plan.batch_clips=16 adapter.targets=[all] publish.store={root / 'store'}"
        )
    run(
        f"train classifier training/recipes/debug/classifier.yaml {common} data.train=[{made['mixed']}] "
        f"data.valid=[{made['held']}] data.test=[{made['held']}] head.heads=[linear] head.epochs=8 "
        f"export={root / 'store' / 'classifier'}"
    )
    yield root, made
    patch.undo()


def run(command: str) -> None:
    assert boli.main(command.split()) == 0, command


def test_adapters_are_published_with_what_they_belong_to(chain):
    root, _ = chain
    stored = Store(root / "store").find(base=MODEL)
    assert {each.key.language for each in stored} == {"hi", "te"}
    for each in stored:
        assert each.record.context == "dynamic"
        assert each.record.base_sha256
        assert each.record.tokenizer_sha256
        assert each.record.lowest_adapted_layer == 0


def test_it_hears_routes_and_transcribes(chain):
    root, _ = chain
    routed = router.load(MODEL, root / "store", context="dynamic")
    clips = toy.clips(24, ("hi", "te"), seed=31)
    found = list(routed.transcribe([u.audio for u, _, _ in clips]))
    assert sum(t.language == language for t, (_, _, language) in zip(found, clips, strict=True)) >= 20
    alone = routed.sharing(fleet={})
    plain = list(alone.transcribe([u.audio for u, _, _ in clips]))

    def right(texts) -> int:
        return sum(t.text == text for t, (_, text, _) in zip(texts, clips, strict=True))

    assert right(found) > right(plain)
    assert all(t.segments[0].weights == {f"{MODEL}:{t.language}": 1.0} or t.segments[0].weights for t in found)
    soft = routed.transcribe(clips[0][0].audio, policy="soft", beam_size=3)
    assert soft.text
    one_by_one = [routed.transcribe(u.audio).text for u, _, _ in clips[:6]]
    assert one_by_one == [t.text for t in found[:6]]
    logits = routed.transcribe(clips[0][0].audio, policy="soft", ensemble="logits")
    assert logits.language in LANGUAGES


def test_ctc_joins_from_the_command_line(chain, capsys):
    root, _ = chain
    clip, text, language = next(c for c in toy.clips(9, ("hi",), seed=32) if c[0].duration_s < 0.9)
    write_wav(root / "clip.wav", clip.audio)
    start = f"transcribe {root / 'clip.wav'} --model {MODEL} --store {root / 'store'} --context dynamic --language hi"
    run(f"{start} --ctc-weight 1")
    assert capsys.readouterr().out.strip().endswith(text)
    run(f"{start} --ctc-weight 0.3 --beam-size 3 --format json")
    assert json.loads(capsys.readouterr().out)["language"] == language
    assert boli.main(f"{start} --ctc-weight 0.3 --timestamps segment".split()) == 1
    assert "CTC cannot predict timestamps" in capsys.readouterr().err


def test_a_recording_that_changes_language_is_cut_there(chain):
    root, _ = chain
    routed = router.load(MODEL, root / "store", context="dynamic")
    rng = np.random.default_rng(3)
    parts = [toy.clip([0, 3, 5, 1, 6, 2, 7, 4] * 3, language, rng) for language in ("hi", "te")]
    sound = np.concatenate([utterance.audio for utterance, _ in parts])
    # no word of the text is asked for: the toy never saw more than a second, and each half lasts two
    found = routed.transcribe(sound, switching=True, strategy="segments", ctc_weight=1.0)
    assert [segment.language for segment in found.segments] == ["hi", "te"]
    assert found.segments[0].end == pytest.approx(parts[0][0].duration_s, abs=0.4)
    assert found.segments[0].end == found.segments[1].start


def test_the_mixture_changes_from_frame_to_frame(chain, monkeypatch):
    """The second strategy: one pass, each frame under the adapter of its own language."""
    root, _ = chain
    routed = router.load(MODEL, root / "store", context="dynamic")
    rng = np.random.default_rng(3)
    parts = [toy.clip([0, 3, 5, 1, 6, 2, 7, 4] * 3, language, rng)[0].audio for language in ("hi", "te")]
    seen = []
    mixing = routed.bank.mixing
    monkeypatch.setattr(routed.bank, "mixing", lambda mixture: seen.append(mixture) or mixing(mixture))
    found = routed.transcribe(np.concatenate(parts), switching=True, strategy="frames", ctc_weight=1.0)
    assert [segment.language for segment in found.segments] == ["hi", "te"]
    (mixture,) = (m for m in seen if m.frame_weights is not None)
    at = round(found.segments[1].start * routed.base.frame_rate)
    for part, language in ((slice(None, at), "hi"), (slice(at, None), "te")):
        own = mixture.frame_weights[0, part]
        assert (own[:, mixture.names.index(routed.adapters[language])] == 1).all()
        assert own.sum() == len(own)


def test_frames_that_all_have_one_mixture_are_that_mixture(chain):
    from adapters.mixture import Mixture

    root, _ = chain
    routed = router.load(MODEL, root / "store", context="dynamic")
    base, bank, name = routed.base, routed.bank, routed.adapters["hi"]
    with torch.inference_mode():
        features = base.features([toy.clips(1, ("hi",), seed=4)[0][0]])
        bare = base.encode(features).values
        with bank.mixing(Mixture.one_hot([name])):
            plain = base.encode(features).values
        half = torch.zeros(1, plain.shape[1], 1)
        half[:, : plain.shape[1] // 2] = 1
        with bank.mixing(Mixture((name,), torch.ones(1, 1), torch.ones_like(half))):
            by_frame = base.encode(features).values
        with bank.mixing(Mixture((name,), torch.full((1, 1), 0.5), half)):
            changing = base.encode(features).values
    assert torch.allclose(plain, by_frame, atol=1e-5)
    assert min((changing - each).abs().max() for each in (plain, bare)) > 1e-2


def test_words_have_times(chain):
    root, _ = chain
    routed = router.load(MODEL, root / "store", context="dynamic")
    clip, _, _ = toy.clips(1, ("te",), seed=40)[0]
    (segment,) = routed.transcribe(clip.audio, language="te", timestamps="word").segments
    assert segment.words
    assert 0 <= segment.words[0].start < segment.words[-1].end <= clip.duration_s + 1e-6


def test_its_adapters_are_analysed(chain, capsys):
    root, _ = chain
    for analysis in ("similarity", "spectrum"):
        run(f"analyze {analysis} --store {root / 'store'} --base {MODEL} --out {root / 'analysis'} --no-cache")
    assert "hi - te: cosine" in capsys.readouterr().out
    tables = {path.name for path in (root / "analysis").rglob("*.csv")}
    assert tables


def test_its_layers_are_compared_with_whispers_by_depth(chain, toy_folder, toy_store, capsys):
    """Layer importance of both families by the same command, and whether their layers matter alike along the depth."""
    root, _ = chain
    run(f"zoo pull toy --from {toy_folder}")
    more = write_manifest(root / "more.jsonl", ("hi", "te"), 48, 5)  # enough that no adapter looks no better by chance
    common = f"analyze layers -m {more} --bootstrap 20 --scopes layer --no-cache"
    run(f"{common} --store {toy_store} --base toy --out {root / 'whisper-layers'}")
    of_whisper = root / "whisper-layers" / "layers.json"
    run(f"{common} --store {root / 'store'} --base {MODEL} --beside {of_whisper} --out {root / 'layers'}")
    printed = capsys.readouterr().out
    assert "its shares are not given" not in printed, printed
    for how in ("off", "only"):
        assert f"{MODEL} and toy, encoder {how}: correlation " in printed
        assert f"{MODEL} and toy, decoder {how}: too few layers" in printed
    conditions = (root / "layers" / "layers_conditions.csv").read_text()
    assert "encoder 2" in conditions
    assert (root / "layers" / "layers_depth.png").is_file()


def test_it_is_evaluated(chain, capsys):
    root, made = chain
    out = root / "adapters.json"
    run(
        f"evaluate adapters -m {made['held']} --model {MODEL} --store {root / 'store'} --context dynamic --bootstrap 20 --json {out}"
    )
    found = json.loads(out.read_text())["measurements"]
    cers = {
        (m["system"], m["language"]): m["value"] for m in found if (m["measure"], m["normaliser"]) == ("cer", "raw")
    }
    assert cers["adapter", "te"] < cers["base", "te"]
    out = root / "routing.json"
    run(
        f"evaluate routing -m {made['held']} --model {MODEL} --store {root / 'store'} --context dynamic "
        f"--policies hard,soft --latency-clips 2 --bootstrap 20 --json {out}"
    )
    assert json.loads(out.read_text())["confusion"]["routed hard"]
    capsys.readouterr()


def test_adapters_of_one_base_are_refused_by_another(chain, toy_base, tmp_path):
    """Whisper's on OWSM and OWSM's on Whisper; and OWSM's on other weights of the same shape and name."""
    from adapters.bank import Bank
    from adapters.peft_files import read_weights
    from adapters.proof import prove
    from router.fleet import choose
    from zoo.owsm_family import family

    root, _ = chain
    store = Store(root / "store")
    of_owsm = store.weights(next(iter(store.find(base=MODEL))))
    of_whisper = read_weights(toy.trained_adapter("hi", 8, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")))
    folder = toy_owsm.folder()
    base = family.load(folder, family.card(folder, MODEL), context="dynamic")
    with pytest.raises(AdapterError, match="38 of 38 sites do not exist in owsm-toy"):
        Bank(base).load("hi", of_whisper)
    with pytest.raises(AdapterError, match="50 of 50 sites do not exist in debug"):
        Bank(toy_base).load("hi", of_owsm)
    from zoo import debug_owsm

    debug_owsm.build(tmp_path / "other")
    other = family.load(tmp_path / "other", family.card(tmp_path / "other", MODEL), context="dynamic")
    with pytest.raises(AdapterError, match="was trained on other weights"):
        choose(store, other)
    fresh = family.load(folder, family.card(folder, MODEL), context="dynamic")
    assert prove(fresh, of_owsm).logit_change > 0.01
