"""What `boli zoo list` lists: the models boli knows by name and has pulled, or those of ESPnet's model zoo."""

from dataclasses import asdict, dataclass, field
from typing import Any

from zoo import cache, manager
from zoo.card import Card
from zoo.errors import ModelError
from zoo.sources import espnet_table

SOURCES = ("boli", "espnet")


@dataclass(frozen=True)
class Filter:
    """What is listed; empty fields leave nothing out. Each field's text serves as the help of its option."""

    text: str = ""
    """Only names that hold these words."""
    language: str = ""
    """Only models of this language (BCP-47, or as the source writes it)."""
    task: str = ""
    """espnet: only models of this task (asr, tts, enh, diar, s2t)."""
    corpus: str = ""
    """espnet: only models of a corpus whose name holds this."""


@dataclass
class Listing:
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    """For people."""
    data: list[dict[str, Any]] = field(default_factory=list)
    """For programs."""


def listed(source: str, wanted: Filter, pulled: bool) -> Listing:
    """pulled: only what is in the cache. Raises ModelError for an unknown source, or one that has no such filter."""
    if source not in SOURCES:
        raise ModelError(f"No list is called {source!r}", valid=", ".join(SOURCES), remedy="boli zoo list")
    if source == "espnet":
        return _espnet(wanted, pulled)
    if wanted.task or wanted.corpus:
        raise ModelError(
            "Only ESPnet's models are listed by task or corpus",
            valid="--language, words of the name",
            remedy="boli zoo list --source espnet" + "".join(f" --{key} {value}" for key, value in asdict(wanted).items()
                                                               if value and key != "text"),
        )  # fmt: skip
    return _boli(wanted, pulled)


def _boli(wanted: Filter, pulled: bool) -> Listing:
    entries: dict[str, list[cache.Entry]] = {}
    for entry in cache.entries():
        entries.setdefault(entry.name, []).append(entry)
    cards = {} if pulled else dict(manager.cards())
    cards |= {name: manager.cards().get(name, found[0].card) for name, found in entries.items()}
    words, language = wanted.text.lower().split(), wanted.language.lower()
    chosen = {
        name: card
        for name, card in cards.items()
        if all(word in name.lower() for word in words) and (not language or language in map(str.lower, card.languages))
    }
    found = Listing(("NAME", "FAMILY", "SIZE", "LAYERS", "LICENCE", "LANGUAGES", "STATE"))
    for name, card in sorted(chosen.items()):
        found.data.append(card.to_dict() | {"pulled": [e.version for e in entries.get(name, [])]})
    for name, card in sorted(chosen.items(), key=lambda item: (item[1].size_bytes, item[0])):
        state = _state(card, entries.get(name, []), manager.find(name))
        languages = ", ".join(card.languages) if len(card.languages) < 7 else f"{len(card.languages)} languages"
        size = human(card.size_bytes) if card.size_bytes else "-"
        found.rows.append((name, card.family, size, f"{card.n_layers}", card.licence or "?", languages or "?", state))
    return found


def _state(card: Card, entries: list[cache.Entry], current: cache.Entry | None) -> str:
    if card.source.startswith("repo:"):
        from zoo.sources import repository

        there = (repository.ROOT / card.source.partition(":")[2] / "config.json").is_file()
        return "in the repository" if there else "not in this clone"
    if current is not None:
        return "pulled"
    if entries:
        return "other revision pulled"
    return "made when first loaded" if card.source.startswith("builtin:") else ""


def _espnet(wanted: Filter, pulled: bool) -> Listing:
    if espnet_table.path() is None:
        raise ModelError(
            "ESPnet's models cannot be listed: espnet_model_zoo, whose table names them, is not installed",
            valid=f"the package, or a table of one's own in {espnet_table.VARIABLE}",
            remedy="pip install --no-deps espnet_model_zoo",
        )
    ours = [row for card in manager.cards().values() if (row := espnet_table.card_row(card))]
    chosen = espnet_table.search(
        [*ours, *espnet_table.rows()],
        wanted.text,
        language=wanted.language,
        task=wanted.task,
        corpus=wanted.corpus,
    )
    versions: dict[str, list[str]] = {}
    for entry in cache.entries():
        for key in {entry.name, entry.manifest.source}:
            versions.setdefault(key, []).append(entry.version)
    found = Listing(("NAME", "TASK", "CORPUS", "LANGUAGE", "HZ", "FROM", "STATE"))
    for row in chosen:
        here = versions.get(row.name) or versions.get(row.source) or []
        if pulled and not here:
            continue
        found.data.append(asdict(row) | {"source": row.source, "pulled": here})
        languages = ", ".join(row.languages) if len(row.languages) < 4 else f"{len(row.languages)} languages"
        state = "pulled" if here else "" if row.valid else "does not load, its authors say"
        rate, origin = str(row.rate_hz or "?"), row.url.split("/")[2] if row.url.count("/") > 2 else "hub"
        found.rows.append((row.name, row.task or "?", row.corpus or "?", languages or "?", rate, origin, state))
    return found


def human(n_bytes: int) -> str:
    """`3.1 GB`: decimal units, as hubs and disks are sold."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
