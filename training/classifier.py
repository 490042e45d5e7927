"""`boli train classifier`: which language is spoken, from the frozen base's tap.

Features are encoded once; five heads are trained on them in seconds each, on utterances and on frames, calibrated on
the validation set, and compared with what the long-term spectrum alone gives away.
"""

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from router.classifier import ClassifierConfig, TapClassifier
from training import classifier_scores as scores
from training.adapter import load_base
from training.augment import AugmentOptions
from training.classifier_data import TapFeatures, copies_of, encode_clips, encode_copies, usable
from training.classifier_recipe import ClassifierRecipe
from training.clips import Clips, describe_skipped, load_clips
from training.data.buckets import BatchOptions, LengthBuckets
from training.data.manifest import require_languages, set_name
from training.data.sampling import balanced
from training.frame_loss import frame_loss
from training.job import carry_out
from training.manifests import load_manifests
from training.own_detection import choose_pooling, judge_served
from training.recipe import dump
from training.run import Run
from training.schedule import rate
from training.seeds import mixed_seed
from training.signals import Preempted, StopRequest
from training.validation import spread
from zoo.errors import DataError
from zoo.interface import BaseModel

PLAIN = AugmentOptions()


def train_classifier(recipe: ClassifierRecipe, resume: Path | None = None) -> Path:
    """Train every head, keep the best. Returns the run's folder; `<run>/classifier` holds the best head."""
    began = time.monotonic()
    if resume:
        run = Run.resume(resume, recipe.run)
    else:
        run = Run.start(recipe.run, dump(recipe), f"classifier-{Path(recipe.base.name).name}")

    def work(stop: StopRequest) -> dict[str, Any]:
        final = _Job(recipe, run).train(stop)
        return {**final, "minutes": (time.monotonic() - began) / 60}

    return carry_out(run, work)


class _Job:
    """The data and the state of one training."""

    def __init__(self, recipe: ClassifierRecipe, run: Run):
        self.recipe, self.run, self.classes = recipe, run, recipe.head.classes
        device = recipe.run.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(recipe.run.seed)
        start = time.monotonic()
        self.base: BaseModel = load_base(recipe.base, device, run.logger)[0]
        train = self._clips(recipe.data.train, True, recipe.data.max_train_clips, recipe.run.seed)
        require_languages(train.records, recipe.head.languages, "The training data")
        valid = self._clips(recipe.data.valid, True, recipe.data.max_valid_clips)
        run.logger.info("%d training clips, %.2f h; %d for validation", len(train), train.hours, len(valid))
        self.corpora = scores.corpora(train)
        corpus = [scores.drawn_as(record) for record in train.records]
        copies = copies_of([f"{r.lang} {name}" for r, name in zip(train.records, corpus, strict=True)], recipe.head)
        self.train_features, of = encode_copies(self.base, train, copies, recipe.head, recipe.augment, recipe.run.seed)
        self.clips, self.corpus = len(train), [corpus[i] for i in of]
        synthetic = set(recipe.head.synthetic_corpora)
        self.recorded = np.array([not train.records[i].corpora <= synthetic for i in of])
        self.valid = valid
        self.valid_features = encode_clips(self.base, valid, self.classes, PLAIN, 0, recipe.head.centred)
        self.spectrum = scores.SpectrumBaseline(self.base, train, self.classes, recipe.run.seed)
        self.tests = {set_name(path): self._clips([path], False) for path in recipe.data.test}
        self.test_features = {
            name: encode_clips(self.base, clips, self.classes, PLAIN, 0, recipe.head.centred)
            for name, clips in self.tests.items()
        }
        run.logger.info(
            "encoded to layer %d of %s in %.1f s", self.base.tap, self.base.card.name, time.monotonic() - start
        )
        self.step = 0

    def _clips(self, paths: list[str], held_out: bool, most: int = 0, seed: int | None = None) -> Clips:
        """held_out: without the corpora to test across. most: clips of each language and corpus; seed: as `spread`."""
        options = replace(
            self.recipe.data, max_duration_s=min(self.recipe.data.max_duration_s, self.base.max_duration_s)
        )
        if not held_out:
            options = replace(options, without_corpora=[])
        records, sources = load_manifests(paths, options)
        keep = usable(records, self.classes)
        if not keep:
            found = ", ".join(sorted({record.corpus for record in records}))
            raise DataError(
                f"No clip of {', '.join(paths)} is in a class and in a corpus that is used",
                valid=f"classes {', '.join(self.classes)}; the clips are of {found}",
            )
        groups = [f"{records[i].lang} {scores.drawn_as(records[i])}" for i in keep]
        keep = [keep[i] for i in spread(most, groups, seed)]
        clips = load_clips([records[i] for i in keep], options, [sources[i] for i in keep])
        if clips.skipped:
            self.run.logger.info(describe_skipped(clips))
        return clips.to(str(next(self.base.module.parameters()).device))

    def train(self, stop: StopRequest) -> dict[str, Any]:
        valid: dict[str, scores.Judged] = {}
        rows: list[dict[str, Any]] = []
        for head in self.recipe.head.heads:
            folder = self.run.folder / "heads" / head
            if (folder / "classifier.json").is_file():  # finished before an interruption
                classifier = TapClassifier.load(folder, self.base)
            else:
                classifier = self._fit(head, stop)
                classifier.save(folder)
            valid[head] = scores.judge(classifier, self.valid_features)
            rows += self._test(head, classifier)
        best = max(valid, key=lambda head: valid[head].worth)
        target = self.run.folder / "classifier"
        shutil.copytree(self.run.folder / "heads" / best, target, dirs_exist_ok=True)
        if self.recipe.head.own_detection:
            rows += self._pool(target)
        if self.recipe.export:
            TapClassifier.load(target).save(Path(self.recipe.export))
        rows += self._test("spectrum", None)
        self.run.table("results", rows)
        final: dict[str, Any] = {
            "head": best,
            "valid_balanced_accuracy": valid[best].balanced,
            "valid_frame_accuracy": valid[best].frame_accuracy,
        }
        for name in self.tests:
            judged = scores.judge(TapClassifier.load(target, self.base), self.test_features[name])
            self._report(name, best, judged)
            final |= {f"{name}_accuracy": judged.accuracy, f"{name}_balanced_accuracy": judged.balanced}
        return final

    def _fit(self, name: str, stop: StopRequest) -> TapClassifier:
        """One head: balanced batches, loss over utterances and frames; the best epoch's weights, calibrated."""
        options, seed = self.recipe.head, self.recipe.run.seed
        data = self.train_features
        torch.manual_seed(mixed_seed(seed, options.heads.index(name)))
        classifier = TapClassifier.new(self._config(name)).to(data.states.device)
        head = classifier.head
        deviation = _standardise(head, data)
        for module in head.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = options.dropout
        optimizer = torch.optim.AdamW(head.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        names = [self.classes[i] for i in data.classes]
        best, kept = -1.0, {key: value.clone() for key, value in head.state_dict().items()}
        buckets = LengthBuckets(data.durations_s.tolist(), BatchOptions(batch_size=options.batch_clips, seed=seed))
        for epoch in range(options.epochs):
            head.train()
            buckets.set_epoch(epoch, indices=self._drawn(names, epoch))
            total = 0.0
            batches = buckets.batches()
            for number, members in enumerate(batches):
                for group in optimizer.param_groups:
                    group["lr"] = options.learning_rate * rate((epoch + number / len(batches)) / options.epochs, 0.05)
                index = np.asarray(members)
                states, lengths, labels, near, shares = data.batch(index)
                if options.noise:
                    states = states + options.noise * deviation * torch.randn_like(states)
                frames, utterance = head(states, lengths)
                real = labels >= 0
                counts = torch.where(near[real], options.seam_weight, 1.0)
                of_frames = frame_loss(frames[real], labels[real], counts)
                loss = F.cross_entropy(utterance, shares) + options.frame_weight * of_frames
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                total += float(loss.detach()) * len(index)
            head.eval()
            judged = scores.judge(classifier, self.valid_features)
            if judged.worth > best:
                best, kept = judged.worth, {key: value.clone() for key, value in head.state_dict().items()}
            self.step += 1
            planned = options.epochs * len(options.heads)
            measured = {
                "loss": total / len(data),
                "balanced_accuracy": judged.balanced,
                "frame_accuracy": judged.frame_accuracy,
            }
            self.run.log(self.step, {f"{name}_{key}": value for key, value in measured.items()}, planned)
            if stop:
                raise Preempted(f"{stop.received} while training head {name}")
        head.load_state_dict(kept)
        return self._calibrated(classifier)

    def _drawn(self, names: list[str], epoch: int) -> list[int]:
        """The copies of one epoch: classes equally often, recordings as often in each. names: class of every copy."""
        options, seed = self.recipe.head, self.recipe.run.seed
        everything = np.arange(len(names))
        parts = [(everything, len(names))]
        if options.recorded_share:
            recorded = round(options.recorded_share * len(names))
            parts = [(everything[self.recorded], recorded), (everything[~self.recorded], len(names) - recorded)]
        drawn: list[int] = []
        for positions, size in parts:
            own = [names[i] for i in positions]
            if missing := sorted(set(names) - set(own)):
                kind = "recordings" if positions is parts[0][0] else "synthesised clips"
                raise DataError(f"There are no {kind} of {', '.join(missing)}", valid="head.recorded_share=0, or both")
            corpora = [self.corpus[i] for i in positions]
            chosen = balanced(
                own, size=size, corpora=corpora, corpus_alpha=options.corpus_alpha, seed=seed, epoch=epoch
            )
            drawn += positions[chosen].tolist()
        return drawn

    def _config(self, name: str) -> ClassifierConfig:
        recipe = self.recipe
        provenance = {
            "train": [set_name(path) for path in recipe.data.train],
            "clips": self.clips,
            "corpora": {language: sorted(found) for language, found in self.corpora.items()},
            "seed": recipe.run.seed,
        }
        return ClassifierConfig(
            name, self.classes, recipe.base.publish_as or self.base.card.name, self.base.tap, self.base.hidden_size,
            recipe.head.width, base_sha256=getattr(self.base, "weights_sha256", ""), provenance=provenance,
            centred=recipe.head.centred,
        )  # fmt: skip

    def _calibrated(self, classifier: TapClassifier) -> TapClassifier:
        """Temperatures that make the validation set most probable (Guo et al., ICML 2017)."""
        frames, utterance, labels, shares = scores.logits(classifier, self.valid_features)
        config = replace(
            classifier.config,
            temperature=scores.temperature(utterance, shares.argmax(1)),
            frame_temperature=scores.temperature(frames, labels),
        )
        return TapClassifier(config, classifier.head)

    def _pool(self, folder: Path) -> list[dict[str, Any]]:
        """Weigh the base's own detection beside the head in `folder`, and keep the weights there. Rows of results.csv."""
        classifier = TapClassifier.load(folder, self.base)
        pooling = choose_pooling(self.base, classifier, self.valid, self.classes)
        self.run.logger.info("own detection beside the head: %s", pooling)
        classifier = TapClassifier(replace(classifier.config, pooling=asdict(pooling)), classifier.head, self.base)
        classifier.save(folder)
        rows = []
        for name, clips in self.tests.items():
            judged = judge_served(self.base, classifier, clips, self.classes)
            found = scores.slices(judged, clips, self.classes, self.corpora)
            rows += [{"head": f"{classifier.config.head} + own detection", "test": name, **row} for row in found]
            self.run.logger.info(
                "%s with it: accuracy %.1f %%, balanced %.1f %%", name, 100 * judged.accuracy, 100 * judged.balanced
            )
        return rows

    def _test(self, head: str, classifier: TapClassifier | None) -> list[dict[str, Any]]:
        """Rows of results.csv: every test set, whole, by duration, and within or across corpora."""
        rows = []
        for name, clips in self.tests.items():
            features = self.test_features[name]
            judged = scores.judge(classifier, features) if classifier else self.spectrum.judge(clips, features)
            rows += [
                {"head": head, "test": name, **row} for row in scores.slices(judged, clips, self.classes, self.corpora)
            ]
        return rows

    def _report(self, test: str, head: str, judged: scores.Judged) -> None:
        clips = self.tests[test]
        self.run.table(f"confusion_{test}", scores.confusion(judged, self.classes))
        self.run.table(
            f"predictions_{test}" if len(self.tests) > 1 else "predictions",
            scores.predictions(judged, clips, self.classes),
        )
        scores.draw_confusion(judged, self.classes, self.run.folder / f"confusion_{test}.png", f"{test}, {head}")
        self.run.logger.info(
            "%s: %s, accuracy %.1f %%, balanced %.1f %%", test, head, 100 * judged.accuracy, 100 * judged.balanced
        )


@torch.no_grad()
def _standardise(head: torch.nn.Module, data: TapFeatures, frames: int = 100_000) -> float:
    """Start the head's input norm so that each feature has mean 0 and deviation 1 over the training frames. Returns the
    deviation of all states.

    Encoder states share a large constant part (its norm can be twenty times what varies between clips), which a
    LayerNorm across features leaves in; a head would spend its training on removing it.
    """
    norm = next(module for module in head.modules() if isinstance(module, torch.nn.LayerNorm))
    sample = data.states[:: max(1, len(data.states) // frames)].float()
    plain = F.layer_norm(sample, norm.normalized_shape, eps=norm.eps)
    deviation = plain.std(0).clamp(min=1e-4)
    norm.weight.copy_(1 / deviation)
    norm.bias.copy_(-plain.mean(0) / deviation)
    return float(sample.std())
