"""What an analysis starts from: a store and its adapters, a base, clips. The same choices in every command."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import AdapterError, DataError

if TYPE_CHECKING:
    from adapters.store import Store, StoredAdapter
    from training.clips import Clips
    from zoo.interface import BaseModel


@dataclass(frozen=True)
class Choice:
    """Which adapters of a store to look at."""

    store: Path | None = None
    """Folder of adapters; the embedded one if none."""
    base: str | None = None
    """Base model, where the store has adapters of several."""
    languages: tuple[str, ...] = ()
    """Only these languages; empty: all."""
    rank: int | None = None
    """Only this rank."""
    variant: str | None = None
    """Only this variant."""


def open_store(folder: str | Path | None = None) -> "Store":
    """The store, the embedded one where none is named. Raises StoreError."""
    from adapters.store import Store
    from router.loading import EMBEDDED_STORE

    return Store(folder if folder is not None else EMBEDDED_STORE)


def choose(store: "Store", choice: Choice) -> "list[StoredAdapter]":
    """The newest version of each adapter that is meant, by language, rank and variant; all of one base.

    Raises AdapterError where there is none, or where they belong to several bases or to other weights of one: what an
    adapter adds has a meaning only beside the weights it was trained on.
    """
    from training.evaluation.adapters import newest

    found = newest(store.find(base=choice.base, rank=choice.rank, variant=choice.variant))
    if choice.languages:
        found = [stored for stored in found if stored.key.language in choice.languages]
    if not found:
        there = sorted({str(stored.key) for stored in store.all()})
        raise AdapterError(
            f"The store {store.folder} has no adapter that is meant",
            valid=", ".join(there[:8]) or "the store is empty",
            remedy=f"boli adapters list --store {store.folder}",
        )
    found.sort(key=lambda stored: (stored.key.language, stored.key.rank, stored.key.variant))
    one_base(found)
    return found


def one_base(adapters: "Sequence[StoredAdapter]") -> tuple[str, str]:
    """Name and sha256 of the base that all adapters belong to; the sha256 is empty where no record names one.

    Raises AdapterError where they belong to several bases, or to different weights or quantisations of one.
    """
    bases = sorted({stored.key.base for stored in adapters})
    if len(bases) > 1:
        raise AdapterError(
            f"Adapters of {len(bases)} base models cannot be compared: {', '.join(bases)}",
            valid="adapters of one base",
            remedy=f"--base {bases[0]}",
        )
    for what, value_of in (
        ("weights", lambda record: record.base_sha256),
        ("quantisations", lambda record: record.base_quantization if record.base_sha256 else ""),
    ):
        known: dict[str, str] = {}
        for stored in adapters:
            if stored.record.base_sha256:
                known.setdefault(value_of(stored.record), stored.name)
        if len(known) > 1:
            (first, a), (second, b) = sorted(known.items())[:2]
            raise AdapterError(
                f"{a} and {b} were trained on different {what} of {bases[0]} "
                f"({first[:12] or 'none'}, {second[:12] or 'none'})",
                valid="adapters of one and the same base",
                remedy="name those that belong together: --language, --rank, --variant",
            )
    return bases[0], next((stored.record.base_sha256 for stored in adapters if stored.record.base_sha256), "")


def load_base(adapters: "Sequence[StoredAdapter]", model: str | None = None, device: str = "cpu") -> "BaseModel":
    """The base that the adapters belong to, in their context and quantisation. model: another name or folder of it.

    Raises ModelError where it is not there, AdapterError where it is not the one they were trained on.
    """
    import zoo
    from router.fleet import check_base

    first = adapters[0].record
    base = zoo.load(
        model or adapters[0].key.base,
        device=device,
        context=first.context or None,
        quantize=first.base_quantization or None,
    )
    for stored in adapters:
        check_base(stored, base)
    return base


def adapter_labels(adapters: "Sequence[StoredAdapter]") -> dict[str, str]:
    """Adapter's name -> the shortest label that tells it from the others: `hi`, `hi r16`, `hi r16 seed1`."""
    keys = {stored.name: stored.key for stored in adapters}
    forms: list[Any] = [
        lambda key: key.language,
        lambda key: f"{key.language} r{key.rank}",
        lambda key: f"{key.language} {key.variant}",
        lambda key: f"{key.language} r{key.rank} {key.variant}",
    ]
    for form in forms:
        labels = {name: form(key) for name, key in keys.items()}
        if len(set(labels.values())) == len(labels):
            return labels
    return {name: name for name in keys}


def checksums(adapters: "Sequence[StoredAdapter]") -> dict[str, str]:
    """Adapter's name -> sha256 of its weights, for provenance and cache keys."""
    return {stored.name: stored.record.weights_sha256 for stored in adapters}


def read_clips(
    manifests: Sequence[str | Path],
    *,
    subset: str | None = None,
    languages: Sequence[str] = (),
    limit: int = 0,
    longest_s: float = 30.0,
) -> "Clips":
    """The clips of all manifests that are in one language, decoded; at most `limit` per language, spread evenly.

    Raises DataError for an empty or faulty manifest, and where a wanted language has no clip.
    """
    from training.clips import load_clips
    from training.data.manifest import read_manifest, require_languages
    from training.recipe import DataOptions
    from training.validation import spread

    if not manifests:
        raise DataError("No manifest was named", valid="JSON lines of clips with text and lang", remedy="-m MANIFEST")
    records = [record for path in manifests for record in read_manifest(path, subset=subset)]
    records = [record for record in records if len(record.languages) == 1]
    where = ", ".join(map(str, manifests))
    if languages:
        records = [record for record in records if record.lang in languages]
        require_languages(records, languages, where)
    if not records:
        raise DataError(f"All clips of {where} switch language", valid="clips in one language")
    records = [records[i] for i in spread(limit, [record.lang for record in records])]
    return load_clips(records, DataOptions(max_duration_s=longest_s))


def manifest_checksums(manifests: Sequence[str | Path]) -> dict[str, str]:
    """File name -> sha256."""
    from zoo.checksum import sha256

    return {Path(path).name: sha256(Path(path)) for path in manifests}


def clips_digest(clips: "Clips", positions: Sequence[int] | None = None) -> str:
    """32 hex digits of audio, texts and languages of the clips (at `positions`, in their order): for cache keys."""
    content = hashlib.sha256()
    for i in range(len(clips)) if positions is None else positions:
        record = clips.records[i]
        content.update(f"{record.id}\0{record.lang}\0{record.text}\0{clips.lengths[i]}\0".encode())
        content.update(clips.audio(i).tobytes())
    return content.hexdigest()[:32]


def test_set_hash(clips: "Clips") -> str:
    """The hash under which scores on these clips are comparable."""
    from training.evaluation.metrics import hash_of_test_set

    records = clips.records
    return hash_of_test_set([r.text for r in records], [r.lang for r in records], [r.id for r in records])
