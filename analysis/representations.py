"""What adapters change inside: CKA of hidden states on the same audio, layer by layer, and the tap in the plane.

CKA with the base says how far an adapter moves a layer, CKA between adapters whether they move it alike; both over
clips of all languages and over each language's alone (cka.py: linear, debiased). The tap's features, from which the
language is heard, are laid out in the plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.cache import Cache
from analysis.cka import FEWEST, all_cka
from analysis.deltas import relative_depth
from analysis.embedding import Layout, of_features
from analysis.inputs import adapter_labels, checksums, test_set_hash
from analysis.progress import steps
from analysis.result import Provenance, Row
from analysis.similarity import two_seeds_of
from analysis.states import hidden_states, layers_of
from zoo.errors import DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from training.clips import Clips
    from zoo.interface import BaseModel

ALL = "all"


@dataclass(frozen=True)
class Representations:
    """CKA of S systems: the base alone and each adapter."""

    provenance: Provenance
    labels: tuple[str, ...]
    """`base`, then the adapters."""
    layers: tuple[str, ...]
    cka: dict[str, np.ndarray]
    """Speech (`all`, `hi`, ...) -> `[L, S, S]`; NaN where there are too few vectors."""
    tap: Layout
    tap_rows: tuple[Row, ...]
    _rows: dict[str, list[Row]] = field(default_factory=dict, repr=False)

    def tables(self) -> dict[str, list[Row]]:
        return self._rows


def representations(
    base: "BaseModel",
    adapters: "Sequence[StoredAdapter]",
    clips: "Clips",
    *,
    vectors: int = 1000,
    cache: Cache | None = None,
    seed: int = 0,
    batch_clips: int = 16,
    manifests: dict[str, str] | None = None,
    progress: bool = False,
) -> Representations:
    """vectors: about so many frames (and tokens) of all clips together. seed: of the layout. manifests: file name ->
    sha256, for provenance.

    Raises DataError where the base can write none of the clips' languages or there are too few clips, AdapterError where
    an adapter is another base's.
    """
    from adapters.bank import Bank
    from router.fleet import check_base
    from training.evaluation.routing import writes

    for stored in adapters:
        check_base(stored, base)
    clips, left = _writable(clips, lambda language: writes(base, language), base.card.name)
    notes = [f"{left} clips speak languages that {base.card.name} cannot write: left out"] if left else []
    per_clip = max(1, round(vectors / len(clips)))
    cache, bank = cache or Cache(None), Bank(base)
    systems = [None, *adapters]
    held = [
        hidden_states(base, bank, stored, clips, per_clip, cache=cache, batch_clips=batch_clips)
        for stored in steps("hidden states", systems, show=progress)
    ]
    layers = layers_of(held[0])
    languages = np.array([record.lang for record in clips.records])
    spoken = sorted(set(languages))
    found = {
        speech: np.stack([_layer_cka(held, layer, languages, speech) for layer in layers])
        for speech in (ALL, *(spoken if len(spoken) > 1 else ()))
    }
    if any(np.isnan(values).any() for values in found.values()):
        notes.append(f"where fewer than {FEWEST} vectors were there, or they do not vary, CKA is not given")
    names = adapter_labels(adapters)
    labels = ("base", *(names[stored.name] for stored in adapters))
    tap = of_features(held[0]["tap"], seed)
    if tap.note:
        notes.append(tap.note)
    rows, silhouette, more = _tap_rows(clips, held[0]["tap"], tap)
    notes += more
    result = Representations(
        Provenance(
            "representations",
            base.card.name,
            base.weights_sha256,
            checksums(adapters),
            manifests or {},
            test_set_hash(clips),
            seeds={"layout": seed},
            counts={
                "adapters": len(adapters),
                "clips": len(clips),
                "frames": len(held[0]["clip"]),
                "tokens": len(held[0].get("token_clip", ())),
            },
            options={"tap": base.tap, "context": base.context, "layout": tap.method, "silhouette": silhouette},
            notes=tuple(notes),
        ),
        labels,
        tuple(layers),
        found,
        tap,
        tuple(rows),
    )
    result._rows.update(_tables(result, adapters, relative_depth([site.name for site in base.sites])))
    return result


def _writable(clips: "Clips", writes, name: str) -> "tuple[Clips, int]":
    """The clips in languages that the base has a token for: the decoder reads their texts."""
    from dataclasses import replace

    kept = [i for i, record in enumerate(clips.records) if writes(record.lang)]
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} of {len(clips)} clips speak a language that {name} can write",
            valid="2 clips or more",
            remedy="name another manifest: -m MANIFEST",
        )
    sources = [clips.sources[i] for i in kept] if clips.sources else []
    chosen = replace(
        clips,
        records=[clips.records[i] for i in kept],
        starts=clips.starts[kept],
        lengths=clips.lengths[kept],
        sources=sources,
    )
    return chosen, len(clips) - len(kept)


def _layer_cka(held: Sequence[dict[str, np.ndarray]], layer: str, languages: np.ndarray, speech: str) -> np.ndarray:
    """`[S, S]` at one layer over the clips of one language, or of all."""
    owner = held[0]["clip" if layer.startswith("encoder") else "token_clip"]
    chosen = np.ones(len(owner), dtype=bool) if speech == ALL else languages[owner] == speech
    if chosen.sum() < FEWEST:
        return np.full((len(held), len(held)), np.nan)
    return all_cka([states[layer][chosen] for states in held])


def _tap_rows(clips: "Clips", features: np.ndarray, tap: Layout) -> tuple[list[Row], float | None, list[str]]:
    """Where each clip lies in the plane; how well languages hold together (mean silhouette by cosine, -1 to 1)."""
    from sklearn.metrics import silhouette_score

    rows: list[Row] = [
        {
            "clip": record.id,
            "language": record.lang,
            "corpus": str(record.extra.get("source", "")),
            "x": float(x),
            "y": float(y),
        }
        for record, (x, y) in zip(clips.records, tap.points, strict=True)
    ]
    languages = [row["language"] for row in rows]
    silhouette = None
    if 1 < len(set(languages)) < len(languages):
        silhouette = float(silhouette_score(features, languages, metric="cosine"))
    notes = []
    corpora: dict[str, set[str]] = {}
    for row in rows:
        corpora.setdefault(row["corpus"], set()).add(row["language"])
    alone = [
        language
        for language in sorted(set(languages))
        if all(corpora[row["corpus"]] == {language} for row in rows if row["language"] == language)
    ]
    if len(alone) > 1:
        notes.append(
            f"no corpus has {', '.join(alone)} beside another language: where these lie apart at the tap, it may be the "
            "channel and not the language"
        )
    return rows, silhouette, notes


def _tables(
    found: Representations, adapters: "Sequence[StoredAdapter]", depth: dict[str, float]
) -> dict[str, list[Row]]:
    with_base: list[Row] = []
    pairs: list[Row] = []
    twins = set(two_seeds_of(adapters))
    for speech, values in found.cka.items():
        for n, layer in enumerate(found.layers):
            where = {"speech": speech, "layer": layer, "depth": depth.get(layer)}
            for i, label in enumerate(found.labels):
                if i:
                    own = speech == adapters[i - 1].key.language
                    with_base.append({"adapter": label, **where, "own_language": own, "cka": float(values[n, 0, i])})
                for j in range(i + 1, len(found.labels)):
                    if i and speech == ALL:
                        row = {"adapter": label, "other": found.labels[j], "layer": layer, "depth": where["depth"]}
                        pairs.append(row | {"two_seeds": (i - 1, j - 1) in twins, "cka": float(values[n, i, j])})
    tables = {"with_base": with_base, "pairs": pairs, "tap": list(found.tap_rows)}
    return {name: rows for name, rows in tables.items() if rows}
