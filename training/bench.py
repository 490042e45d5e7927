"""`boli bench training`: samples per second and memory, against a plain Seq2SeqTrainer + PEFT script on the same data.

The plain script is what tutorials show: WhisperFeatureExtractor to 30 s, batches in random order, one process. Both
train the same LoRA on the same clips for the same number of updates, each in a process of its own.
"""

import json
import multiprocessing
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@dataclass(frozen=True)
class Measured:
    """One way of training."""

    name: str
    samples_per_s: float
    audio_s_per_s: float
    """Seconds of speech, without padding, trained on per second."""
    memory_mib: float
    """Peak: the GPU's allocated memory where there is one, else the process's resident memory."""
    last_loss: float


@dataclass(frozen=True)
class Task:
    """What both are given."""

    base: str
    context: str
    manifest: str
    batch_clips: int
    updates: int
    warmup: int
    rank: int
    targets: tuple[str, ...]
    device: str
    max_duration_s: float


class _Clock:
    """A Trainer callback that times the updates after the warm-up."""

    def __init__(self, task: Task):
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                clock.note(state.global_step)

            def on_log(self, args, state, control, logs=None, **kwargs):
                clock.loss = (logs or {}).get("loss", clock.loss)

        self.task, self.callback, self.loss = task, Callback(), float("nan")
        self.marks: dict[int, float] = {}

    def note(self, step: int) -> None:
        import torch

        if step in (self.task.warmup, self.task.updates):
            if self.task.device.startswith("cuda"):
                torch.cuda.synchronize()
            self.marks[step] = time.perf_counter()

    def measured(self, name: str, mean_s: float) -> Measured:
        import torch

        task = self.task
        elapsed = self.marks[task.updates] - self.marks[task.warmup]
        rate = (task.updates - task.warmup) * task.batch_clips / elapsed
        if task.device.startswith("cuda"):
            memory = torch.cuda.max_memory_allocated() / 2**20
        else:  # ru_maxrss is in KiB on Linux, in bytes on macOS
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if sys.platform != "darwin" else 2**20)
        return Measured(name, rate, rate * mean_s, memory, self.loss)


def ours(task: Task) -> Measured:
    """`boli train adapter`'s own loop."""
    import tempfile

    import torch

    from training.adapter import load_base
    from training.adapter_data import Stream, fitting
    from training.adapter_recipe import AdapterOptions, AdapterRecipe, BaseOptions, FitOptions
    from training.adapter_sites import make_trainable, stages
    from training.adapter_trainer import AdapterTrainer, Learner, arguments
    from training.batches import PlanOptions
    from training.clips import load_clips
    from training.manifests import load_manifests
    from training.recipe import DataOptions, RunOptions, dump
    from training.run import Run
    from training.schedule import Progress
    from training.signals import StopRequest

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        recipe = AdapterRecipe(
            run=RunOptions(root=folder, progress=False, log_every=task.updates, device=task.device),
            data=DataOptions(train=[task.manifest], max_duration_s=task.max_duration_s),
            plan=PlanOptions(batch_clips=task.batch_clips),
            base=BaseOptions(name=task.base, context=task.context),
            adapter=AdapterOptions(rank=task.rank, targets=list(task.targets), dropout=0.0),
            fit=FitOptions(steps=task.updates, evaluate_every=task.updates + 1),
        )
        run = Run(Path(folder), recipe.run, dump(recipe), active=False)
        base, _ = load_base(recipe.base, task.device, run.logger)
        clips = fitting(base, load_clips(load_manifests(recipe.data.train, recipe.data)[0], recipe.data))
        network, lora = make_trainable(base, recipe.adapter, "")
        stream = Stream(base, clips.to(task.device), recipe, task.updates)
        with StopRequest() as stop:
            trainer = AdapterTrainer(
                model=Learner(base, network), args=arguments(recipe, run, task.device, task.updates, base), base=base,
                lora=lora, stream=stream, valid=None, recipe=recipe, run=run, stop=stop,
                progress=Progress(task.updates, 0.0, time.monotonic()), groups=stages(base, network, recipe.adapter),
            )  # fmt: skip
            clock = _Clock(task)
            trainer.add_callback(clock.callback)
            trainer.train()
        return clock.measured("boli train adapter", clips.hours * 3600 / len(clips))


def plain(task: Task) -> Measured:
    """The tutorial's script: padded to 30 s, random batches."""
    import tempfile

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    import zoo
    from training.adapter_data import fitting
    from training.adapter_recipe import AdapterOptions
    from training.adapter_sites import chosen_sites
    from training.clips import load_clips
    from training.manifests import load_manifests
    from training.recipe import DataOptions
    from zoo.whisper import WhisperBase

    torch.manual_seed(0)
    base = zoo.load(task.base, context="30s")
    assert isinstance(base, WhisperBase), "the peer is transformers' Whisper"
    sites = [site.name for site in chosen_sites(base, AdapterOptions(rank=task.rank, targets=list(task.targets)))]
    model = WhisperForConditionalGeneration.from_pretrained(base.folder, dtype=torch.float32)
    model.requires_grad_(False)
    model = get_peft_model(
        model, LoraConfig(r=task.rank, lora_alpha=2 * task.rank, lora_dropout=0.0, target_modules=sites)
    )
    extractor = WhisperFeatureExtractor.from_pretrained(base.folder)
    options = DataOptions(train=[task.manifest], max_duration_s=task.max_duration_s)
    clips = fitting(base, load_clips(load_manifests(options.train, options)[0], options))
    records = clips.records

    def collate(chosen: list) -> dict[str, Any]:
        audio = [record.load() for record in chosen]
        labels = base.labels([record.text for record in chosen], [record.lang for record in chosen])
        return {
            "input_features": extractor(audio, sampling_rate=16_000, return_tensors="pt")["input_features"],
            "labels": labels,
        }

    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            folder, per_device_train_batch_size=task.batch_clips, max_steps=task.updates, learning_rate=1e-3,
            logging_steps=task.updates, save_strategy="no", report_to="none", disable_tqdm=True, label_names=["labels"],
            remove_unused_columns=False, use_cpu=task.device == "cpu", dataloader_drop_last=True,
            bf16=task.device != "cpu" and torch.cuda.is_bf16_supported(),
        )  # fmt: skip
        clock = _Clock(task)
        trainer = Seq2SeqTrainer(
            model=model, args=arguments, train_dataset=records, data_collator=collate, callbacks=[clock.callback]
        )
        trainer.train()
    return clock.measured("Seq2SeqTrainer + PEFT, 30 s", clips.hours * 3600 / len(clips))


def _child(which: str, task: Task, results) -> None:
    results.put({"ours": ours, "plain": plain}[which](task))


def compare(task: Task) -> list[Measured]:
    """Both, one after the other, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    measured = []
    for which in ("plain", "ours"):
        results = context.Queue()
        process = context.Process(target=_child, args=(which, task, results))
        process.start()
        while process.is_alive() and results.empty():
            process.join(0.2)
        if results.empty():
            raise RuntimeError(f"{which} ended with code {process.exitcode}")
        measured.append(results.get())
        process.join()
    return measured


@app.command()
def main(
    manifest: Annotated[Path, typer.Option(help="Clips to train on.")],
    base: Annotated[str, typer.Option(help="Whisper-family base model.")] = "boli-embedded",
    context: Annotated[str, typer.Option(help="`dynamic` or `30s`: the context our loop trains in.")] = "dynamic",
    batch: Annotated[int, typer.Option(help="Clips per update.")] = 16,
    updates: Annotated[int, typer.Option(help="Updates, warm-up included.")] = 30,
    warmup: Annotated[int, typer.Option(help="Updates that are not timed.")] = 5,
    rank: Annotated[int, typer.Option(help="LoRA rank.")] = 16,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    max_duration_s: Annotated[float, typer.Option(help="Leave longer clips out.")] = 30.0,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
) -> None:
    """Samples per second and memory of `boli train adapter` and of a plain padded script, on the same data."""
    task = Task(
        base, context, str(manifest), batch, updates, warmup, rank, ("q_proj", "v_proj"), device, max_duration_s
    )
    measured = compare(task)
    typer.echo(f"{'':30} {'samples/s':>10} {'speech s/s':>11} {'peak MiB':>9} {'loss':>7}")
    for one in measured:
        numbers = f"{one.samples_per_s:10.2f} {one.audio_s_per_s:11.1f} {one.memory_mib:9.0f} {one.last_loss:7.3f}"
        typer.echo(f"{one.name:30} {numbers}")
    typer.echo(
        f"{measured[1].samples_per_s / measured[0].samples_per_s:.2f} times the samples per second, "
        f"{measured[1].memory_mib / measured[0].memory_mib:.2f} times the memory"
    )
    if json_out:
        json_out.write_text(json.dumps({"task": asdict(task), "measured": [asdict(one) for one in measured]}, indent=1))
