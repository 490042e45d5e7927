"""One table over all families: what the Protocol promises."""

import numpy as np
import pytest
import torch

from tests import toy, toy_owsm
from zoo.errors import ModelError
from zoo.interface import BaseModel, DecodeOptions, Hidden
from zoo.registry import family
from zoo.speech import Utterance

LANGUAGES = ("en", "hi", "it", "pa", "te")
FOLDERS = {"whisper": toy.trained_folder, "owsm": toy_owsm.folder}
TARGETS = {"whisper": {"q_proj", "v_proj"}, "owsm": {"linear_q", "linear_v"}}
SEARCHES = [{}, {"beam_size": 3}, {"timestamps": True, "beam_size": 2}]
CTC = [{"beam_size": 3, "ctc_weight": 0.3}, {"ctc_weight": 1.0}]


@pytest.fixture(scope="module", params=FOLDERS)
def base(request):
    folder, found = FOLDERS[request.param](), family(request.param)
    return found.load(folder, found.card(folder, request.param), context="dynamic")


@pytest.fixture(scope="module")
def clips(base):
    made = [clip for clip in toy.clips(20, LANGUAGES, seed=7) if base.grid_s(clip[0]) == 1.0][:8]
    assert len(made) == 8
    return made


def written(base, clips, **options):
    hidden = base.encode(base.features([u for u, _, _ in clips]))
    return base.decode(hidden, [lang for _, _, lang in clips], DecodeOptions(**options))


def test_it_is_a_base_model(base):
    assert isinstance(base, BaseModel)
    assert set(LANGUAGES) <= set(base.languages)
    assert base.weights_sha256
    assert base.tokenizer_sha256
    assert base.card.frame_rate == base.frame_rate
    assert base.card.n_layers == base.n_layers
    assert set(base.card.targets) == TARGETS[base.card.family]


def test_sites_are_its_modules(base):
    kinds = {site.kind for site in base.sites}
    assert TARGETS[base.card.family] <= kinds
    assert len({site.name for site in base.sites}) == len(base.sites)
    for site in base.sites:
        child = base.module.get_submodule(site.name)
        assert (child.in_features, child.out_features) == (site.in_features, site.out_features)
        assert site.axis == "frames" or site.part == "decoder"
    layers = {site.layer for site in base.sites if site.part == "encoder"}
    assert layers == set(range(base.n_layers))


def test_two_halves_are_the_whole(base, clips):
    features = base.features([clips[0][0], clips[1][0]])
    with torch.inference_mode():
        whole = base.encode(features)
        assert whole.done
        assert int(whole.lengths.max()) <= whole.values.shape[1]
        for tap in range(base.n_layers + 1):
            half = base.encode(features, until=tap)
            assert (half.layer, half.done) == (tap, False)
            again = base.encode(Hidden(half.values, half.lengths, half.layer))
            torch.testing.assert_close(again.values, whole.values, atol=0, rtol=0)
    with pytest.raises(ModelError, match="cannot be encoded until layer 1"):
        base.encode(whole, until=1)


@pytest.mark.parametrize("options", SEARCHES, ids=str)
def test_batched_equals_one_by_one(base, clips, options):
    together = base.encode(base.features([u for u, _, _ in clips]))
    for i, (utterance, _, _) in enumerate(clips):
        alone = base.encode(base.features([utterance]))
        torch.testing.assert_close(alone.values[0], together.values[i], atol=1e-4, rtol=0)
    same_as_alone(base, clips, options)


@pytest.mark.parametrize("options", CTC, ids=str)
def test_batched_equals_one_by_one_with_ctc(base, clips, options):
    if base.card.family == "whisper":
        with pytest.raises(ModelError, match="has no CTC"):
            written(base, clips, **options)
    else:
        same_as_alone(base, clips, options)


def same_as_alone(base, clips, options):
    batched = written(base, clips, **options)
    assert len({h.tokens for h in batched}) > 3, "the outputs must vary, or the test proves nothing"
    for clip, hypothesis in zip(clips, batched, strict=True):
        (alone,) = written(base, [clip], **options)
        assert alone.tokens == hypothesis.tokens
        assert alone.log_probability == pytest.approx(hypothesis.log_probability, abs=1e-4)


def test_the_language_token_steers_each_clip_by_itself(base, clips):
    utterance = clips[0][0]
    found = written(base, [(utterance, "", language) for language in LANGUAGES])
    assert [h.language for h in found] == list(LANGUAGES)
    assert len({h.text for h in found}) >= 3


def test_log_probability_is_the_models_own(base, clips):
    """The greedy score equals the teacher-forced log-probability of what was written and of the end."""
    utterance, _, language = clips[0]
    features = base.features([utterance])
    (hypothesis,) = base.decode(base.encode(features), [language])
    labels = base.labels([hypothesis.text], [language])
    with torch.inference_mode():
        scores = base.logits(features, labels).log_softmax(dim=-1)
    prompt = labels.shape[1] - len(hypothesis.tokens) - 1
    picked = scores[0, torch.arange(labels.shape[1]), labels[0]][prompt:]
    assert tuple(labels[0, prompt:-1].tolist()) == hypothesis.tokens
    assert float(picked.sum()) == pytest.approx(hypothesis.log_probability, abs=1e-3)
    assert float(picked.sum()) == pytest.approx(sum(hypothesis.token_log_probabilities), abs=1e-3)


def test_an_ensemble_of_one_is_its_member(base, clips):
    """Also with a second member of weight 0, whatever it would write."""
    hidden = base.encode(base.features([u for u, _, _ in clips[:4] for _ in range(2)]))
    languages = [each for _, _, lang in clips[:4] for each in (lang, "te" if lang != "te" else "hi")]
    weights = torch.tensor([[1.0, 0.0]] * 4)
    mixed = base.decode_ensemble(hidden, languages, weights, DecodeOptions(beam_size=2))
    assert [h.tokens for h in mixed] == [h.tokens for h in written(base, clips[:4], beam_size=2)]
    assert [h.language for h in mixed] == [lang for _, _, lang in clips[:4]]


def test_its_own_language_detection_is_a_distribution(base, clips):
    found = base.detect_language(base.encode(base.features([u for u, _, _ in clips])))
    assert found.shape == (len(clips), len(base.languages))
    torch.testing.assert_close(found.sum(1), torch.ones(len(clips)))


def test_timestamp_pieces_cover_the_text(base, clips):
    for hypothesis in written(base, clips, timestamps=True):
        assert "".join(piece.text for piece in hypothesis.pieces).replace(" ", "") == hypothesis.text.replace(" ", "")
        assert all(piece.start_s <= piece.end_s for piece in hypothesis.pieces)


def test_every_site_learns(base, clips):
    """A low-rank update at any site changes the loss: no site is bypassed."""
    features = base.features([u for u, _, _ in clips])
    labels = base.labels([text for _, text, _ in clips], [lang for _, _, lang in clips])
    base.module.requires_grad_(True)
    try:
        base.loss(features, labels).backward()
        for site in base.sites:
            gradient = base.module.get_submodule(site.name).weight.grad
            assert gradient is not None, site.name
            assert float(gradient.abs().max()) > 0, site.name
    finally:
        base.module.requires_grad_(False)
        base.module.zero_grad(set_to_none=True)


def test_errors_name_what_is_valid(base):
    with pytest.raises(ModelError, match=r"no token for language 'xx'.*en, hi, it, pa, te"):
        base.prompt(["xx"])
    with pytest.raises(ModelError, match=r"lasts 31\.0 s.*up to 30 s"):
        base.features([Utterance(np.zeros(31 * 16_000, np.float32), "long.wav")])
    short, long = (Utterance(np.zeros(n, np.float32)) for n in (8_000, 24_000))
    with pytest.raises(ModelError, match=r"padded to \[1\.0, 2\.0\] s cannot share a batch"):
        base.features([short, long])
    hidden = base.encode(base.features([short]))
    with pytest.raises(ModelError, match="2 languages for 1 clips"):
        base.decode(hidden, ["en", "hi"])
    with pytest.raises(ModelError, match="needs the whole encoder"):
        base.decode(base.encode(base.features([short]), until=1), ["en"])
    assert base.prompt(["hi-IN"]).tolist() == base.prompt(["hi"]).tolist()


def test_context_and_tap_are_checked(base):
    found = family(base.card.family)
    for settings, message in (
        ({"tap": 9}, "Tap 9 .*0 to 3"),
        ({"context": "60s"}, "Context '60s'"),
        ({"dtype": "int4"}, "int4"),
    ):
        with pytest.raises(ModelError, match=message):
            found.load(base.folder, base.card, **settings)


def test_the_bank_equals_peft(base, clips, tmp_path):
    """Two adapters in one batch, and in PEFT one after the other."""
    import copy

    from peft import LoraConfig, PeftModel, get_peft_model

    from adapters.bank import Bank
    from adapters.mixture import Mixture
    from adapters.peft_files import read_weights

    found = family(base.card.family)
    fresh = found.load(base.folder, base.card, context="dynamic")
    targets = [site.name for site in base.sites]
    for seed in (0, 1):
        torch.manual_seed(seed)
        peft = get_peft_model(
            copy.deepcopy(base.module), LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
        )
        peft.save_pretrained(tmp_path / str(seed))
    bank = Bank(fresh)
    for seed in (0, 1):
        bank.load(str(seed), read_weights(tmp_path / str(seed)))
    pair = clips[:2]
    labels = base.labels([text for _, text, _ in pair], [lang for _, _, lang in pair])
    features = base.features([u for u, _, _ in pair])
    with torch.inference_mode(), bank.mixing(Mixture.one_hot(["0", "1"])):
        ours = fresh.logits(features, labels)
    for i in (0, 1):
        other = found.load(base.folder, base.card, context="dynamic")
        PeftModel.from_pretrained(other.module, tmp_path / str(i))
        with torch.inference_mode():
            theirs = other.logits(features, labels)
        torch.testing.assert_close(ours[i], theirs[i], atol=1e-4, rtol=1e-4)
        assert not torch.allclose(theirs[i], base.logits(features, labels)[i], atol=1e-2)
