"""`boli train adapter` on the trained toy base."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapters.store import Store
from training import checkpoints
from training.adapter import train_adapter
from training.adapter_recipe import AdapterRecipe
from training.recipe import load
from training.run import read_status
from zoo.errors import AdapterError, DataError, RecipeError

RECIPE = Path("training/recipes/debug/adapter.yaml")


def recipe(manifests, toy_folder, tmp_path, *overrides: str) -> AdapterRecipe:
    given = [f"data.train=[{manifests['train']}]", f"data.valid=[{manifests['valid']}]", f"run.root={tmp_path}"]
    return load(AdapterRecipe, RECIPE, [*given, f"base.name={toy_folder}", *overrides])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def history(folder: Path, key: str) -> list[float]:
    rows = json.loads((folder / "metrics.json").read_text())["history"]
    return [row[key] for row in rows if key in row]


def test_learns_and_publishes(manifests, toy_folder, tmp_path):
    options = ["fit.steps=60", "adapter.targets=[all]", "fit.learning_rate=1e-2", "fit.evaluate_at_start=true"]
    options += [f"publish.store={tmp_path / 'store'}", "base.publish_as=debug", f"data.test=[{manifests['valid']}]"]
    chosen = recipe(manifests, toy_folder, tmp_path, *options)
    folder = train_adapter(chosen)
    losses = history(folder, "loss")
    assert sum(losses[-3:]) / 3 < 0.93 * sum(losses[:3]) / 3
    (stored,) = Store(tmp_path / "store").all()
    assert (stored.key.base, stored.key.language, stored.key.rank) == ("debug", "hi", 8)
    assert stored.record.context == "dynamic"
    assert {(s.metric, s.normaliser) for s in stored.record.scores} >= {("wer", "raw"), ("cer", "indic")}
    assert str(tmp_path) not in stored.record.to_json()
    for name in ("config.yaml", "train.log", "metrics.json", "results.csv", "predictions.csv", "curves.png"):
        assert (folder / name).stat().st_size > 0, name
    status = read_status(folder)
    assert (status.state, status.step, status.steps) == ("done", 60, 60)
    assert (folder / "checkpoints/best").is_dir()
    assert (folder / "checkpoints/latest").is_dir()


def test_a_name_that_the_store_refuses_is_said_before_the_training(manifests, toy_folder, tmp_path):
    options = [f"publish.store={tmp_path / 'store'}", "fit.steps=2"]  # the base's name is its path
    with pytest.raises(AdapterError, match=r"Base model name .* cannot be used.*boli zoo pull NAME"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, *options))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_written_in_half(manifests, toy_folder, tmp_path):
    """What is scored is what is written."""
    from training.adapter import load_base
    from training.adapter_publish import score_manifest

    options = ["fit.steps=40", "fit.learning_rate=1e-2", "publish.dtype=float16", f"data.test=[{manifests['valid']}]"]
    chosen = recipe(manifests, toy_folder, tmp_path, *options)
    folder = train_adapter(chosen)
    written = weights(folder)
    assert {tensor.dtype for tensor in written.values()} == {torch.float16}
    from peft import PeftModel

    base, _ = load_base(chosen.base, "cpu", None)
    PeftModel.from_pretrained(base.module, folder / "adapter")
    again = score_manifest(base, chosen.data.test[0], chosen.data)
    scored = json.loads((folder / "metrics.json").read_text())["final"]
    assert scored | {f"test_{k}": v for k, v in again.metrics.items()} == scored
    with pytest.raises(RecipeError, match="float8"):
        recipe(manifests, toy_folder, tmp_path, "publish.dtype=float8")


def test_resume_is_exact(manifests, toy_folder, tmp_path):
    """Killed with SIGKILL somewhere and resumed: the same weights, bit for bit, as without."""
    overrides = [
        "fit.steps=12",
        "fit.evaluate_every=4",
        "augment.noise=0.5",
        "plan.speed=[0.9,1.1]",
        "fit.accumulate=2",
    ]
    whole = train_adapter(recipe(manifests, toy_folder, tmp_path / "a", *overrides))
    chosen = recipe(manifests, toy_folder, tmp_path / "b", *overrides)
    given = [f"data.train=[{manifests['train']}]", f"data.valid=[{manifests['valid']}]", f"run.root={tmp_path / 'b'}"]
    command = [sys.executable, "-m", "training", "train", "adapter", str(RECIPE), *given, f"base.name={toy_folder}"]
    process = subprocess.Popen([*command, *overrides], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "b").glob("*/checkpoints/step-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    (folder,) = (tmp_path / "b").iterdir()
    assert read_status(folder).state == "running"
    assert train_adapter(chosen, folder) == folder
    last = Path("checkpoints/latest/adapter_model.safetensors")
    one, two = load_file(whole / last), load_file(folder / last)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    assert read_status(folder).restarts == 1
    for key in ("loss", "valid_wer", "valid_cer", "learning_rate"):
        assert history(whole, key) == history(folder, key), key


def test_sigterm_leaves_a_checkpoint(manifests, toy_folder, tmp_path):
    given = [f"data.train=[{manifests['train']}]", "data.valid=[]", f"run.root={tmp_path}", f"base.name={toy_folder}"]
    command = [sys.executable, "-m", "training", "train", "adapter", str(RECIPE), *given, "fit.steps=5000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = list(tmp_path.glob("*/status.json"))
        if found and json.loads(found[0].read_text())["step"] > 0:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    (folder,) = tmp_path.iterdir()
    status = read_status(folder)
    assert status.state == "preempted"
    assert checkpoints.read(folder / "checkpoints") is not None


@pytest.mark.parametrize(
    ("overrides", "trained"),
    [
        (["adapter.targets=[q_proj]", "adapter.layers=above_tap"], {"encoder.layers.1", "encoder.layers.2", "decoder"}),
        (["adapter.targets=[all]", "adapter.progressive=3"], {"fc1", "encoder.layers.0", "out_proj"}),
        (["fit.gradient_checkpointing=true"], {"q_proj", "v_proj"}),
        (["fit.max_minutes=0.02"], {"q_proj"}),
        (["fit.epochs=0.5", "fit.precision=bf16"], {"v_proj"}),
    ],
)
def test_options(manifests, toy_folder, tmp_path, overrides, trained):
    chosen = recipe(manifests, toy_folder, tmp_path, "data.valid=[]", "fit.steps=3", "base.tap=1", *overrides)
    names = weights(train_adapter(chosen))
    for part in trained:
        assert any(part in name for name in names), part
    if chosen.adapter.layers == "above_tap":
        assert not any("encoder.layers.0" in name for name in names)
        assert not any("v_proj" in name for name in names)


def test_a_budget_of_time_is_shown_in_minutes(manifests, toy_folder, tmp_path, capsys):
    options = ["data.valid=[]", "fit.max_minutes=0.03", "run.progress=true"]
    train_adapter(recipe(manifests, toy_folder, tmp_path, *options))
    shown = capsys.readouterr().err.replace("\r", "\n").splitlines()
    bars = [line for line in shown if "of 0.03 min" in line]
    assert re.fullmatch(r"100%\|█+\| 0.03 of 0.03 min, step \d+", bars[-1])
    assert "10000000" not in "".join(shown)


def test_starts_from_another_adapter(manifests, toy_folder, tmp_path):
    first = train_adapter(recipe(manifests, toy_folder, tmp_path, "data.valid=[]", "fit.steps=4"))
    start = f"adapter.start_from={first / 'adapter'}"
    second = train_adapter(
        recipe(manifests, toy_folder, tmp_path, "data.valid=[]", "fit.steps=1", "fit.learning_rate=1e-9", start)
    )
    one, two = weights(first), weights(second)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    with pytest.raises(Exception, match=r"rank 8.*adapter.rank=8"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, "data.valid=[]", "adapter.rank=16", start))


@pytest.mark.parametrize("method", ["full", "decoder"])
def test_fine_tuning_leaves_a_model_folder(manifests, toy_folder, tmp_path, method):
    import zoo

    folder = train_adapter(
        recipe(manifests, toy_folder, tmp_path, f"adapter.method={method}", "fit.steps=3", "fit.evaluate_every=2")
    )
    before, after = load_file(toy_folder / "model.safetensors"), load_file(folder / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("decoder.layers" in name for name in changed)
    assert any("encoder.layers" in name for name in changed) == (method == "full")
    assert "model.encoder.embed_positions.weight" not in changed
    assert zoo.load(str(folder / "model")).languages


def test_early_stopping(manifests, toy_folder, tmp_path):
    folder = train_adapter(
        recipe(
            manifests,
            toy_folder,
            tmp_path,
            "fit.steps=40",
            "fit.evaluate_every=1",
            "fit.patience=2",
            "fit.learning_rate=1e-9",
        )
    )
    assert read_status(folder).step == 3


def test_bad_input(manifests, toy_folder, tmp_path):
    with pytest.raises(RecipeError, match=r"adapter.targets names nothing_proj.*Valid: all, fc1"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, "adapter.targets=[nothing_proj]"))
    (folder,) = tmp_path.iterdir()
    status = read_status(folder)
    assert status.state == "failed"
    assert "nothing_proj" in status.error
    with pytest.raises(RecipeError, match=r"adapter.rank is -4"):
        recipe(manifests, toy_folder, tmp_path, "adapter.rank=-4")
    with pytest.raises(DataError, match=r"5 languages.*adapter.language=en"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, f"data.train=[{manifests['mixed_train']}]"))
    with pytest.raises(DataError, match=r"no clip in ta"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, "data.languages=[ta]"))
    with pytest.raises(RecipeError, match="needs a GPU"):
        train_adapter(recipe(manifests, toy_folder, tmp_path, "fit.precision=fp16"))
