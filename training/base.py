"""`boli train base`: a Whisper-architecture model from scratch.

Every clip is seen as it will be when serving: padded with zeros to the next point of the grid. All audio lies in
memory, on the device where it fits; log-mels, speed and augmentation are made there in batches, so the device waits
for nobody. Where `max_minutes` is given the learning rate follows the clock, so its decay always completes.
"""

import copy
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from training import base_model, checkpoints, tokenizer
from training.augment import Augmenter, AugmentOptions
from training.base_model import CtcHead, ModelOptions, Texts
from training.base_options import LearnOptions, TokenizerOptions
from training.batches import LogMel, Planned, PlanOptions, gather, plan_epoch
from training.clips import describe_skipped, load_clips
from training.job import carry_out
from training.manifests import load_manifests, ratios_left
from training.optimizer import BaseOptimizer
from training.precision import bf16_pays
from training.recipe import DataOptions, RunOptions, check, dump
from training.run import Run
from training.schedule import Progress
from training.schedule import rate as rate_at
from training.seeds import mixed_seed
from training.signals import Preempted, StopRequest
from zoo.card import Card
from zoo.ctc import read_head, write_head
from zoo.errors import DataError
from zoo.speech import SAMPLE_RATE
from zoo.threads import thread_count
from zoo.whisper_files import END


@dataclass(frozen=True)
class BaseRecipe:
    run: RunOptions = field(default_factory=RunOptions)
    data: DataOptions = field(default_factory=DataOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    tokenizer: TokenizerOptions = field(default_factory=TokenizerOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    learn: LearnOptions = field(default_factory=LearnOptions)
    grid_s: float = 1.0
    """Step of the grid that clips are padded to (context `dynamic`)."""
    name: str = "base"
    """Name of the model."""

    def __post_init__(self):
        # Threads would draw from one stream of random numbers in no fixed order: no run could be made again.
        check(self.learn.parallel == 1 or self.model.dropout == 0, "model.dropout", self.model.dropout,
              f"0 where learn.parallel={self.learn.parallel} is above 1")  # fmt: skip


def train_base(recipe: BaseRecipe, resume: Path | None = None) -> Path:
    """Train, validate, and leave the model in `<run>/model`. Returns the run's folder."""
    began = time.monotonic()
    run = Run.resume(resume, recipe.run) if resume else Run.start(recipe.run, dump(recipe), recipe.name)
    return carry_out(run, lambda stop: _Job(recipe, run, began).train(stop))


class _Job:
    """The state of one training."""

    def __init__(self, recipe: BaseRecipe, run: Run, began: float):
        self.recipe, self.run, self.began = recipe, run, began
        device = recipe.run.device
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.cuda = self.device.startswith("cuda")
        torch.manual_seed(recipe.run.seed)
        learn = recipe.learn
        self.bf16 = learn.precision == "bf16" or (learn.precision == "auto" and bf16_pays(self.device))
        self._load_data()
        self._build()
        self.step = self.epoch = self.position = 0
        self.gentle = False
        self.steps = 0 if recipe.learn.max_minutes else recipe.learn.steps
        self.progress = Progress(self.steps, recipe.learn.max_minutes, began)
        self._restore()
        self.planner = ThreadPoolExecutor(1)
        self.plans: dict[tuple[int, bool], Future[list[Planned]]] = {}
        self.seen_s = 0.0
        """Padded seconds of audio trained on, by this process."""
        self.mark = (time.monotonic(), 0.0, self.step)
        """Time, audio and step at the last log."""

    def _load_data(self) -> None:
        from training.validation import spread

        recipe, log = self.recipe, self.run.logger.info
        train_records, sources = load_manifests(recipe.data.train, recipe.data)
        self.plan = replace(recipe.plan, ratios=ratios_left(recipe.plan.ratios, recipe.data, sources))
        chosen = spread(recipe.data.max_train_clips, [r.lang for r in train_records], recipe.run.seed)
        train_records, sources = [train_records[i] for i in chosen], [sources[i] for i in chosen]
        valid_records = load_manifests(recipe.data.valid, recipe.data)[0] if recipe.data.valid else []
        valid_records = [valid_records[i] for i in spread(recipe.data.max_valid_clips, [r.lang for r in valid_records])]
        texts = tokenizer.sentences(train_records, recipe.tokenizer.text)
        self.languages = recipe.tokenizer.languages or sorted(texts)
        self.tokenizer = tokenizer.kept(
            self.run.folder / "tokenizer",
            lambda: (
                tokenizer.read(Path(recipe.learn.start_from))
                if recipe.learn.start_from
                else tokenizer.learn(texts, recipe.tokenizer.size, recipe.model.max_duration_s)
            ),
        )
        self.clips = load_clips(train_records, recipe.data, sources)
        self.valid = load_clips(valid_records, recipe.data) if valid_records else None
        log("%d clips, %.2f h, loaded in %.1f s", len(self.clips), self.clips.hours, time.monotonic() - self.began)
        for part in (self.clips, self.valid):
            if part and part.skipped:
                log(describe_skipped(part))
        # Batches are padded to the grid: the limit is its next point.
        grid = max(1, math.ceil(recipe.learn.gentle_s / recipe.grid_s - 1e-6)) * recipe.grid_s
        self.gentle_samples = round(grid * SAMPLE_RATE)
        shortest = float(self.clips.lengths.min()) / SAMPLE_RATE
        check(not recipe.learn.gentle or shortest <= recipe.learn.gentle_s, "learn.gentle_s", recipe.learn.gentle_s,
              f"at least {shortest:.1f}, the shortest clip's length")  # fmt: skip
        self.clips.to(self.device)
        records = self.clips.records
        self.texts = Texts(
            [r.text for r in records], [r.lang for r in records], self.tokenizer, recipe.model.max_tokens, self.device
        )
        if cut := self.texts.fits.count(False):
            log("%d texts were longer than %d tokens and were cut", cut, recipe.model.max_tokens)

    def _build(self) -> None:
        recipe = self.recipe
        self.model = base_model.build(recipe.model, self.tokenizer, self.languages)
        if recipe.learn.start_from:
            base_model.begin_from(self.model, Path(recipe.learn.start_from))
        self.model.to(self.device)
        if not self.cuda:
            self.model.set_attn_implementation("eager")  # on a CPU, flash attention's backward costs twice as much
        text_tokens = base_model.token_id(self.tokenizer, END)  # the special ones begin behind them
        self.ctc = CtcHead(recipe.model.width, text_tokens)
        if recipe.learn.start_from and (head := read_head(Path(recipe.learn.start_from), recipe.model.width)):
            self.ctc.out.load_state_dict(head.state_dict())
        self.ctc.to(self.device)
        self.extractor = base_model.extractor(recipe.model)
        self.log_mel = LogMel(self.extractor, self.device)
        self.augmenter = Augmenter(recipe.augment, recipe.model.hop_samples)
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        trained = [*self.weights, *self.ctc.parameters()]
        learn = recipe.learn
        self.optimizer = BaseOptimizer(
            learn.optimizer, self.model, self.ctc, learn.weight_decay, fused=self.cuda, parallel=learn.parallel
        )
        self.trained = trained
        self.average = copy.deepcopy(self.model).eval() if recipe.learn.ema else self.model
        self.average_weights = [p for p in self.average.parameters() if p.requires_grad]
        if recipe.learn.compile:
            torch._dynamo.config.suppress_errors = True  # a layer that cannot be compiled runs as it is
            for layer in [*self.model.model.encoder.layers, *self.model.model.decoder.layers]:
                layer.compile(dynamic=True)
        count = sum(p.numel() for p in self.model.parameters())
        self.run.logger.info("%.2f M parameters, %d tokens, on %s", count / 1e6, len(self.tokenizer), self.device)

    def train(self, stop: StopRequest) -> dict[str, Any]:
        parallel = self.recipe.learn.parallel
        with (
            thread_count() as threads,
            ThreadPoolExecutor(
                parallel, initializer=torch.set_num_threads, initargs=(max(1, threads // parallel),)
            ) as self.workers,
        ):
            return self._train(stop)

    def _train(self, stop: StopRequest) -> dict[str, Any]:
        learn = self.recipe.learn
        validated = saved = time.monotonic()
        while self.progress.share(self.step) < 1:
            if self.gentle and not self._gentle():  # everything from here on: an epoch of its own
                self.epoch, self.position = self.epoch + 1, 0
            self.gentle = self._gentle()
            plan = self._plan()
            while self.position < len(plan) and self.progress.share(self.step) < 1 and self.gentle == self._gentle():
                batches: list[Planned] = []
                while len(batches) < learn.parallel and self.position < len(plan):
                    batch = plan[self.position]
                    self.position += 1
                    if not self.gentle or batch.samples <= self.gentle_samples:
                        batches.append(batch)
                if not batches:
                    continue
                measured = self._step(batches)
                self.step += 1
                if self.step % self.recipe.run.log_every == 0:
                    self._log(measured)
                now = time.monotonic()
                if stop:
                    self._save()
                    raise Preempted(f"{stop.received} at step {self.step}")
                if learn.validate_minutes and self.valid and now - validated > 60 * learn.validate_minutes:
                    self._validate()
                    validated = time.monotonic()
                if now - saved > 60 * learn.checkpoint_minutes:
                    self._save()
                    saved = time.monotonic()
            if self.position >= len(plan):
                self.epoch, self.position = self.epoch + 1, 0
        self._save()
        return self._export()

    def _gentle(self) -> bool:
        return self.progress.share(self.step) < self.recipe.learn.gentle

    def _plan(self) -> list[Planned]:
        """This epoch's batches; the next epoch's are laid out meanwhile, so that the device need not wait."""
        plain = self.plan
        ratios = self.recipe.learn.gentle_ratios if self.gentle else {}
        options = replace(plain, ratios=dict(ratios)) if ratios else plain

        def lay_out(epoch: int) -> list[Planned]:
            recipe = self.recipe
            return plan_epoch(self.clips, options, recipe.grid_s, recipe.model.max_duration_s, recipe.run.seed, epoch)

        ready = self.plans.pop((self.epoch, self.gentle), None) or self.planner.submit(lay_out, self.epoch)
        self.plans = {(self.epoch + 1, self.gentle): self.planner.submit(lay_out, self.epoch + 1)}
        return ready.result()

    def _step(self, batches: list[Planned]) -> dict[str, torch.Tensor]:
        learn, done = self.recipe.learn, min(1.0, self.progress.share(self.step))
        rate = learn.learning_rate * rate_at(done, learn.warmup, final=learn.final_share)
        self.model.train()
        seeds = [mixed_seed(self.recipe.run.seed, self.step, *([k] if k else [])) for k in range(len(batches))]
        ctc = learn.ctc + (learn.ctc_final - learn.ctc) * done
        if len(batches) == 1:  # no thread of its own: as fast as the device and all of its threads are
            computed = [self._gradients(batches[0], seeds[0], ctc)]
        else:
            computed = list(self.workers.map(self._gradients, batches, seeds, [ctc] * len(batches)))
        for parameter, *gradients in zip(self.trained, *(each[0] for each in computed), strict=True):
            parameter.grad = gradients[0]
            for gradient in gradients[1:]:
                parameter.grad += gradient
            if len(gradients) > 1:
                parameter.grad /= len(gradients)
        measured = {key: torch.stack([each[1][key] for each in computed]).mean() for key in computed[0][1]}
        measured["learning_rate"] = torch.tensor(rate)
        measured["gradient_norm"] = norm = torch.nn.utils.clip_grad_norm_(self.trained, learn.clip_norm)
        # One bad batch must not cost the run: a gradient that is not finite is left out, on a GPU without waiting for it.
        if self.cuda:
            bad = ~torch.isfinite(norm)
            for p in self.trained:
                if p.grad is not None:
                    p.grad.masked_fill_(bad, 0.0)
        if self.cuda or bool(torch.isfinite(norm)):
            self.optimizer.step(rate, self.workers if len(batches) > 1 else None)
        self.optimizer.zero_grad()
        if learn.ema:
            with torch.no_grad():
                decay = min(learn.ema, (self.step + 1) / (self.step + 10))
                torch._foreach_lerp_(self.average_weights, self.weights, 1 - decay)
        self.seen_s += sum(len(batch.index) * batch.samples for batch in batches) / SAMPLE_RATE
        return measured

    def _gradients(
        self, batch: Planned, seed: int, ctc_weight: float
    ) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Gradients of `self.trained` on one batch, and the losses. Nothing shared is changed."""
        learn = self.recipe.learn
        generator = torch.Generator(self.device).manual_seed(seed)
        audio, lengths = gather(self.clips, batch, self.device)
        if self.gentle:
            mel = self.log_mel(audio)
        else:
            audio = self.augmenter.waves(audio, lengths, generator)
            mel = self.augmenter.mels(self.log_mel(audio), lengths, generator)
        index = torch.from_numpy(batch.index).to(self.device, non_blocking=True)
        width = max(self.texts.lengths[i] for i in batch.index)
        timed = torch.rand(len(index), generator=generator, device=self.device) < learn.timestamps
        inputs, labels, text, counts = self.texts.targets(index, width, timed, lengths)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.bf16):
            states = base_model.encode(self.model, mel)
            attention = base_model.attention_loss(self.model, states, inputs, labels, learn.label_smoothing)
            frames = torch.ceil(lengths / self.recipe.model.frame_samples).long().clamp(1, states.shape[1])
            ctc = self.ctc(states, frames, text, counts) if learn.ctc else attention.new_zeros(())
        loss = attention + ctc_weight * ctc
        gradients = torch.autograd.grad(loss, self.trained, allow_unused=True, materialize_grads=True)
        return gradients, {"loss": attention.detach(), "ctc_loss": ctc.detach()}

    def _log(self, measured: dict[str, torch.Tensor]) -> None:
        metrics = {key: float(value) for key, value in measured.items()}
        if not math.isfinite(metrics["loss"]):
            raise DataError(
                f"The loss is {metrics['loss']} at step {self.step}",
                remedy="lower learn.learning_rate, or resume with --resume RUN",
            )
        now = time.monotonic()
        mark, seen, step = self.mark
        metrics |= {
            "audio_s_per_s": (self.seen_s - seen) / (now - mark),
            "steps_per_s": (self.step - step) / (now - mark),
        }
        self.mark = (now, self.seen_s, self.step)
        if self.cuda:
            metrics["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.run.log(self.step, metrics, self.steps, self.progress.eta_s(self.step))

    def _validate(self) -> dict[str, float]:
        from training.validation import validate

        assert self.valid is not None
        start = time.monotonic()
        scored = validate(self.served(), self.valid)
        self.run.log(
            self.step,
            {f"valid_{key}": value for key, value in scored.metrics.items()},
            self.recipe.learn.steps,
            quiet=True,
        )
        self.run.table("predictions", scored.rows)
        languages = sorted({record.lang for record in self.valid.records})
        table = "  ".join(
            f"{each} {scored.metrics[f'wer_{each}']:.1%}/{scored.metrics[f'cer_{each}']:.1%}" for each in languages
        )
        log = self.run.logger.info
        log("valid step %d WER/CER: %s (%.1f s)", self.step, table, time.monotonic() - start)
        for row in {row["language"]: row for row in reversed(scored.rows)}.values():
            log("  %s | %s -> %s", row["language"], row["reference"], row["hypothesis"])
        return scored.metrics

    def served(self):
        """The averaged model behind the zoo's own interface."""
        from zoo.whisper import WhisperBase

        card = Card(self.recipe.name, "whisper", context="dynamic", grid_s=self.recipe.grid_s, tap=0)
        frozen = self.average if self.recipe.learn.ema else copy.deepcopy(self.model)
        return WhisperBase(frozen, self.tokenizer, self.extractor, card, self.run.folder / "model")

    def _save(self) -> None:
        def fill(folder: Path) -> None:
            parts = {"model": self.model, "average": self.average, "ctc": self.ctc, "optimizer": self.optimizer}
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {
                "step": self.step,
                "epoch": self.epoch,
                "position": self.position,
                "gentle": self.gentle,
                "spent": self.progress.elapsed_s(),
            }
            state["random"] = torch.get_rng_state()
            state["cuda_random"] = torch.cuda.get_rng_state_all() if self.cuda else []
            torch.save(state, folder / "state.pt")

        self.run.update("running", force=True)  # the curves up to the checkpoint must be there when it is
        checkpoints.write(self.run.checkpoints, self.step, fill)

    def _restore(self) -> None:
        folder = checkpoints.read(self.run.checkpoints)
        if folder is None:
            return
        state = torch.load(folder / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.ctc.load_state_dict(state["ctc"])
        if not self.optimizer.load_state_dict(state["optimizer"]):
            self.run.logger.info(
                "the checkpoint was made by another optimizer: %s begins anew", self.recipe.learn.optimizer
            )
        self.step, self.epoch, self.position = state["step"], state["epoch"], state["position"]
        self.gentle = state.get("gentle", False)
        self.progress.spent = state["spent"]
        torch.set_rng_state(state["random"].cpu())
        if self.cuda and state["cuda_random"]:
            torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda_random"]])
        self.run.rewind(self.step)
        self.run.logger.info("resumed at step %d after %.0f s", self.step, self.progress.spent)

    def _export(self) -> dict[str, Any]:
        folder = self.run.folder / "model"
        size = base_model.save(self.average, self.tokenizer, folder, self.recipe.model, self.recipe.data.max_duration_s)
        if self.recipe.learn.ctc:
            write_head(self.ctc.out, folder)
        checkpoints.sync(folder)
        final: dict[str, Any] = self._validate() if self.valid else {}
        parameters = sum(p.numel() for p in self.model.parameters())
        final |= {
            "parameters": parameters,
            "model_bytes": size,
            "steps": self.step,
            "epochs": self.epoch,
            "minutes": self.progress.elapsed_s() / 60,
        }
        self.run.table("results", [final])
        self.run.logger.info("model of %.1f MB in %s", size / 1e6, folder)
        return final
