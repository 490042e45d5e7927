"""The models that espnet_model_zoo knows by name: its table, read where the package lies, never imported.

`BOLI_ESPNET_TABLE` names another table of the same columns (a newer one, or one of your own archives); there
`sha256` and `md5` of the archive are read too where it has such columns.
"""

import csv
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zoo.card import Card
from zoo.errors import ModelError

VARIABLE = "BOLI_ESPNET_TABLE"
LANGUAGES = {"jp": "ja", "kr": "ko", "cn": "zh", "en_unnorm": "en"}
"""What the table writes -> BCP-47."""
HUB = "https://huggingface.co"
S2T = "s2t"
"""ESPnet's task of OWSM's kind: speech to text in many languages."""


@dataclass(frozen=True)
class Row:
    """One model."""

    name: str
    """As boli calls it: the table's name, with `-` for what no name of the cache may hold."""
    title: str
    """As espnet_model_zoo calls it."""
    url: str
    """Of the archive; empty: a repository of the hub, of that title."""
    task: str
    corpus: str
    languages: tuple[str, ...]
    """BCP-47, or `multilingual`."""
    rate_hz: int = 0
    sha256: str = ""
    md5: str = ""
    valid: bool = True
    """False where espnet_model_zoo itself says that it no longer loads."""

    @property
    def source(self) -> str:
        return f"espnet:{self.name}"


def path() -> Path | None:
    """The table's file; None where espnet_model_zoo is not installed and no other table is named."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    found = importlib.util.find_spec("espnet_model_zoo")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(folders[0]) / "table.csv" if folders else None


def rows() -> tuple[Row, ...]:
    """All rows in the table's order; none where there is no table. Raises ModelError for one that cannot be read."""
    file = path()
    if file is None:
        return ()
    try:
        return _read(file, file.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, ValueError) as error:
        missing = f"it has no column {error}" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"The table {file} cannot be read: {missing}",
            valid="CSV with the columns corpus, task, name, url, fs, lang, as espnet_model_zoo/table.csv",
            remedy=f"unset {VARIABLE}" if os.environ.get(VARIABLE) else "make setup",
        ) from None


@lru_cache(maxsize=4)
def _read(file: Path, changed: int) -> tuple[Row, ...]:
    found: list[Row] = []
    with file.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            url = line["url"].strip()
            language = line["lang"].strip()
            found.append(
                Row(
                    cache_name(line["name"]),
                    line["name"].strip(),
                    "" if url.rstrip("/") in ("", HUB) else url,
                    line["task"].strip(),
                    line["corpus"].strip(),
                    (LANGUAGES.get(language, language),) if language else (),
                    int(line["fs"] or 0),
                    (line.get("sha256") or "").strip().lower(),
                    (line.get("md5") or "").strip().lower(),
                    (line.get("valid") or "true").strip().lower() != "false",
                )
            )
    return tuple(found)


def cache_name(title: str) -> str:
    """`Shinji Watanabe/a+b` -> `Shinji-Watanabe/a-b`."""
    return "/".join(re.sub(r"[^\w.]+", "-", part, flags=re.ASCII).strip("-._") for part in title.strip().split("/"))


def find(name: str) -> Row | None:
    """The row of a name, written either way; of several the last, which is the newest."""
    return next((row for row in reversed(rows()) if name in (row.name, row.title)), None)


def card_row(card: Card) -> Row | None:
    """The row of a card that comes from ESPnet's part of the hub."""
    if card.family != "owsm" or not card.source.startswith("hub:"):
        return None
    return Row(card.name, card.name, "", S2T, "owsm", card.languages)


def search(found: Sequence[Row], text: str = "", *, language: str = "", task: str = "", corpus: str = "") -> list[Row]:
    """Rows whose name holds every word of `text` (any case), of a language (`ja` and `jp` are one), a task and a corpus
    whose name holds `corpus`."""
    wanted = LANGUAGES.get(language.lower(), language.lower())
    return [
        row
        for row in found
        if all(word in f"{row.name} {row.title}".lower() for word in text.lower().split())
        and (not wanted or wanted in map(str.lower, row.languages))
        and (not task or row.task == task.lower())
        and corpus.lower() in row.corpus.lower()
    ]
