"""Family whisper: held to transformers' own generate, on a model whose outputs vary."""

import shutil

import numpy as np
import pytest
import torch
from transformers import GenerationMixin, LogitsProcessorList
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from tests import toy
from zoo.ctc import NEVER, read_head, write_head
from zoo.errors import ModelError
from zoo.interface import BaseModel, DecodeOptions
from zoo.search import Suppressed
from zoo.speech import Utterance
from zoo.whisper_family import family

LANGUAGES = ("en", "hi", "it", "pa", "te")


@pytest.fixture(scope="module")
def clips():
    return toy.clips(10, LANGUAGES, seed=7)


@pytest.fixture(scope="module")
def padded(toy_folder):
    return family.load(toy_folder, family.card(toy_folder, "debug"), context="30s")


def generated(base, utterances, languages, timestamps=False, **options):
    """transformers' generate over one window, cut to what was written: no prompt, no end of text, no padding.

    With timestamps Whisper's own `generate` moves on to a second window when the first ends before 30 s, and joins the
    two; that is the router's business here. So the search below it is called, under Whisper's timestamp rules.
    """
    features = base.features(utterances)
    config = base.module.generation_config
    prompt = base.prompt(languages, DecodeOptions(timestamps=timestamps))
    if timestamps:
        rules = LogitsProcessorList([WhisperTimeStampLogitsProcessor(config, begin_index=prompt.shape[1])])
        output = GenerationMixin.generate(
            base.module, features.values, decoder_input_ids=prompt, logits_processor=rules, max_length=128, **options
        )
    else:
        tokens = [f"<|{language}|>" for language in languages]
        output = base.module.generate(features.values, language=tokens, task="transcribe", max_length=128, **options)
    rows = []
    for row in output.tolist():
        row = row[prompt.shape[1] :] if row[:1] == [config.decoder_start_token_id] else row
        rows.append(tuple(row[: row.index(config.eos_token_id)] if config.eos_token_id in row else row))
    return rows


def written(base, utterances, languages, **options):
    hidden = base.encode(base.features(utterances))
    return [h.tokens for h in base.decode(hidden, languages, DecodeOptions(**options))]


def test_it_is_a_base_model(toy_base):
    assert isinstance(toy_base, BaseModel)


@pytest.mark.filterwarnings("ignore")  # transformers warns about its own generation config
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"num_beams": 1}),
        ({"beam_size": 4}, {"num_beams": 4}),
        ({"beam_size": 3, "length_penalty": 0.4}, {"num_beams": 3, "length_penalty": 0.4}),
        ({"timestamps": True}, {"timestamps": True, "num_beams": 1}),
        ({"timestamps": True, "beam_size": 3}, {"timestamps": True, "num_beams": 3}),
    ],
    ids=["greedy", "beam", "beam-short", "timestamps", "timestamps-beam"],
)
def test_padded_tokens_equal_transformers_generate(padded, clips, ours, theirs):
    utterances, languages = [u for u, _, _ in clips], [lang for _, _, lang in clips]
    mine = written(padded, utterances, languages, **ours)
    assert mine == generated(padded, utterances, languages, **theirs)
    assert len(set(mine)) > 5, "the outputs must vary, or the test proves nothing"


def test_words_are_right_where_the_model_learnt(toy_base):
    clips = [c for c in toy.clips(30, ("en",), seed=8) if toy_base.grid_s(c[0]) == 1.0]
    texts = [
        h.text
        for h in toy_base.decode(toy_base.encode(toy_base.features([u for u, _, _ in clips])), ["en"] * len(clips))
    ]
    right = sum(text == wanted for text, (_, wanted, _) in zip(texts, clips, strict=True))
    assert right / len(clips) > 0.8


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}])
def test_batched_equals_one_by_one(toy_base, clips, options):
    """Also that a clip does not depend on its neighbours: context dynamic, equal grid."""
    same = [c for c in clips if toy_base.grid_s(c[0]) == 1.0]
    assert len(same) >= 5
    utterances, languages = [u for u, _, _ in same], [lang for _, _, lang in same]
    together = toy_base.encode(toy_base.features(utterances))
    for i, utterance in enumerate(utterances):
        alone = toy_base.encode(toy_base.features([utterance]))
        torch.testing.assert_close(alone.values[0], together.values[i], atol=1e-4, rtol=0)
    assert written(toy_base, utterances, languages, **options) == [
        written(toy_base, [u], [lang], **options)[0] for u, lang in zip(utterances, languages, strict=True)
    ]


def test_dynamic_context_is_the_model_cut_to_the_grid(toy_base, toy_folder):
    """Encoding with sliced positions equals transformers' encoder whose positions were cut to the clip."""
    utterance = toy.clips(1, ("en",), seed=3)[0][0]
    features = toy_base.features([utterance])
    encoder = family.load(toy_folder, family.card(toy_folder, "debug")).module.model.encoder
    frames = features.values.shape[-1] // 2
    encoder.config.max_source_positions = frames
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(encoder.embed_positions.weight[:frames])
    with torch.inference_mode():
        wanted = encoder(features.values).last_hidden_state
        torch.testing.assert_close(toy_base.encode(features).values, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tap", [0, 1, 2, 3])
def test_two_halves_are_the_whole(toy_base, clips, tap):
    features = toy_base.features([clips[0][0]])
    with torch.inference_mode():
        whole = toy_base.encode(features)
        half = toy_base.encode(features, until=tap)
        assert half.layer == tap
        assert not half.done
        torch.testing.assert_close(toy_base.encode(half).values, whole.values, atol=0, rtol=0)


def test_timestamp_pieces_cover_the_text(toy_base, clips):
    same = [c for c in clips if toy_base.grid_s(c[0]) == 1.0]
    hidden = toy_base.encode(toy_base.features([u for u, _, _ in same]))
    for hypothesis in toy_base.decode(hidden, [lang for _, _, lang in same], DecodeOptions(timestamps=True)):
        assert "".join(piece.text for piece in hypothesis.pieces).replace(" ", "") == hypothesis.text.replace(" ", "")
        assert all(piece.start_s <= piece.end_s for piece in hypothesis.pieces)


def test_log_probability_is_the_models_own(toy_base, clips):
    """The greedy score equals the teacher-forced log-probability of what was written."""
    utterance, _, language = clips[0]
    features = toy_base.features([utterance])
    hypothesis = toy_base.decode(toy_base.encode(features), [language])[0]
    labels = toy_base.labels([hypothesis.text], [language])
    with torch.inference_mode():
        scores = toy_base.logits(features, labels).log_softmax(dim=-1)
    prompt = toy_base.prompt([language]).shape[1] - 1
    picked = scores[0, torch.arange(labels.shape[1]), labels[0]][prompt:]
    assert float(picked.sum()) == pytest.approx(hypothesis.log_probability, abs=1e-3)


def test_clips_of_different_grids_cannot_share_a_batch(toy_base):
    short, long = (Utterance(np.zeros(n, np.float32)) for n in (8_000, 24_000))
    with pytest.raises(ModelError, match=r"padded to \[1\.0, 2\.0\] s cannot share a batch"):
        toy_base.features([short, long])


def test_errors_name_what_is_valid(toy_base, toy_folder):
    with pytest.raises(ModelError, match=r"no token for language 'xx'.*en, hi, it, pa, te"):
        toy_base.prompt(["xx"])
    with pytest.raises(ModelError, match=r"lasts 31\.0 s.*up to 30 s"):
        toy_base.features([Utterance(np.zeros(31 * 16_000, np.float32), "long.wav")])
    with pytest.raises(ModelError, match=r"Tap 9 .*0 to 3"):
        family.load(toy_folder, family.card(toy_folder, "debug"), tap=9)


def test_weights_that_do_not_fit_are_refused(toy_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(toy_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.decoder.layers.0.fc1.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"do not fit its config: model\.decoder\.layers\.0\.fc1\.weight"):
        family.load(folder, family.card(folder, "cut"))


def test_the_debug_model_is_the_same_every_time(tmp_path):
    from zoo import debug
    from zoo.fingerprint import weights_sha256

    debug.build(tmp_path / "a")
    debug.build(tmp_path / "b")
    assert weights_sha256(tmp_path / "a") == weights_sha256(tmp_path / "b")


def test_suppressed_tokens_are_those_of_transformers():
    from transformers.generation.logits_process import (
        SuppressTokensAtBeginLogitsProcessor,
        SuppressTokensLogitsProcessor,
    )

    torch.manual_seed(0)
    scores, tokens = torch.randn(3, 50), [4, 7, 49]
    for length in (3, 4, 5):
        rows = torch.zeros(3, length, dtype=torch.long)
        theirs = SuppressTokensAtBeginLogitsProcessor(tokens, 4, device="cpu")
        assert torch.equal(Suppressed(tokens, scores.device, only_at=4)(rows, scores), theirs(rows, scores))
        assert torch.equal(
            Suppressed(tokens, scores.device)(rows, scores),
            SuppressTokensLogitsProcessor(tokens, device="cpu")(rows, scores),
        )


@pytest.fixture(scope="module")
def hybrid(toy_folder, tmp_path_factory):
    """The toy with a CTC head beside its weights, taught for a moment on the encoder's states."""
    folder = tmp_path_factory.mktemp("hybrid") / "model"
    shutil.copytree(toy_folder, folder)
    plain = family.load(folder, family.card(folder, "debug"), context="dynamic")
    torch.manual_seed(0)
    head = torch.nn.Linear(plain.hidden_size, 1 + plain.end_token)
    learner = torch.optim.Adam(head.parameters(), 1e-2)
    for utterance, text, _ in toy.clips(60, ("en",), seed=21):
        states = plain.encode(plain.features([utterance])).values
        labels = torch.tensor(plain.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
        scores = head(states).log_softmax(-1).transpose(0, 1)
        loss = torch.nn.functional.ctc_loss(scores, labels[None], [len(scores)], [len(labels)], zero_infinity=True)
        learner.zero_grad(), loss.backward(), learner.step()
    write_head(head, folder)
    return family.load(folder, family.card(folder, "debug"), context="dynamic")


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("beams", [1, 4])
def test_a_joint_score_is_that_of_decoder_and_ctc(hybrid, clips, weight, beams):
    """(1 - w) of the decoder's log-probability and w of CTC's, whatever torch's own loss says of the text."""
    utterances = [u for u, _, _ in clips if hybrid.grid_s(u) == 1.0]
    languages = [lang for u, _, lang in clips if hybrid.grid_s(u) == 1.0]
    hidden = hybrid.encode(hybrid.features(utterances))
    found = hybrid.decode(hidden, languages, DecodeOptions(beams, ctc_weight=weight, cut_loops=False))
    assert len({h.tokens for h in found}) > 3
    for i, (hypothesis, language) in enumerate(zip(found, languages, strict=True)):
        frames = int(hidden.lengths[i])
        scores = hybrid.ctc(hidden.values[i : i + 1, :frames]).log_softmax(-1).transpose(0, 1)
        labels = torch.tensor(hypothesis.tokens) + 1
        ctc = -torch.nn.functional.ctc_loss(scores, labels[None], [frames], [len(labels)], reduction="sum")
        prompt = hybrid.prompt([language])
        row = torch.cat([prompt[0], torch.tensor([*hypothesis.tokens, hybrid.end_token])])[None]
        logits = hybrid.module(encoder_outputs=(hidden.values[i : i + 1],), decoder_input_ids=row[:, :-1]).logits
        each = logits.log_softmax(-1).gather(2, row[:, 1:, None])[0, prompt.shape[1] - 1 :, 0]
        assert hypothesis.log_probability == pytest.approx(
            float((1 - weight) * each.sum() + weight * ctc), rel=1e-3, abs=1e-3
        )
    alone = [
        hybrid.decode(
            hybrid.encode(hybrid.features([u])), [lang], DecodeOptions(beams, ctc_weight=weight, cut_loops=False)
        )[0].tokens
        for u, lang in zip(utterances, languages, strict=True)
    ]
    assert alone == [h.tokens for h in found]


def test_texts_are_scored_by_ctc_over_all_their_alignments(hybrid, toy_base, clips):
    """As torch's own loss says of the clip's own frames; impossible for a text of more tokens than frames, sure of nothing
    where nothing is said."""
    utterances = [u for u, _, _ in clips if hybrid.grid_s(u) == 1.0]
    hidden = hybrid.encode(hybrid.features(utterances))
    texts = ["feed", "bad head", "", "a" * 400]
    for i in range(3):
        frames = int(hidden.lengths[i])
        found = hybrid.text_log_probabilities(hidden.rows(torch.tensor([i])), texts)
        scores = hybrid.ctc(hidden.values[i, :frames]).log_softmax(-1)
        for text, value in zip(texts[:2], found[:2], strict=True):
            labels = torch.tensor(hybrid.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
            wanted = -torch.nn.functional.ctc_loss(scores, labels, [frames], [len(labels)], reduction="sum")
            assert value == pytest.approx(float(wanted), rel=1e-4)
        assert found[2] == pytest.approx(float(scores[:, 0].sum()), rel=1e-4)
        assert found[3] == NEVER
    assert toy_base.text_log_probabilities(toy_base.encode(toy_base.features(utterances[:1])), texts) is None


def test_scripts_are_heard_as_the_sum_of_their_tokens(hybrid, toy_base, clips):
    """Of each frame, one clip at a time; what is no letter counts for none."""
    utterances = [u for u, _, _ in clips if hybrid.grid_s(u) == 1.0]
    hidden = hybrid.encode(hybrid.features(utterances)).rows(torch.tensor([1]))
    frames = int(hidden.lengths[0])
    found = hybrid.script_probabilities(hidden, ["LATIN", "TELUGU"])
    shares = hybrid.ctc(hidden.values[0, :frames]).softmax(-1)
    texts = [hybrid.tokenizer.decode([token]) for token in range(shares.shape[1] - 1)]
    latin = [any("a" <= c.lower() <= "z" for c in text) for text in texts]
    assert found.shape == (frames, 2)
    assert torch.allclose(found[:, 0], shares[:, 1:][:, torch.tensor(latin)].sum(-1), atol=1e-5)
    assert float(found[:, 0].max()) > 0.5, "it writes something"
    assert (found.sum(-1) <= 1.0001).all()
    assert toy_base.script_probabilities(toy_base.encode(toy_base.features(utterances[:1])), ["LATIN"]) is None


def test_ctc_needs_a_head_and_predicts_no_timestamps(hybrid, toy_base, clips, tmp_path):
    hidden = hybrid.encode(hybrid.features([clips[0][0]]))
    for base, options, message in (
        (toy_base, DecodeOptions(ctc_weight=0.3), "has no CTC"),
        (hybrid, DecodeOptions(ctc_weight=1.5), r"ctc_weight is 1\.5"),
        (hybrid, DecodeOptions(ctc_weight=0.3, timestamps=True), "cannot predict timestamps"),
    ):
        with pytest.raises(ModelError, match=message):
            base.decode(hidden, ["en"], options)
    assert read_head(tmp_path, hybrid.hidden_size) is None
    with pytest.raises(ModelError, match="no CTC head of this model"):
        read_head(hybrid.folder, hybrid.hidden_size + 1)
    assert hybrid.weights_sha256 == toy_base.weights_sha256, "adapters fit both"
