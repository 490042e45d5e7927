"""`boli train base` for seconds, on toy speech."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import base_model
from training.base import BaseRecipe, train_base
from training.base_model import ModelOptions, Texts
from training.recipe import load
from training.run import read_status
from training.seeds import mixed_seed
from training.tokenizer import kept, learn
from zoo.errors import DataError, RecipeError
from zoo.interface import DecodeOptions
from zoo.speech import Utterance

RECIPE = Path("training/recipes/debug/base.yaml")


def recipe(manifests, tmp_path, *overrides: str) -> BaseRecipe:
    train, valid = manifests["mixed_train"], manifests["mixed_valid"]
    given = [f"data.train=[{train}]", f"data.valid=[{valid}]", f"run.root={tmp_path}"]
    return load(BaseRecipe, RECIPE, [*given, *overrides])


def test_learns_and_leaves_a_model_that_loads(manifests, tmp_path):
    from transformers import WhisperForConditionalGeneration

    import zoo

    folder = train_base(
        recipe(manifests, tmp_path, "learn.steps=60", "learn.timestamps=0.2", "learn.validate_minutes=0.01")
    )
    rows = json.loads((folder / "metrics.json").read_text())["history"]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    ctc = [row["ctc_loss"] for row in rows if "ctc_loss" in row]
    assert ctc[-1] < 0.7 * ctc[0]
    assert any("valid_cer_te" in row for row in rows)
    base = zoo.load(str(folder / "model"), context="dynamic")
    assert base.languages == ("en", "hi", "it", "pa", "te")
    model = WhisperForConditionalGeneration.from_pretrained(folder / "model")
    assert model.config.torch_dtype in (torch.float16, "float16", None) or model.dtype == torch.float16
    assert read_status(folder).state == "done"


def test_a_run_that_goes_on_with_other_text_keeps_its_tokens(tmp_path):
    first = kept(tmp_path / "tokenizer", lambda: learn({"en": ["one two three"] * 3}, size=270))
    again = kept(tmp_path / "tokenizer", lambda: learn({"en": ["ten eleven twelve"] * 3}, size=270))
    assert again.get_vocab() == first.get_vocab()
    text = ["three two one", "नमस्ते"]
    assert again(text)["input_ids"] == first(text)["input_ids"]
    other = learn({"en": ["ten eleven twelve"] * 3}, size=270)
    assert other.get_vocab() != first.get_vocab()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer"]


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resume_is_exact(manifests, tmp_path, optimizer):
    """Stopped by a signal after some steps and resumed: the same weights as without."""
    options = [
        "learn.steps=12",
        f"learn.optimizer={optimizer}",
        "augment.noise=0.5",
        "augment.reverb=0.5",
        "plan.speed=[0.9,1.1]",
        "learn.checkpoint_minutes=0.0",
    ]
    whole = train_base(recipe(manifests, tmp_path / "a", *options, "data.valid=[]"))
    chosen = recipe(manifests, tmp_path / "b", *options, "data.valid=[]")
    from training import base as module
    from training.signals import Preempted

    class Stopping(module._Job):
        def _step(self, batches):
            measured = super()._step(batches)
            if self.step == 5:
                self.stop.received = "SIGTERM"
            return measured

        def train(self, stop):
            self.stop = stop
            return super().train(stop)

    original, module._Job = module._Job, Stopping
    try:
        with pytest.raises(Preempted):
            train_base(chosen)
    finally:
        module._Job = original
    (folder,) = (tmp_path / "b").iterdir()
    assert read_status(folder).state == "preempted"
    train_base(chosen, folder)
    from safetensors.torch import load_file

    one, two = (load_file(run / "model" / "model.safetensors") for run in (whole, folder))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_begins_gently(manifests, tmp_path, monkeypatch):
    """Short clips of one language without augmentation first, then everything."""
    from training import base as module

    steps, damaged, spoken = [], [], []
    original = module._Job._step

    def step(job, batches):
        (batch,) = batches
        steps.append((job.progress.share(job.step), batch.samples))
        spoken.append({job.clips.records[i].lang for i in batch.index})
        return original(job, batches)

    def waves(augmenter, audio, lengths, generator):
        damaged.append(len(steps))
        return audio

    monkeypatch.setattr(module._Job, "_step", step)
    monkeypatch.setattr(module.Augmenter, "waves", waves)
    options = [
        "learn.steps=20",
        "learn.gentle=0.5",
        "learn.gentle_s=0.6",
        "data.valid=[]",
        "augment.noise=1.0",
        "grid_s=0.2",
        "learn.gentle_ratios={te: 1.0}",
    ]
    train_base(recipe(manifests, tmp_path, *options))
    gentle = [samples for share, samples in steps if share < 0.5]
    assert len(gentle) == 10
    assert max(gentle) == 9_600
    assert max(samples for share, samples in steps if share >= 0.5) > 9_600
    assert damaged == list(range(11, 21))
    assert spoken[:10] == [{"te"}] * 10
    assert len(set().union(*spoken[10:])) == 5
    with pytest.raises(RecipeError, match=r"learn\.gentle_s"):
        train_base(recipe(manifests, tmp_path, "learn.gentle=0.5", "learn.gentle_s=0.01", "data.valid=[]"))


def test_batches_side_by_side_give_the_mean_of_their_gradients(manifests, tmp_path, monkeypatch):
    """Bit for bit: each batch is computed by one thread, whoever runs beside it."""
    from training import base as module
    from zoo.threads import thread_count

    expected, found, sizes = [], [], []
    original = module._Job._step

    def step(job, batches):
        job.model.train()
        sizes.append(len(batches))
        seeds = [mixed_seed(job.recipe.run.seed, job.step), mixed_seed(job.recipe.run.seed, job.step, 1)]
        done = min(1.0, job.progress.share(job.step))
        weight = job.recipe.learn.ctc + (job.recipe.learn.ctc_final - job.recipe.learn.ctc) * done
        with thread_count(1):
            apart = [job._gradients(b, s, weight)[0] for b, s in zip(batches, seeds, strict=False)]
        expected.append([sum(each) / len(each) for each in zip(*apart, strict=True)])
        return original(job, batches)

    def keep(optimizer, rate, workers=None):
        found.append(
            [p.grad.clone() for part in optimizer.parts.values() for g in part.param_groups for p in g["params"]]
        )

    monkeypatch.setattr(module._Job, "_step", step)
    monkeypatch.setattr(module.BaseOptimizer, "step", keep)
    options = ["learn.steps=4", "learn.parallel=2", "learn.clip_norm=1e9", "augment.noise=1.0", "data.valid=[]"]
    options += ["model.dropout=0.0"]
    before = torch.get_num_threads()
    train_base(recipe(manifests, tmp_path, *options, "plan.batch_clips=4", "learn.optimizer=adamw"))
    assert torch.get_num_threads() == before
    assert sizes == [2] * 4

    def told(gradients):
        return sorted((tuple(g.shape), float(g.double().sum()), float(g.double().abs().sum())) for g in gradients)

    assert [told(each) for each in found] == [told(each) for each in expected]


SHAPE = {
    "width": 32,
    "heads": 2,
    "decoder_layers": 1,
    "encoder_feed_forward": 64,
    "decoder_feed_forward": 64,
    "dropout": 0.0,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A base of two encoder layers with random weights, its tokenizer and its folder."""
    torch.manual_seed(0)
    tokenizer = learn({"en": ["one two three"] * 3}, size=270)
    options = ModelOptions(**SHAPE, encoder_layers=2)
    model = base_model.build(options, tokenizer, ["en"])
    folder = tmp_path_factory.mktemp("base") / "model"
    base_model.save(model, tokenizer, folder, options)
    return model.half().float().eval(), tokenizer, folder


def test_goes_on_from_a_base_with_fewer_layers(small):
    """The added layers change nothing until they learn to, and they can: their gradients are not zero."""
    model, tokenizer, folder = small
    deeper = base_model.build(ModelOptions(**SHAPE, encoder_layers=4), tokenizer, ["en"]).eval()
    base_model.begin_from(deeper, folder)
    mel = torch.randn(2, 80, 120)
    assert torch.equal(base_model.encode(deeper, mel), base_model.encode(model, mel))
    layers = deeper.model.encoder.layers
    assert torch.equal(layers[3].fc1.weight, model.model.encoder.layers[1].fc1.weight)
    deeper.train()
    base_model.encode(deeper, mel).square().sum().backward()
    assert layers[2].fc2.weight.grad.abs().max() > 0
    assert layers[3].self_attn.out_proj.weight.grad.abs().max() > 0


def test_goes_on_from_a_base_with_more_frames_a_second(small):
    """Every frame of the slower model stands where a frame of the faster one stood at that time."""
    model, tokenizer, folder = small
    slower = base_model.build(
        ModelOptions(**SHAPE, encoder_layers=2, hop_samples=320, fft_samples=512), tokenizer, ["en"]
    )
    base_model.begin_from(slower, folder)
    positions = slower.model.encoder.embed_positions.weight
    assert torch.equal(positions, model.model.encoder.embed_positions.weight[::2])
    with pytest.raises(DataError, match=r"cannot be gone on from: .* is \(.*32.*\), wanted \(.*64"):
        base_model.begin_from(base_model.build(ModelOptions(width=64, heads=2), tokenizer, ["en"]), folder)


def test_a_run_that_goes_on_from_a_base(manifests, tmp_path, small):
    """Through the command's own way: its tokenizer, its weights, and 25 frames a second that the zoo reads and says."""
    import zoo

    _, tokenizer, folder = small
    options = ["learn.steps=3", f"learn.start_from={folder}", "model.encoder_layers=3", "learn.parallel=2"]
    options += [
        "model.hop_samples=320",
        "model.fft_samples=512",
        "model.max_tokens=256",
        "model.dropout=0.0",
        "augment.time_masks=1",
    ]
    run = train_base(recipe(manifests, tmp_path, *options))
    base = zoo.load(str(run / "model"), context="dynamic")
    assert (base.frame_rate, base.card.frame_rate, base.n_layers, base.max_duration_s) == (25.0, 25.0, 3, 30.0)
    assert base.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert base.card.longest_s == recipe(manifests, tmp_path).data.max_duration_s  # no longer clips were taught
    audio = np.random.default_rng(0).normal(size=24_000).astype(np.float32) * 0.1
    features = base.features([Utterance(audio)])
    assert features.values.shape[-1] == 100  # padded to two seconds, 20 ms each
    hidden = base.encode(features)
    assert hidden.values.shape[1] == 50
    assert hidden.lengths.tolist() == [38]
    options[:2] = ["learn.steps=1", f"learn.start_from={run / 'model'}"]
    again = zoo.load(str(train_base(recipe(manifests, tmp_path, *options, "learn.learning_rate=1e-12")) / "model"))
    assert torch.allclose(again.ctc.weight, base.ctc.weight, atol=1e-3), "its CTC head is gone on with, too"
    assert again.decode(again.encode(again.features([Utterance(audio)])), ["en"], DecodeOptions(2, ctc_weight=0.3))
    with pytest.raises(RecipeError, match=r"model.dropout is 0.1.*0 where learn.parallel=2"):
        recipe(manifests, tmp_path, "learn.parallel=2")
    with pytest.raises(RecipeError, match=r"model.hop_samples is 500.*fft_samples=400"):
        recipe(manifests, tmp_path, "model.hop_samples=500")


def test_targets_are_those_of_the_zoo(toy_base):
    texts = Texts(["abc", "അആ"[:1] + "b"], ["en", "hi"], toy_base.tokenizer, 128, "cpu")
    index = torch.tensor([0, 1])
    timed = torch.tensor([False, True])
    inputs, labels, text, counts = texts.targets(index, max(texts.lengths), timed, torch.tensor([16_000, 24_000]))
    expected = toy_base.labels(["abc"], ["en"])[0].tolist()
    assert labels[0][labels[0] != -100].tolist() == expected
    assert inputs[0, 0] == toy_base.module.generation_config.decoder_start_token_id
    assert inputs[0, 1 : len(expected)].tolist() == expected[:-1]
    written = toy_base.tokenizer.convert_ids_to_tokens(labels[1][labels[1] != -100])
    assert (written[2], written[-2], written[-1]) == ("<|0.00|>", "<|1.50|>", "<|endoftext|>")
    assert counts.tolist() == texts.lengths
    assert text.shape == (2, max(texts.lengths))


def test_tokenizer_is_balanced_and_complete():
    texts = {"en": ["the quick brown fox jumps over the lazy dog"] * 500, "hi": ["नमस्ते दुनिया"], "te": ["నమస్కారం"]}
    tokenizer = learn(texts, 400)
    for language, sentences in texts.items():
        ids = tokenizer(sentences[0], add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == sentences[0]
        assert len(ids) < 0.6 * len(sentences[0].encode()), language
    tokenizer.set_prefix_tokens(language="te", task="transcribe", predict_timestamps=False)
    names = tokenizer.convert_ids_to_tokens(tokenizer.prefix_tokens)
    assert names == ["<|startoftranscript|>", "<|te|>", "<|transcribe|>", "<|notimestamps|>"]
    with pytest.raises(DataError, match="nothing in hi"):
        learn({"en": ["a"], "hi": [" "]}, 400)
    with pytest.raises(DataError, match="no merges"):
        learn({"en": ["a"]}, 200)


def test_bad_shapes(manifests, tmp_path):
    with pytest.raises(RecipeError, match=r"model.width is 65.*multiple of model.heads=2"):
        recipe(manifests, tmp_path, "model.width=65")
    with pytest.raises(RecipeError, match=r"learn.steps is 0"):
        recipe(manifests, tmp_path, "learn.steps=0")
