"""Importing an adapter made elsewhere: a PEFT LoRA folder or a hub id, checked and proved on its base model."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.index import RECORD
from adapters.key import AdapterKey
from adapters.peft_files import LoraWeights, check_fits, read_weights
from adapters.record import Record
from adapters.store import Store, StoredAdapter
from zoo.checksum import sha256
from zoo.errors import AdapterError
from zoo.fingerprint import tokenizer_as_named

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class AddOptions:
    """How to import. Each field's text serves as the help of the option of the same name."""

    language: str
    """BCP-47 tag of the language it was trained on: hi, pa, pt-BR."""
    model: str
    """Base model it was trained on (`boli zoo list`)."""
    variant: str = "default"
    """Tells adapters of one model, language and rank apart."""
    context: str = ""
    """Context it was trained in: 30s or dynamic; by default the model's own."""
    quantize: str = ""
    """Quantisation of the base it was trained on: 8bit or nf4."""
    revision: str = ""
    """Branch, tag or commit of a hub id."""
    licence: str = ""
    """Licence of the adapter."""
    author: str = ""
    """Who made it."""
    notes: str = ""
    """Anything else to keep in its record."""
    allow_unverified: bool = False
    """Warn, and do not refuse, where base, tokenizer, quantisation or checksum are not those it names."""


def add(source: str | Path, store: Store, options: AddOptions, say: Callable[[str], None] = print) -> StoredAdapter:
    """Import `source` into `store`. say: takes warnings, one line each.

    Raises AdapterError, with the reason and what to do, for what cannot be used; the store is then as before.
    """
    import zoo
    from adapters.proof import prove

    folder, origin = locate(source, options.revision)
    weights = read_weights(folder, str(source))
    AdapterKey(options.model.partition("@")[0], options.language, weights.rank, options.variant)
    base = zoo.load(options.model, context=options.context or None, quantize=options.quantize or None)
    key = AdapterKey(base.card.name, options.language, weights.rank, options.variant)
    check_fits(weights, base.sites, base.card.name)
    digest = sha256(folder / "adapter_model.safetensors")
    record, doubts = _provenance(folder, digest, base, key, options)
    doubts += _other_tokenizer(folder, options.model)
    if record is None:
        doubts += _other_name(weights, base, options.model)
    for what, remedy in doubts:
        if not options.allow_unverified:
            raise AdapterError(
                f"{source}: {what}",
                valid="an adapter of exactly this base model and language",
                remedy=f"{remedy}; where you know better: the same with --allow-unverified",
            )
        say(f"warning: {source}: {what}; added unverified")
    if record is None or doubts:
        record = Record(key.base, key.language, key.rank, key.variant, context=options.context or base.context)
    proof = prove(base, weights, _fingerprint(digest, weights))
    given = {name: getattr(options, name) for name in ("licence", "author", "notes") if getattr(options, name)}
    record = replace(
        record,
        **given,
        base_quantization=options.quantize or record.base_quantization,
        lowest_adapted_layer=proof.lowest_adapted_layer,
        logit_change=proof.logit_change,
        proved_base_sha256=base.weights_sha256,
        base_verified=bool(record.base_sha256) and record.base_sha256 == base.weights_sha256,
        source=record.source or origin,
    )
    stored = store.publish(key, folder, record)
    if any(getattr(stored.record, name) != value for name, value in given.items()):
        say(
            f"warning: {stored.name} was in the store already and keeps its record; to replace it: "
            f"boli adapters rm {shlex.quote(str(stored.folder))}, then add it again"
        )
    return stored


def locate(source: str | Path, revision: str = "") -> tuple[Path, str]:
    """(folder, where it came from) of a folder here, or a hub id."""
    path = Path(source).expanduser()
    if path.is_dir():
        return path, f"folder:{path.name}"
    text = str(source).removeprefix("hub:")
    repository, _, named = text.partition("@")
    if path.exists() or not _HUB_ID.fullmatch(repository):
        raise AdapterError(
            f"{source} is no folder and no hub id",
            valid="a LoRA folder written by PEFT's save_pretrained, or ORGANISATION/NAME",
            remedy=f"boli adapters add {path.parent if path.is_file() else 'FOLDER'}",
        )
    from adapters.hub import fetch

    return fetch(repository, revision or named)


def _provenance(
    folder: Path, digest: str, base, key: AdapterKey, options: AddOptions
) -> tuple[Record | None, list[tuple[str, str]]]:
    """The record that came with an adapter exported from a store, and what in it speaks against this import."""
    path = folder / RECORD
    if not path.is_file():
        return None, []
    try:
        record = Record.from_json(path.read_text(encoding="utf-8"), str(path))
    except (AdapterError, UnicodeDecodeError) as error:
        return None, [(f"its {RECORD} cannot be read ({getattr(error, 'what', error)})", f"rm FOLDER/{RECORD}")]
    tokenizer = tokenizer_as_named(base, record.tokenizer_sha256)
    facts = (
        ("weights have checksum", digest[:12], record.weights_sha256[:12], "export it again: boli adapters export"),
        ("base model is", base.card.name, record.base, f"--model {record.base}"),
        ("base model's weights are", base.weights_sha256[:12], record.base_sha256[:12], f"boli zoo show {record.base}"),
        ("tokenizer is", tokenizer[:12], record.tokenizer_sha256[:12], f"boli zoo show {record.base}"),
        ("language is", key.language, record.language, f"--language {record.language}"),
        ("context is", base.context, record.context, f"--context {record.context}"),
    )
    doubts = [
        (f"its {what} {found}, its record says {said}", how)
        for what, found, said, how in facts
        if said and said != found
    ]
    if record.base_quantization != options.quantize:
        said = record.base_quantization
        how = f"--quantize {said}" if said else "without --quantize"
        doubts.append((f"its base is quantised as {options.quantize or 'none'}, its record says {said or 'none'}", how))
    return record, doubts


def _other_name(weights: LoraWeights, base, model: str) -> list[tuple[str, str]]:
    """What its configuration calls the base: the same name, the same source, or a folder of the same weights."""
    named = weights.config.get("base_model_name_or_path")
    if not named:
        return [
            ("it does not name the base model that it was trained on", "write base_model_name_or_path into its config")
        ]
    named = str(named).rstrip("/")
    known = {base.card.name, model, base.card.source.partition(":")[2]}
    if named in known or ("/" in base.card.name and Path(named).name == Path(base.card.name).name):
        return []
    path = Path(named).expanduser()
    if path.is_dir() and _weights(path) == base.weights_sha256:
        return []
    return [(f"it was trained on {named}, and not on {base.card.name}", f"--model {named}  (boli zoo pull {named})")]


def _weights(folder: Path) -> str:
    from zoo.errors import ModelError
    from zoo.fingerprint import weights_sha256

    try:
        return weights_sha256(folder)
    except ModelError:
        return ""


def _other_tokenizer(folder: Path, model: str) -> list[tuple[str, str]]:
    """Training scripts often save the tokenizer beside the adapter: it must give no token another number."""
    from zoo.manager import resolve

    theirs = _vocabulary(folder)
    ours = _vocabulary(resolve(model)[1]) if theirs else {}
    if not ours:
        return []
    other = sorted(token for token, number in theirs.items() if ours.get(token) != number)
    if not other:
        return []
    what = f"its tokenizer differs from the base's in {len(other)} of {len(theirs)} tokens, such as {other[0]!r}"
    return [(what, "--model NAME with the base that has this tokenizer")]


def _vocabulary(folder: Path) -> dict[str, int]:
    """Token -> number; empty where the folder has no tokenizer that can be compared."""
    found: dict[str, int] = {}
    whole = _json(folder / "tokenizer.json")
    if isinstance(whole.get("model"), dict) and isinstance(whole["model"].get("vocab"), dict):
        found |= whole["model"]["vocab"]
        found |= {token["content"]: token["id"] for token in whole.get("added_tokens", ())}
        return found
    return _json(folder / "vocab.json") | _json(folder / "added_tokens.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):
        return {}


def _fingerprint(digest: str, weights: LoraWeights) -> str:
    """Tensors and scales: what the proof depends on besides the base."""
    scales = json.dumps({name: site.scale for name, site in weights.sites.items()}, sort_keys=True)
    return hashlib.sha256(f"{digest}\n{scales}".encode()).hexdigest()[:32]
