"""Scores of a trained adapter, and its way into the store."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.adapter_recipe import AdapterRecipe
from training.clips import Clips, load_clips
from training.data.manifest import set_name
from training.evaluation.metrics import score
from training.manifests import load_manifests
from training.recipe import DataOptions
from training.validation import transcribe
from zoo.interface import BaseModel

if TYPE_CHECKING:
    from adapters.key import AdapterKey
    from adapters.record import Score
    from adapters.store import StoredAdapter

DECODING = "greedy"


@dataclass(frozen=True)
class ManifestScores:
    """What one test manifest gave."""

    metrics: dict[str, float]
    """`<manifest>_wer`, `<manifest>_cer` on raw text."""
    rows: list[dict[str, Any]]
    """For results.csv: one line per normaliser."""
    predictions: list[dict[str, Any]]
    scores: "list[Score]"


def score_manifest(base: BaseModel, path: str, options: DataOptions) -> ManifestScores:
    """Greedy transcripts of a test manifest under raw, Whisper's and the Indic normaliser."""
    from adapters.record import Score

    records, _ = load_manifests([path], replace(options, without_corpora=[]))
    clips = load_clips(records, options)
    texts = transcribe(base, clips, range(len(clips)), 64, 400.0)
    references = [record.text for record in clips.records]
    languages = [record.lang for record in clips.records]
    ids = [record.id for record in clips.records]
    scored = score(references, texts, languages, ids=ids, decoding={"search": DECODING})
    name = set_name(path)
    rows, scores, metrics = [], [], {}
    for normaliser, values in scored.by_normaliser.items():
        row: dict[str, Any] = {"test": name, "normaliser": normaliser, "clips": scored.utterances}
        for measure, rate in (("wer", values.wer), ("cer", values.cer)):
            row |= {
                measure: rate.value,
                f"{measure}_low": rate.low,
                f"{measure}_high": rate.high,
                f"{measure}_count": rate.reference,
            }
            if rate.value is not None:
                scores.append(Score(measure, rate.value, rate.reference, scored.test_set, normaliser, DECODING, name))
                if normaliser == "raw":
                    metrics[f"{name}_{measure}"] = rate.value
        rows.append(row)
    predictions = [
        {"test": name, "id": i, "language": lang, "reference": reference, "hypothesis": text}
        for i, lang, reference, text in zip(ids, languages, references, texts, strict=True)
    ]
    return ManifestScores(metrics, rows, predictions, scores)


def key_of(recipe: AdapterRecipe, base: BaseModel, language: str) -> "AdapterKey":
    """What the adapter is called in the store. Raises AdapterError for a name that cannot be used."""
    from adapters.key import AdapterKey

    return AdapterKey(recipe.base.publish_as or base.card.name, language, recipe.adapter.rank, recipe.adapter.variant)


def publish(
    recipe: AdapterRecipe, base: BaseModel, folder: Path, language: str, scores: "list[Score]", clips: Clips
) -> "StoredAdapter":
    """Put the adapter into the recipe's store with all that is known about it."""
    from adapters.peft_files import lowest_adapted_layer, read_weights
    from adapters.record import Record
    from adapters.store import Store

    key = key_of(recipe, base, language)
    weights = read_weights(folder)
    base_sha256 = getattr(base, "weights_sha256", "")
    record = Record(
        base=key.base,
        language=key.language,
        rank=key.rank,
        variant=key.variant,
        base_sha256=base_sha256,
        base_verified=bool(base_sha256),
        base_quantization=recipe.base.quantize,
        tokenizer_sha256=getattr(base, "tokenizer_sha256", ""),
        context=base.context,
        lowest_adapted_layer=lowest_adapted_layer(weights, base.sites, base.n_layers),
        parameters=weights.parameters,
        normaliser="raw",
        data={
            "train": [Path(path).name for path in recipe.data.train],
            "clips": len(clips),
            "hours": round(clips.hours, 3),
            "speakers": len({record.speaker for record in clips.records}),
            "languages": sorted({record.lang for record in clips.records}),
        },
        recipe=_portable(recipe),
        seed=recipe.run.seed,
        scores=tuple(scores),
        licence=recipe.publish.licence,
        author=recipe.publish.author,
        notes=recipe.publish.notes,
    )
    return Store(recipe.publish.store, create=True).publish(key, folder, record)


def _portable(recipe: AdapterRecipe) -> dict[str, Any]:
    """The options that made the adapter; paths of this machine by name only."""
    options = asdict(recipe)
    for part in ("train", "valid", "test"):
        options["data"][part] = [Path(path).name for path in options["data"][part]]
    options["run"] = {"seed": recipe.run.seed}
    options["publish"] = {}
    if recipe.adapter.start_from:
        options["adapter"]["start_from"] = Path(recipe.adapter.start_from).name
    return options
