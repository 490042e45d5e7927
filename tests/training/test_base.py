"""`boli train base` for seconds, on toy speech."""

import json
from pathlib import Path

import pytest
import torch

from training.base import BaseRecipe, train_base
from training.base_model import Texts
from training.recipe import load
from training.run import read_status
from training.tokenizer import kept, learn
from zoo.errors import DataError, RecipeError

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
        def _step(self, batch):
            measured = super()._step(batch)
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

    def step(job, batch):
        steps.append((job.progress.share(job.step), batch.samples))
        spoken.append({job.clips.records[i].lang for i in batch.index})
        return original(job, batch)

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
