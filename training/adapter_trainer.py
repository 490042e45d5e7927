"""transformers' Trainer with our batches, our checkpoints and our validation."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainingArguments
from transformers.trainer_callback import ExportableState, PrinterCallback, ProgressCallback

from training import checkpoints
from training.adapter_data import Stream
from training.adapter_recipe import AdapterRecipe
from training.clips import Clips
from training.clock_bar import ClockBar
from training.precision import bf16_pays
from training.run import Run
from training.schedule import Progress, rate
from training.signals import StopRequest
from training.validation import validate
from zoo.ctc import write_head
from zoo.errors import RecipeError
from zoo.interface import BaseModel, Features

if TYPE_CHECKING:
    from peft import PeftModel

BEST = "best.json"
WEIGHTS = "weights.safetensors"


class Learner(nn.Module):
    """The base model's own loss behind the call that Trainer makes."""

    def __init__(self, base: BaseModel, network: nn.Module):
        super().__init__()
        self.network = network
        self._base = [base]  # in a list: its module is registered once, through the network

    def forward(self, values: torch.Tensor, frames: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """values: features of one grid; frames `[B]` real encoder frames; labels `[B, L]`."""
        base = self._base[0]
        return {"loss": base.loss(Features(values, frames, base.context), labels)}


def arguments(recipe: AdapterRecipe, run: Run, device: str, steps: int, base: BaseModel) -> TrainingArguments:
    fit = recipe.fit
    precision = fit.precision
    if precision == "auto":
        precision = "bf16" if bf16_pays(device) else "fp32"
    if precision == "fp16" and not device.startswith("cuda"):
        raise RecipeError("fit.precision=fp16 needs a GPU", valid="auto, fp32, bf16")
    if fit.gradient_checkpointing:
        # transformers renamed it; families that are no transformers model keep the older name
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
        enable = next((getattr(base.module, name) for name in names if hasattr(base.module, name)), None)
        if enable is None:
            raise RecipeError(
                f"{base.card.name} has no gradient checkpointing", valid="fit.gradient_checkpointing=false"
            )
        enable({"use_reentrant": False})
    made = TrainingArguments(
        output_dir=str(run.checkpoints),
        per_device_train_batch_size=recipe.plan.batch_clips,
        max_steps=steps,
        learning_rate=fit.learning_rate,
        weight_decay=fit.weight_decay,
        max_grad_norm=fit.clip_norm,
        gradient_accumulation_steps=fit.accumulate,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        logging_steps=recipe.run.log_every,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if recipe.data.valid else "no",
        eval_steps=fit.evaluate_every,
        eval_on_start=bool(recipe.data.valid) and fit.evaluate_at_start,
        save_strategy="steps",
        save_steps=fit.evaluate_every,
        ignore_data_skip=True,  # our stream starts at the right batch by itself
        disable_tqdm=not (recipe.run.progress and run.active),
        report_to="none",
        label_names=["labels"],
        remove_unused_columns=False,
        seed=recipe.run.seed,
        use_cpu=device == "cpu",
        ddp_find_unused_parameters=recipe.adapter.progressive > 1,
        optim="adamw_torch_fused" if device.startswith("cuda") else "adamw_torch",
    )
    if made.n_gpu > 1:
        made._n_gpu = 1  # several GPUs are for torchrun; DataParallel would cut batches that are on one device already
    return made


class AdapterTrainer(Trainer):
    """Trainer over an endless stream; `checkpoints/latest` and `checkpoints/best` instead of its own folders."""

    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None
    control: TrainerControl

    def __init__(
        self, *, base: BaseModel, lora: "PeftModel | None", stream: Stream, valid: Clips | None, recipe: AdapterRecipe,
        run: Run, progress: Progress, stop: StopRequest, groups: list[list[nn.Parameter]], **options: Any,
    ):  # fmt: skip
        self.base, self.lora, self.stream, self.valid = base, lora, stream, valid
        self.recipe, self.run_folder, self.progress = recipe, run, progress
        self.best: list[float] = []
        """The lowest value of the deciding metric, and the other one, which decides between equals."""
        self.best_step = 0
        self.unlogged: tuple[float, int] | None = None
        """Sum of losses since the last line of the log, and the step of that line, where the job was resumed."""
        self.waited = 0
        """Validations since the best one."""
        super().__init__(
            callbacks=[_Watch(self, stop, groups)], eval_dataset=valid.records if valid else None, **options
        )
        self.remove_callback(PrinterCallback)
        if recipe.fit.max_minutes and not self.args.disable_tqdm:
            self.remove_callback(ProgressCallback)
            self.add_callback(ClockBar(progress))
        self.loss_is_scaled_for_ga = False

    # --- batches and schedule

    def get_train_dataloader(self) -> DataLoader:
        # with a generator of its own: an iterator draws a seed, and from the global one it would change the dropout
        # of a resumed job
        return DataLoader(self.stream, batch_size=None, generator=torch.Generator())

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        fit = self.recipe.fit

        def factor(step: int) -> float:
            return rate(min(1.0, self.progress.share(step)), fit.warmup, fit.decay)

        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # --- validation

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """Greedy transcripts of the validation clips, each padded as when serving."""
        if self.valid is None:
            return {}
        scored = validate(self.base, self.valid)
        first = self.recipe.fit.metric
        # early on every word is wrong and the characters alone say that something is learned
        value = [scored.metrics[first], scored.metrics["cer" if first == "wer" else "wer"]]
        self.is_better = not self.best or value < self.best
        if self.is_better:
            self.best, self.best_step, self.waited = value, self.state.global_step, 0
            self.run_folder.table("predictions", scored.rows)
        else:
            self.waited += 1
        metrics = {f"valid_{key}": number for key, number in scored.metrics.items()}
        step = self.state.global_step
        self.run_folder.log(step, metrics, self.steps_planned, self.progress.eta_s(step))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics, trial) -> bool:
        return self.is_better if self.valid is not None else False

    @property
    def steps_planned(self) -> int:
        return 0 if self.recipe.fit.max_minutes else self.state.max_steps

    # --- checkpoints

    def _save_checkpoint(self, model: nn.Module, trial=None) -> None:
        if not self.run_folder.active:
            return
        self.run_folder.update("running", force=True)  # the curves up to the checkpoint must be there when it is
        best = self.valid is None or (bool(self.best) and self.best_step == self.state.global_step)
        checkpoints.write(self.run_folder.checkpoints, self.state.global_step, self._fill, best)

    def _fill(self, folder: Path) -> None:
        self.save_weights(folder)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                self.state.stateful_callbacks[type(callback).__name__] = callback.state()
        self.state.save_to_json(str(folder / "trainer_state.json"))
        memory = {
            "best": self.best,
            "best_step": self.best_step,
            "waited": self.waited,
            "spent": self.progress.elapsed_s(),
            "loss_sum": self._tr_loss.item(),
            "logged_step": self._globalstep_last_logged,
        }
        (folder / BEST).write_text(json.dumps(memory), encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        folder = Path(resume_from_checkpoint)
        self.load_weights(folder)
        memory = json.loads((folder / BEST).read_text(encoding="utf-8"))
        self.best, self.best_step, self.waited = memory["best"], memory["best_step"], memory["waited"]
        self.progress.spent = memory["spent"]
        self.unlogged = memory["loss_sum"], memory["logged_step"]
        step = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        self.stream.start = step * self.recipe.fit.accumulate
        self.run_folder.rewind(step)

    def save_weights(self, folder: Path) -> None:
        """PEFT's own files, or all trained tensors as safetensors."""
        if self.lora is not None:
            self.lora.save_pretrained(folder, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
            return
        from safetensors.torch import save_file

        trained = {
            name: p.detach().cpu().contiguous() for name, p in self.base.module.named_parameters() if p.requires_grad
        }
        save_file(trained, folder / WEIGHTS)

    def load_weights(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if self.lora is not None:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.lora, load_file(folder / "adapter_model.safetensors"))
            return
        self.base.module.load_state_dict(load_file(folder / WEIGHTS), strict=False)

    @torch.no_grad()
    def round_weights(self, dtype: torch.dtype) -> None:
        """Trained weights to the nearest value that `dtype` has; they stay in their own type."""
        for parameter in self.lora.parameters() if self.lora is not None else ():
            if parameter.requires_grad:
                parameter.copy_(parameter.to(dtype))

    def export(self, folder: Path) -> None:
        """The adapter by itself, or the whole fine-tuned model as a folder that the zoo loads."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.lora is not None:
            self.save_weights(folder)
            _convert(folder / "adapter_model.safetensors", getattr(torch, self.recipe.publish.dtype))
            return
        if hasattr(self.base, "save"):  # a family that is no transformers model writes its own layout
            self.base.save(folder)
            return
        self.base.module.save_pretrained(folder)
        for part in ("tokenizer", "extractor"):
            if hasattr(self.base, part):
                getattr(self.base, part).save_pretrained(folder)
        if (head := getattr(self.base, "ctc", None)) is not None:
            write_head(head, folder)


def _convert(path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    if any(tensor.dtype != dtype for tensor in tensors.values()):
        save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path, {"format": "pt"})


class _Watch(TrainerCallback):
    """Metrics to the run folder, early stopping, the clock, signals, and progressive unfreezing."""

    def __init__(self, trainer: AdapterTrainer, stop: StopRequest, groups: list[list[nn.Parameter]]):
        self.trainer, self.stop, self.groups = trainer, stop, groups

    def on_train_begin(self, args, state, control, **kwargs):
        trainer = self.trainer
        if trainer.unlogged:
            trainer._tr_loss += trainer.unlogged[0]
            trainer._globalstep_last_logged = trainer.unlogged[1]

    def on_step_begin(self, args, state, control, **kwargs):
        free = math.floor(self.trainer.progress.share(state.global_step) * len(self.groups)) + 1
        for i, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(i < free)

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs = {key: value for key, value in (logs or {}).items() if key in ("loss", "grad_norm", "learning_rate")}
        if not logs:
            return
        if not math.isfinite(logs.get("loss", 0.0)):
            raise RecipeError(
                f"The loss is {logs['loss']} at step {state.global_step}",
                remedy="lower fit.learning_rate, or use fit.precision=fp32",
            )
        if torch.cuda.is_available():
            logs["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        trainer = self.trainer
        trainer.run_folder.log(
            state.global_step, logs, trainer.steps_planned, trainer.progress.eta_s(state.global_step)
        )

    def on_step_end(self, args, state, control, **kwargs):
        trainer = self.trainer
        out_of_time = trainer.recipe.fit.max_minutes and trainer.progress.share(state.global_step) >= 1
        if self._asked_to_stop() or out_of_time:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = bool(out_of_time) and trainer.valid is not None
        if state.global_step >= state.max_steps:
            control.should_save = True
            control.should_evaluate = trainer.valid is not None
        return control

    def _asked_to_stop(self) -> bool:
        """Whether any process was: they must leave after the same update."""
        if not torch.distributed.is_initialized():
            return bool(self.stop)
        asked = torch.tensor(float(bool(self.stop)), device=self.trainer.args.device)
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        if asked and not self.stop:
            self.stop.received = "a signal to another process"
        return bool(asked)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        patience = self.trainer.recipe.fit.patience
        if patience and self.trainer.waited >= patience:
            self.trainer.run_folder.logger.info("no better validation for %d times: stopping", patience)
            control.should_training_stop = True
        return control
