"""What can be read off each layer by a straight line, with an adapter and without: phonetic features and words.

A probe is scikit-learn's ridge classifier (least squares on one column of ±1 a class, the largest wins) on standardised
states (probe_data.py), trained on some sentences and tested on others (3 folds by sentence): solved in closed form, so
that a probe has one setting and no stopping rule. What it reaches is held against a *control task* (Hewitt and Liang 2019): every
type (phone, word) is given a random label, drawn with the frequencies of the true ones, the same wherever the type
occurs. A probe can only do that by learning types by heart, so

    selectivity = accuracy - accuracy on the control task,  mean of several drawings,

tells what the layer makes easy from what a probe of this size could memorise. Where the label is the type itself (which
phone, which word) there is nothing coarser to memorise: there the control's labels are shuffled over samples, and the
control is what frequencies alone give.

Voicing, manner and place are probed on consonants. Intervals are percentile bootstrap over clips.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.cache import digest
from analysis.hearing import Listener
from analysis.inputs import checksums, manifest_checksums
from analysis.probe_data import PHONE, WORD, States, Task, states, tasks
from analysis.progress import steps
from analysis.result import Provenance, Row
from analysis.vocabulary import overlaps
from zoo.errors import DataError

if TYPE_CHECKING:
    from analysis.spoken import Spoken
    from training.clips import Clips

KIND = "probes-2"
FOLDS = 3


@dataclass(frozen=True)
class ProbeOptions:
    """How to probe. Each field's text serves as the help of the option of the same name."""

    sentences: int = 60
    """Sentences a language, spread over the manifest's different ones."""
    voices: int = 2
    """Synthetic voices that speak each sentence."""
    controls: int = 2
    """Drawings of the control task."""
    ridge: float = 100.0
    """Penalty on the squared weights, of standardised states: larger is a simpler probe."""
    bootstrap: int = 500
    """Resamples for the 95 % intervals; 0: none."""
    seed: int = 0
    """Seed of voices, folds, control labels and resamples."""


@dataclass(frozen=True)
class Probe:
    """One probe: one layer, one task, one language, with one adapter or none."""

    language: str
    system: str
    """`base`, or `adapter`: the language's own."""
    adapter: str
    layer: int
    """Encoder layers applied: 0 is the stem's output."""
    depth: float
    """layer / number of layers."""
    task: str
    classes: int
    samples: int
    clips: int
    accuracy: float
    low: float | None
    high: float | None
    control: float
    selectivity: float
    majority: float
    """What always naming the most frequent class gives."""


@dataclass(frozen=True)
class ProbesResult:
    provenance: Provenance
    probes: tuple[Probe, ...]
    changes: tuple[Row, ...]
    """Adapter against base, layer by layer: difference of accuracy (paired interval over clips) and of selectivity."""
    overlap: tuple[Row, ...]
    """How much of their words, tokens, letters and phones two languages share."""

    def tables(self) -> dict[str, list[Row]]:
        return {
            "accuracy": [asdict(probe) for probe in self.probes],
            "changes": list(self.changes),
            "overlap": list(self.overlap),
        }


def probe(
    listener: Listener,
    clips: "Clips",
    options: ProbeOptions = ProbeOptions(),
    *,
    manifests: Sequence[Any] = (),
    show: bool = False,
) -> ProbesResult:
    """Probe the base on every language of the clips' texts, and each adapter on its own.

    Raises DataError where espeak-ng is missing or speaks none of the languages, or where no task has enough samples.
    """
    from analysis.spoken import speak_all, speaker
    from training.validation import spread

    notes = ["Probes are trained on speech that espeak-ng makes of the manifest's texts: its phones have exact times."]
    languages = sorted({record.lang for record in clips.records})
    spoken_of: dict[str, list[Spoken]] = {}
    for language in languages:
        if not speaker().speaks(language):
            notes.append(f"espeak-ng has no voice for {language}: not probed.")
            continue
        texts = list(dict.fromkeys(r.text for r in clips.records if r.lang == language and r.text.strip()))
        chosen = [texts[i] for i in spread(options.sentences, [language] * len(texts))]
        made = speak_all([(text, language) for text in chosen], voices=options.voices, seed=options.seed)
        spoken_of[language] = [s for s in made if len(s.audio) / 16_000 <= listener.base.max_duration_s]
    adapters = {stored.key.language: stored for stored in listener.adapters}
    jobs = [
        (language, system)
        for language in spoken_of
        for system in ("base", "adapter")
        if system == "base" or language in adapters
    ]
    probes: list[Probe] = []
    changes: list[Row] = []
    rights: dict[tuple, np.ndarray] = {}
    for language, system in steps("probes", jobs, show=show):
        stored = adapters[language] if system == "adapter" else None
        found, missing = tasks(spoken_of[language])
        if system == "base" and missing:
            notes.append(f"{language}: not probed for want of samples: {'; '.join(missing)}.")
        if not found:
            continue
        item = listener.cache.item(
            KIND,
            {
                "base": listener.base.weights_sha256, "context": listener.base.context,
                "quantization": listener.base.quantization, "adapter": stored.record.weights_sha256 if stored else "",
                "config": stored.record.config_sha256 if stored else "", "speech": digest_of(spoken_of[language]), "espeak-ng": speaker().version,
                "options": asdict(options),
            },
            partial(_measure, listener, spoken_of[language], stored, found, options),
        )  # fmt: skip
        for task in found:
            for layer in range(listener.base.n_layers + 1):
                right = item[f"{task.name}|{layer}"]
                control = float(item["controls"][f"{task.name}|{layer}"])
                rights[language, system, task.name, layer] = right
                probes.append(_row(listener, language, system, stored, task, layer, right, control, options))
                if system == "adapter":
                    before = rights[language, "base", task.name, layer]
                    changes.append(_change(probes, before, right, task, options))
    if not probes:
        raise DataError(
            f"Nothing to probe: {' '.join(notes[1:]) or 'no language has an adapter and texts'}",
            valid="more sentences in the manifest, in languages of `espeak-ng --voices`",
        )
    used = [adapters[language] for language in spoken_of if language in adapters]
    provenance = Provenance(
        "probes",
        base=listener.base.card.name,
        base_sha256=listener.base.weights_sha256,
        adapters=checksums(used),
        manifests=manifest_checksums(manifests),
        test_set=digest({language: digest_of(made) for language, made in spoken_of.items()}),
        seeds={"all": options.seed},
        counts={
            "languages": len(spoken_of),
            "clips": sum(map(len, spoken_of.values())),
            "phones": sum(len(s.phones) for made in spoken_of.values() for s in made),
            "words": sum(len(s.words) for made in spoken_of.values() for s in made),
            "probes": len(probes),
        },
        options=asdict(options) | {"espeak-ng": speaker().version, "folds": FOLDS},
        notes=tuple(notes),
    )
    return ProbesResult(provenance, tuple(probes), tuple(changes), tuple(overlaps(clips, listener.base)))


def digest_of(spoken: "Sequence[Spoken]") -> str:
    """Checksum of what was said by which voices, for the cache; not of the samples, which espeak-ng does not repeat to
    the bit within one process. The voices' pitch and pace follow from the seed, which is among the options."""
    return digest({"said": [[s.language, s.text, s.speaker, [p.label for p in s.phones]] for s in spoken]})


def _measure(listener: Listener, spoken: "Sequence[Spoken]", stored: Any, found: Sequence[Task], options: ProbeOptions):
    return _probe_all(states(listener, spoken, stored), found, options)


def _probe_all(made: States, found: Sequence[Task], options: ProbeOptions) -> dict[str, Any]:
    """`task|layer` -> bool `[n]`, which samples were told right; `controls` -> accuracy of the control."""
    item: dict[str, Any] = {}
    controls: dict[str, float] = {}
    for task in found:
        for layer, values in enumerate(made.words if task.of_words else made.phones):
            right, control = run_probe(values[task.index], task, options)
            item[f"{task.name}|{layer}"] = right
            controls[f"{task.name}|{layer}"] = control
    return item | {"controls": controls}


def run_probe(values: np.ndarray, task: Task, options: ProbeOptions) -> tuple[np.ndarray, float]:
    """values `[n, d]` -> (bool `[n]`: told right when its sentence was held out; mean accuracy on the control task)."""
    random = np.random.default_rng([options.seed, 7])
    labels = [task.labels, *(control_labels(task, random) for _ in range(options.controls))]
    said = held_out(values, labels, task.texts, options)
    accuracies = [float((found == wanted).mean()) for found, wanted in zip(said[1:], labels[1:], strict=True)]
    return said[0] == task.labels, float(np.mean(accuracies)) if accuracies else float("nan")


def control_labels(task: Task, random: np.random.Generator) -> np.ndarray:
    """A random label per type, with the frequencies of the true labels; labels shuffled over samples where the label is
    the type."""
    if task.name in (PHONE, WORD):
        return random.permutation(task.labels)
    counts = np.bincount(task.labels, minlength=len(task.classes))
    drawn = random.choice(len(counts), size=int(task.types.max()) + 1, p=counts / counts.sum())
    return drawn[task.types]


def held_out(
    values: np.ndarray, labels: Sequence[np.ndarray], groups: np.ndarray, options: ProbeOptions
) -> list[np.ndarray]:
    """What probes trained on the other groups say of each sample: int64 `[n]` for each of `labels` `[n]`.

    All labels are solved for at once: the states are the same.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.preprocessing import StandardScaler

    kinds = [np.unique(each) for each in labels]
    columns = [np.where(each[:, None] == kind, 1.0, -1.0) for each, kind in zip(labels, kinds, strict=True)]
    targets = np.concatenate(columns, axis=1)
    said = [np.empty(len(values), dtype=np.int64) for _ in labels]
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=options.seed)
    for train, test in folds.split(values, groups=groups):
        scale = StandardScaler().fit(values[train])
        model = Ridge(alpha=options.ridge, solver="cholesky").fit(scale.transform(values[train]), targets[train])
        scores = model.predict(scale.transform(values[test])).reshape(len(test), -1)
        first = 0
        for found, kind in zip(said, kinds, strict=True):
            found[test] = kind[scores[:, first : first + len(kind)].argmax(axis=1)]
            first += len(kind)
    return said


def _row(listener: Listener, language, system, stored, task: Task, layer, right, control, options) -> Probe:
    low, high = _interval(right.astype(float), task.utterances, options)
    accuracy = float(right.mean())
    majority = float(np.bincount(task.labels).max() / len(task.labels))
    return Probe(
        language, system, stored.name if stored else "", layer, layer / listener.base.n_layers, task.name,
        len(task.classes), len(task.labels), len(np.unique(task.utterances)), accuracy, low, high, control,
        accuracy - control, majority,
    )  # fmt: skip


def _change(probes: Sequence[Probe], before: np.ndarray, right: np.ndarray, task: Task, options) -> Row:
    ours = probes[-1]
    base = next(
        p for p in probes if (p.language, p.system, p.task, p.layer) == (ours.language, "base", ours.task, ours.layer)
    )
    low, high = _interval(right.astype(float) - before.astype(float), task.utterances, options)
    return {
        "language": ours.language, "adapter": ours.adapter, "task": ours.task, "layer": ours.layer, "depth": ours.depth,
        "base": base.accuracy, "with_adapter": ours.accuracy, "change": ours.accuracy - base.accuracy, "low": low,
        "high": high, "selectivity_change": ours.selectivity - base.selectivity,
    }  # fmt: skip


def _interval(values: np.ndarray, utterances: np.ndarray, options: ProbeOptions) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap of the mean over clips."""
    from training.evaluation.metrics import resampled

    if not options.bootstrap:
        return None, None
    _, clip = np.unique(utterances, return_inverse=True)
    sums = np.stack([np.bincount(clip, weights=values), np.bincount(clip).astype(float)], axis=1)
    drawn = resampled(sums, options.bootstrap, options.seed)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return float(low), float(high)
