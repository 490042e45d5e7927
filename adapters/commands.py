"""`boli adapters`: list, show, add, export, rm, verify, reindex, best. Thin: the work is in the room's other files."""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.importing import AddOptions
from zoo import fields

if TYPE_CHECKING:
    from adapters.store import Store, StoredAdapter

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="The store of adapters. NAME is LANGUAGE[:rRANK[:VARIANT]][@VERSION], with BASE: in front where needed.",
)
EMBEDDED = Path(__file__).resolve().parent / "embedded"
_HELP = fields.texts(AddOptions)
StoreOption = Annotated[
    Path, typer.Option("--store", envvar="BOLI_STORE", help="Folder of adapters; by default the embedded model's.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Model = Annotated[str | None, typer.Option("--model", help="Only adapters of this base model.")]
Language = Annotated[str | None, typer.Option("--language", help="Only adapters of this language.")]


@contextmanager
def _opened(folder: Path, *, create: bool = False, write: bool = False) -> Iterator["Store"]:
    """The store; what it warns of goes to stderr, one line each."""
    from adapters.index import StoreWarning
    from adapters.store import Store
    from zoo.errors import StoreError

    if write and folder.resolve() == EMBEDDED and os.environ.get("BOLI_EMBEDDED") != "write":
        raise StoreError(
            f"{EMBEDDED} belongs to the repository and is read-only",
            valid="a store of your own",
            remedy="the same with --store FOLDER (or BOLI_STORE=FOLDER; to rebuild it: BOLI_EMBEDDED=write)",
        )
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        warnings.simplefilter("always", StoreWarning)
        yield Store(folder, create=create)


def _summary(stored: "StoredAdapter") -> dict:
    record = stored.record
    return {"name": f"{stored.key}@{stored.version}", "folder": str(stored.folder), **asdict(record)}


def _table(rows: list[tuple[str, ...]]) -> None:
    """Aligned columns, uncut, so that the output can be piped. The first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


@app.command("list")
def list_adapters(
    store: StoreOption = EMBEDDED, model: Model = None, language: Language = None, as_json: Json = False
) -> None:
    """All adapters of a store."""
    with _opened(store) as opened:
        found = opened.find(base=model, language=language)
        found.sort(key=lambda stored: (stored.key, stored.record.created))
        if as_json:
            return _print([_summary(stored) for stored in found])
        rows: list[tuple[str, ...]] = [
            ("LANGUAGE", "RANK", "VARIANT", "VERSION", "MODEL", "BASE", "LAYERS FROM", "PARAMETERS", "CREATED")
        ]
        for stored in found:
            key, record = stored.key, stored.record
            verified = "verified" if record.base_verified else "unverified"
            row = (key.language, key.rank, key.variant, stored.version, key.base, verified, record.lowest_adapted_layer)
            rows.append((*map(str, row), f"{record.parameters:,}", record.created[:10]))
        _table(rows) if found else print(f"No adapters in {store}")


@app.command()
def show(name: str, store: StoreOption = EMBEDDED, as_json: Json = False) -> None:
    """All that is known about one adapter."""
    with _opened(store) as opened:
        stored = opened.select(name)
        if as_json:
            return _print(_summary(stored))
        shown = _summary(stored) | {"update_norms": "", "scores": ""}
        rows = [(part, value if isinstance(value, str) else json.dumps(value)) for part, value in shown.items()]
        _table([row for row in rows if row[1] not in ("", "{}", "null")])
        norms = stored.record.update_norms
        if norms:
            print(f"update of its {len(norms)} sites (Frobenius norm): {min(norms.values()):.3g} to ", end="")
            print(f"{max(norms.values()):.3g}; {sum(norm == 0 for norm in norms.values())} are zero")
        for score in stored.record.scores:
            print(
                f"{score.metric} {100 * score.value:.2f} % of {score.count} on {score.name or score.test_set[:12]} "
                f"({score.normaliser}, {score.decoding}, test set {score.test_set[:12] or 'unknown'})"
            )


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A PEFT LoRA folder, or a hub id.")],
    language: Annotated[str, typer.Option(help=_HELP["language"])],
    model: Annotated[str, typer.Option(help=_HELP["model"])],
    store: StoreOption = EMBEDDED,
    variant: Annotated[str, typer.Option(help=_HELP["variant"])] = "default",
    context: Annotated[str, typer.Option(help=_HELP["context"])] = "",
    quantize: Annotated[str, typer.Option(help=_HELP["quantize"])] = "",
    revision: Annotated[str, typer.Option(help=_HELP["revision"])] = "",
    licence: Annotated[str, typer.Option(help=_HELP["licence"])] = "",
    author: Annotated[str, typer.Option(help=_HELP["author"])] = "",
    notes: Annotated[str, typer.Option(help=_HELP["notes"])] = "",
    allow_unverified: Annotated[bool, typer.Option("--allow-unverified", help=_HELP["allow_unverified"])] = False,
) -> None:
    """Import an adapter: check it against its base model, prove that it works, and publish it."""
    from adapters.importing import add as import_adapter

    options = AddOptions(
        language, model, variant, context, quantize, revision, licence, author, notes, allow_unverified
    )
    with _opened(store, create=True, write=True) as opened:
        stored = import_adapter(source, opened, options, say=lambda line: print(line, file=sys.stderr))
        record = stored.record
        print(f"{stored.key}@{stored.version}")
        print(
            f"{len(record.update_norms)} sites, {record.parameters:,} parameters, lowest adapted encoder layer "
            f"{record.lowest_adapted_layer}; changes the probe clip's logits by {record.logit_change:.3g}; "
            f"base {'verified' if record.base_verified else 'unverified'}"
        )


@app.command()
def export(name: str, folder: Path, store: StoreOption = EMBEDDED) -> None:
    """Copy an adapter out, as a folder that PEFT loads."""
    from adapters.exporting import export as export_adapter

    with _opened(store) as opened:
        print(export_adapter(opened.select(name), folder))


@app.command()
def rm(
    name: Annotated[str, typer.Argument(help="NAME, or the folder of one version, which may be damaged.")],
    store: StoreOption = EMBEDDED,
) -> None:
    """Remove one version of an adapter."""
    from adapters.key import AdapterKey
    from adapters.store import DEPTH, StoredAdapter

    folder = Path(name).expanduser().absolute()
    if folder.is_dir() and len(folder.parts) > DEPTH:
        store = folder.parents[DEPTH - 1]
    with _opened(store, write=True) as opened:
        if folder.is_dir():
            key = AdapterKey.from_path(PurePosixPath(*folder.parts[-DEPTH:]))
            stored = StoredAdapter(key, folder.name, opened.folder / key.path / folder.name)
        else:
            stored = opened.select(name)
        opened.remove(stored)
        print(f"removed {stored.key}@{stored.version}")


@app.command()
def verify(store: StoreOption = EMBEDDED, as_json: Json = False) -> None:
    """Read every byte of every adapter, and clean up after killed processes. Exit code 1 where something is wrong."""
    from adapters.staging import leftovers
    from adapters.verifying import verify as verify_store

    with _opened(store) as opened:
        cleaned = []
        if leftovers(opened.folder):
            cleaned = opened.clean()
        checked, problems = verify_store(opened)
    if as_json:
        _print({"adapters": checked, "problems": {str(path): why for path, why in problems}, "cleaned": len(cleaned)})
    else:
        for path, why in problems:
            print(f"{path}: {why}", file=sys.stderr)
        print(f"{checked} adapters, {len(problems)} damaged; {len(cleaned)} leftovers of killed processes removed")
    if problems:
        raise typer.Exit(1)


@app.command()
def reindex(store: StoreOption = EMBEDDED) -> None:
    """Rebuild the index from the folders: after copying adapters in or out by hand."""
    with _opened(store, write=True) as opened:
        print(f"{opened.reindex()} adapters")


@app.command()
def best(
    store: StoreOption = EMBEDDED,
    model: Model = None,
    language: Language = None,
    metric: Annotated[str, typer.Option(help="wer, cer, ...")] = "wer",
    test_set: Annotated[str, typer.Option(help="Name or hash of the test set.")] = "",
    normaliser: Annotated[str, typer.Option(help="raw, whisper, indic, ...")] = "",
    decoding: Annotated[str, typer.Option(help="greedy, beam5, ...")] = "",
    as_json: Json = False,
) -> None:
    """The best adapter of each language. Only scores of one test set, normaliser and decoding are compared."""
    from adapters.best import rankings
    from zoo.errors import AdapterError

    with _opened(store) as opened:
        adapters = opened.find(base=model, language=language)
        found, left = rankings(adapters, metric, test_set=test_set, normaliser=normaliser, decoding=decoding)
        if not found:
            known = {
                f"{s.metric} {s.name or s.test_set[:12]} {s.normaliser} {s.decoding}"
                for a in adapters
                for s in a.record.scores
            }
            raise AdapterError(
                f"No adapter of {len(adapters)} in {store} has such a score",
                valid="; ".join(sorted(known)[:8]) or "none of them was scored",
                remedy="boli adapters list  (or boli evaluate, then publish with scores)",
            )
    if as_json:
        return _print(
            [
                asdict(ranking)
                | {
                    "rows": [
                        {"name": f"{stored.key}@{stored.version}", **asdict(score)} for stored, score in ranking.rows
                    ]
                }
                for ranking in found
            ]
        )
    for ranking in found:
        print(
            f"{ranking.language}: {ranking.metric} on {ranking.name} ({ranking.normaliser}, {ranking.decoding}, "
            f"{ranking.count} in the reference, test set {ranking.test_set[:12]})"
        )
        _table(
            [("  " + f"{100 * score.value:.2f} %", f"{stored.key}@{stored.version}") for stored, score in ranking.rows]
        )
    if len(found) > 1:
        print("Numbers of different groups were measured differently and cannot be compared.")
    if left:
        print(f"Without such a score: {', '.join(stored.name for stored in left[:8])}{' ...' if left[8:] else ''}")
