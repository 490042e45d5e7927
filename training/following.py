"""`boli train following`: which language is being spoken now, from what a causal decision hears of it and of all before.

The frames that are read hop by hop are encoded once (training/following_data.py); a small head with a memory is trained on
them in minutes. When a change is declared chooses `boli train switching`.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from router.classifier import TapClassifier
from router.following import Following, FollowingConfig
from router.windows import Causal
from training.adapter import load_base
from training.augment import Augmenter
from training.classifier_data import near_seam, usable
from training.classifier_scores import drawn_as, temperature
from training.clips import Clips, describe_skipped, load_clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.data.manifest import require_languages, set_name
from training.following_data import Streams, encode_streams
from training.following_joins import joined, switched
from training.following_recipe import FollowingRecipe
from training.frame_loss import frame_loss
from training.job import carry_out
from training.manifests import load_manifests
from training.recipe import dump
from training.run import Run
from training.schedule import rate
from training.seeds import mixed_seed
from training.signals import Preempted, StopRequest
from training.validation import spread
from zoo.errors import DataError

THRESHOLD, FLOOR = 1.5, -20.0  # of the odds, until `boli train switching` chooses
SMOOTHED = 0.02  # of each label, shared out over all classes
DEVIATION_FRAMES = 100_000  # by which a layer's deviation is known well enough
GRID_S = 2.0  # clips that differ by less go through the head together


def train_following(recipe: FollowingRecipe, resume: Path | None = None) -> Path:
    """Train the head. Returns the run's folder; `<run>/following` holds it.

    Raises ModelError where the classifier cannot be read, DataError where no clip changes its language.
    """
    began = time.monotonic()
    if resume:
        run = Run.resume(resume, recipe.run)
    else:
        run = Run.start(recipe.run, dump(recipe), f"following-{Path(recipe.base.name).name}")

    def work(stop: StopRequest) -> dict[str, Any]:
        final = _Job(recipe, run, stop).train()
        return {**final, "minutes": (time.monotonic() - began) / 60}

    return carry_out(run, work)


class _Job:
    """The data and the state of one training."""

    def __init__(self, recipe: FollowingRecipe, run: Run, stop: StopRequest):
        self.recipe, self.run, self.stop = recipe, run, stop
        device = recipe.run.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        folder = Path(recipe.classifier)  # where an older head may lie that fits no more
        tap = TapClassifier.load(folder, follows=False).config.tap
        self.base = load_base(replace(recipe.base, tap=tap), device, run.logger)[0]
        self.classifier = TapClassifier.load(folder, self.base, follows=False)
        self.classes = self.classifier.languages
        follow = recipe.follow
        self.causal = Causal(follow.window_s, follow.hop_s, follow.look_ahead_s, THRESHOLD, floor=FLOOR)
        train, valid = self._clips(recipe.data.train, recipe.data.max_train_clips), self._clips(recipe.data.valid, 0)
        require_languages(train.records, [tag for tag in self.classes if tag != "unknown"], "The training data")
        made = joined(train, self.classes, follow.joined, recipe.run.seed, follow.sped)
        coarse = joined(train, self.classes, follow.coarse, mixed_seed(recipe.run.seed, 1), follow.sped)
        heard = {"switched": switched(train), "joined": made, "coarse": coarse}
        heard = {name: part for name, part in heard.items() if len(part)}
        hops_s = {"coarse": follow.coarse_hop_s}
        self.trained_on = list(heard.values())
        if not self.trained_on:
            raise DataError(
                "No training clip changes its language",
                valid="clips with `segments`, or follow.joined above 0 and clips in several languages",
                remedy="boli data codeswitch MANIFEST --out DIR",
            )
        for name, part in heard.items():
            run.logger.info("%s: %d training clips, %.2f h", name, len(part), part.hours)
        self.valid = Streams.read(self._encoded("valid", valid, self.causal, False), self.base.device)
        self.valid_shares = self._shares([valid], self.valid)
        blocks = []
        for name, part in heard.items():
            causal = replace(self.causal, hop_s=hops_s.get(name, follow.hop_s))
            blocks += self._encoded(name, part, causal, True)
        self.data = Streams.read(blocks, self.base.device)
        self.shares = self._shares(self.trained_on, self.data)

    def _clips(self, paths: list[str], most: int) -> Clips:
        """most: clips of each manifest, language and corpus."""
        records, sources = load_manifests(paths, self.recipe.data)
        keep = usable(records, self.classes)
        if not keep:
            raise DataError(f"No clip of {', '.join(paths)} is in a class", valid=", ".join(self.classes))
        keep = [
            keep[k]
            for k in spread(
                most, [f"{sources[i]} {records[i].lang} {drawn_as(records[i])}" for i in keep], self.recipe.run.seed
            )
        ]
        clips = load_clips([records[i] for i in keep], self.recipe.data, [sources[i] for i in keep])
        if clips.skipped:
            self.run.logger.info(describe_skipped(clips))
        return clips

    def _encoded(self, name: str, clips: Clips, causal: Causal, augmented: bool) -> list[Path]:
        recipe, start = self.recipe, time.monotonic()

        def step(done: int) -> None:
            self.run.logger.info("%s: %d of %d clips encoded, %.0f s", name, done, len(clips), time.monotonic() - start)
            if self.stop:
                raise Preempted(f"{self.stop.received} while encoding {name}")

        return encode_streams(
            self.base, clips, self.classes, causal, recipe.follow.finished, self.run.folder / "streams" / name,
            Augmenter(recipe.augment) if augmented else None, recipe.follow.plain, recipe.run.seed, step,
        )  # fmt: skip

    def train(self) -> dict[str, Any]:
        options, seed = self.recipe.follow, self.recipe.run.seed
        torch.manual_seed(seed)
        following = Following.new(self._config())
        head = following.head.to(self.data.states.device)
        for module in head.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = options.dropout
        optimizer = torch.optim.AdamW(head.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        weights = self._weights()
        layers = 2 if options.finished else 1
        some = self.data.states[:: 1 + len(self.data.states) // DEVIATION_FRAMES]
        deviation = options.noise * some.float().unflatten(-1, (layers, -1)).std((0, 2))
        noise = deviation.repeat_interleave(self.base.hidden_size)
        buckets = LengthBuckets(
            (self.data.lengths / self.base.frame_rate).tolist(),
            BatchOptions(batch_size=options.batch_clips, grid_s=GRID_S, seed=seed),
        )
        valid_shares = self.valid_shares[self.valid.labels >= 0]
        best, kept = -1.0, {key: value.clone() for key, value in head.state_dict().items()}
        for epoch in range(options.epochs):
            head.train()
            buckets.set_epoch(epoch)
            batches, total = buckets.batches(), 0.0
            for number, members in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = options.learning_rate * rate((epoch + number / len(batches)) / options.epochs, 0.05)
                states = self.data.batch(members, self.data.states).float()
                logits, _ = head(states + noise * torch.randn_like(states))
                labels, share = (self.data.batch(members, of, -1) for of in (self.data.labels, self.shares))
                loss = frame_loss(logits[labels >= 0], labels[labels >= 0], share[labels >= 0], weights, SMOOTHED)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach()) / len(batches)
            logits, labels = self._validated(head)
            right = (logits.argmax(1) == labels).float()
            weighted = float((right * valid_shares).sum() / valid_shares.sum())
            if weighted > best:
                best, kept = weighted, {key: value.clone() for key, value in head.state_dict().items()}
            scores = {"loss": total, "frame_accuracy": float(right.mean()), "weighted_accuracy": weighted}
            self.run.log(epoch + 1, scores, options.epochs)
            if self.stop:
                raise Preempted(f"{self.stop.received} while training")
        head.load_state_dict(kept)
        logits, labels = self._validated(head)
        config = replace(following.config, temperature=temperature(logits, labels))
        following = Following(config, head)
        following.save(self.run.folder / "following")
        if self.recipe.export:
            following.save(Path(self.recipe.classifier))
        right = float((logits.argmax(1) == labels).float().mean())
        return {"valid_frame_accuracy": right, "valid_weighted_accuracy": best, "valid_frames": len(labels)}

    @torch.no_grad()
    def _validated(self, head: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `[frames, L]` and labels of the validation frames that are not quiet."""
        head.eval()
        rows, truth = [], []
        for first in range(0, len(self.valid), 16):
            members = range(first, min(first + 16, len(self.valid)))
            labels = self.valid.batch(members, self.valid.labels, -1)
            logits, _ = head(self.valid.batch(members, self.valid.states).float())
            rows.append(logits[labels >= 0])
            truth.append(labels[labels >= 0])
        return torch.cat(rows), torch.cat(truth)

    def _weights(self) -> torch.Tensor:
        """Of each class in the loss: by the root of how rare it is, at most 3."""
        spoken = self.data.labels[self.data.labels >= 0]
        counts = torch.bincount(spoken, minlength=len(self.classes)).float()
        return (counts.sum() / len(self.classes) / counts.clamp(min=1)).sqrt().clamp(max=3)

    def _shares(self, clips: Sequence[Clips], streams: Streams) -> torch.Tensor:
        """How much each frame counts, in the loss and in the choice of an epoch: more soon after a seam, in another language or
        not. Were it changes of language alone, a head would learn that every change of speaker is one."""
        options, rate = self.recipe.follow, self.base.frame_rate
        records = [record for own in clips for record in own.records]
        soon = [
            near_seam(record, frames, 0.0, rate, 0.0, options.soon_s)
            for record, frames in zip(records, streams.lengths.tolist(), strict=True)
        ]
        return torch.where(torch.from_numpy(np.concatenate(soon)).to(self.base.device), options.soon, 1.0)

    def _config(self) -> FollowingConfig:
        recipe = self.recipe
        provenance = {
            "train": [set_name(path) for path in recipe.data.train],
            "clips": sum(len(part) for part in self.trained_on),
            "hours": round(sum(part.hours for part in self.trained_on), 2),
            "seed": recipe.run.seed,
        }
        return FollowingConfig(
            self.classes, self.classifier.config.base, self.base.tap, self.base.hidden_size, recipe.follow.finished,
            recipe.follow.width, asdict(self.causal), base_sha256=getattr(self.base, "weights_sha256", ""),
            provenance=provenance,
        )  # fmt: skip
