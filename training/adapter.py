"""`boli train adapter`: LoRA, or full fine-tuning as the reference, on any base model of the zoo.

The loop is transformers' Trainer, the adapter is PEFT's; ours are the batches (length buckets, no padding beyond what
the model sees when serving), the schedule by clock, the atomic checkpoints and the scores.
"""

import os
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training import checkpoints
from training.adapter_data import Stream, fitting
from training.adapter_publish import key_of, publish, score_manifest
from training.adapter_recipe import AdapterRecipe, BaseOptions
from training.adapter_sites import load_start, make_trainable, stages
from training.adapter_trainer import AdapterTrainer, Learner, arguments
from training.clips import Clips, describe_skipped, load_clips
from training.feeder import grid_step
from training.job import carry_out
from training.manifests import load_manifests, ratios_left
from training.recipe import dump
from training.run import Run
from training.schedule import Progress
from training.signals import Preempted, StopRequest
from training.validation import spread
from zoo.errors import BoliError, DataError
from zoo.interface import BaseModel


def train_adapter(recipe: AdapterRecipe, resume: Path | None = None) -> Path:
    """Train, score, publish. Returns the run's folder."""
    began = time.monotonic()
    active = int(os.environ.get("RANK", "0")) == 0  # of several processes (torchrun) only the first writes
    if resume:
        run = Run.resume(resume, recipe.run, active)
    else:
        run = Run.start(recipe.run, dump(recipe), _name(recipe), active)
    return carry_out(run, lambda stop: _train(recipe, run, began, stop))


def load_base(options: BaseOptions, device: str, log) -> tuple[BaseModel, str]:
    """The frozen base and how it is held: quantised where asked for and possible; where it is not: a warning and the
    plain weights, held as ""."""
    import zoo

    kind: dict[str, Any] = {"context": options.context or None, "tap": None if options.tap < 0 else options.tap}
    kind |= {"device": device, "dtype": options.dtype}
    if options.quantize:
        try:
            return zoo.load(options.name, quantize=options.quantize, **kind), options.quantize
        except (BoliError, ImportError, RuntimeError, ValueError, NotImplementedError) as error:
            log.warning(
                "%s cannot be loaded as %s (%s): training on the plain weights", options.name, options.quantize, error
            )
            warnings.warn(f"{options.name} cannot be loaded as {options.quantize}: standard training", stacklevel=2)
    return zoo.load(options.name, **kind), ""


def _train(recipe: AdapterRecipe, run: Run, began: float, stop: StopRequest) -> dict[str, Any]:
    log = run.logger
    device = recipe.run.device
    if device == "auto":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.run.seed)
    base, quantized = load_base(recipe.base, device, log)
    recipe = replace(recipe, base=replace(recipe.base, quantize=quantized))
    if device == "cpu" and hasattr(base.module, "set_attn_implementation"):
        base.module.set_attn_implementation("eager")  # on a CPU, flash attention's backward costs twice as much
    clips, valid, ratios = _clips(recipe, base, log)
    recipe = replace(recipe, plan=replace(recipe.plan, ratios=ratios))
    language = _language(recipe, clips)
    if recipe.publish.store and recipe.adapter.method == "lora":
        key_of(recipe, base, language)  # a name that cannot be used is said before the training, not after it
    network, lora = make_trainable(base, recipe.adapter, recipe.base.quantize)
    if recipe.adapter.start_from:
        load_start(lora, Path(recipe.adapter.start_from))
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    total = sum(p.numel() for p in base.module.parameters())
    log.info(
        "%s: %s of %.2f M parameters trained, %s, on %s",
        recipe.adapter.method,
        f"{trained:,}",
        total / 1e6,
        language,
        device,
    )

    clips.to(device)
    fit = recipe.fit
    stream = Stream(base, clips, recipe, 1, int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    steps = fit.steps
    if fit.epochs:
        steps = max(1, round(fit.epochs * len(stream.epoch(0)) / fit.accumulate))
    if fit.max_minutes:
        steps = 10_000_000  # the clock decides
    stream.length = steps * fit.accumulate
    progress = Progress(steps, fit.max_minutes, began)
    trainer = AdapterTrainer(
        model=Learner(base, network),
        args=arguments(recipe, run, device, steps, base),
        base=base, lora=lora, stream=stream, valid=valid, recipe=recipe, run=run, progress=progress, stop=stop,
        groups=stages(base, network, recipe.adapter),
    )  # fmt: skip
    latest = checkpoints.read(run.checkpoints)
    if latest is not None:
        log.info("resuming from %s", latest.name)
    trainer.train(resume_from_checkpoint=str(latest) if latest else None)
    if stop:
        raise Preempted(f"{stop.received} at step {trainer.state.global_step}")
    return _finish(recipe, run, trainer, base, language, trained)


def _finish(recipe: AdapterRecipe, run: Run, trainer: AdapterTrainer, base: BaseModel, language: str, trained: int):
    """Best weights back, test scores, the adapter's folder, the store."""
    if not run.active:
        return {}
    best = checkpoints.read(run.checkpoints, "best") or checkpoints.read(run.checkpoints)
    assert best is not None, "the trainer saves at its last step"
    trainer.load_weights(best)
    if trainer.lora is not None:
        trainer.round_weights(getattr(torch, recipe.publish.dtype))
    final: dict[str, Any] = {
        "parameters": trained, "steps": trainer.state.global_step, "best_step": trainer.best_step,
        "minutes": trainer.progress.elapsed_s() / 60,
    }  # fmt: skip
    if trainer.best:
        final[f"best_valid_{recipe.fit.metric}"] = trainer.best[0]
    if torch.cuda.is_available():
        final["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    rows, predictions, scores = [], [], []
    for path in recipe.data.test:
        one = score_manifest(base, path, recipe.data)
        rows += one.rows
        predictions += one.predictions
        scores += one.scores
        final |= {f"test_{key}": value for key, value in one.metrics.items()}
    if predictions:
        run.table("predictions", predictions)
    run.table("results", [{**row, **final} for row in rows] or [final])
    folder = run.folder / ("adapter" if trainer.lora is not None else "model")
    trainer.export(folder)
    checkpoints.sync(folder)
    if trainer.lora is not None and recipe.publish.store:
        stored = publish(recipe, base, folder, language, scores, trainer.stream.clips)
        run.logger.info("published %s as %s", stored.name, stored.folder)
    return final


def _clips(recipe: AdapterRecipe, base: BaseModel, log) -> tuple[Clips, Clips | None, dict[str, float]]:
    """To train on, to validate on, and the ratios of the manifests that are left."""
    options = replace(recipe.data, max_duration_s=min(recipe.data.max_duration_s, base.max_duration_s))
    records, sources = load_manifests(options.train, options)
    chosen = spread(options.max_train_clips, [record.lang for record in records], recipe.run.seed)
    clips = fitting(base, load_clips([records[i] for i in chosen], options, [sources[i] for i in chosen]))
    valid = None
    if options.valid:
        held, _ = load_manifests(options.valid, options)
        held = [held[i] for i in spread(options.max_valid_clips, [record.lang for record in held])]
        valid = load_clips(held, options)
    log.info("%d clips, %.2f h; grid %g s", len(clips), clips.hours, grid_step(base))
    for part in (clips, valid):
        if part and part.skipped:
            log.info(describe_skipped(part))
    return clips, valid, ratios_left(recipe.plan.ratios, options, sources)


def _language(recipe: AdapterRecipe, clips: Clips) -> str:
    if recipe.adapter.language:
        return recipe.adapter.language
    languages = sorted({record.lang for record in clips.records})
    if len(languages) > 1:
        raise DataError(
            f"The training data has {len(languages)} languages ({', '.join(languages)})",
            valid="one language, or the one that the adapter is for",
            remedy=f"adapter.language={languages[0]}, or data.languages=[{languages[0]}]",
        )
    return languages[0]


def _name(recipe: AdapterRecipe) -> str:
    language = recipe.adapter.language or "_".join(recipe.data.languages) or "adapter"
    kind = f"r{recipe.adapter.rank}" if recipe.adapter.method == "lora" else recipe.adapter.method
    return f"{language}-{kind}-{recipe.adapter.variant}"
