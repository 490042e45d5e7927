"""`boli zoo`: list, show, pull, verify, rm, du, gc, lock. Thin: the work is in zoo.manager."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from zoo import fields
from zoo.listing import Filter, human
from zoo.manager import Options

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Base models: what there is, what is here, and whether it is whole.",
)

_HELP = fields.texts(Options)
_FILTER = fields.texts(Filter)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Models; by default all that are pulled.")]


def _print(value) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...]) -> None:
    """Aligned columns, uncut, so that the output can be piped."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command("list")
def list_models(
    text: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...", help=_FILTER["text"])] = None,
    source: Annotated[
        str, typer.Option(help="boli: what it knows by name and what is pulled; espnet: ESPnet's model zoo.")
    ] = "boli",
    language: Annotated[str, typer.Option(help=_FILTER["language"])] = "",
    task: Annotated[str, typer.Option(help=_FILTER["task"])] = "",
    corpus: Annotated[str, typer.Option(help=_FILTER["corpus"])] = "",
    pulled: Annotated[bool, typer.Option("--pulled", help="Only models in the cache.")] = False,
    families: Annotated[
        bool, typer.Option("--families", help="List the families instead, and where they come from.")
    ] = False,
    as_json: Json = False,
) -> None:
    """All models boli knows by name, and all that are in the cache; or those of ESPnet's model zoo."""
    from zoo import listing, registry

    if families:
        known = registry.targets()
        _print(known) if as_json else _table(sorted(known.items()), ("FAMILY", "REGISTERED AS"))
        return
    wanted = listing.Filter(" ".join(text or ()), language, task, corpus)
    found = listing.listed(source, wanted, pulled)
    _print(found.data) if as_json else _table(found.rows, found.header)


@app.command()
def show(name: str, as_json: Json = False) -> None:
    """Everything boli knows about one model."""
    from zoo import cache, checksum, manager, registry
    from zoo.sources import espnet_table

    plain = name.partition("@")[0]
    card = manager.cards().get(plain)
    entry = manager.find(name) if card is not None or cache.is_name(plain) else None
    folder: Path | None
    known: dict = {}
    row = espnet_table.find(plain) if card is None and not Path(name).exists() else None
    if row is not None and entry is None:
        name = plain = row.name
        entry = manager.find(name)
    if row is not None and entry is None:
        described = asdict(row) | {"source": row.source, "pulled": "no"}
        _print(described) if as_json else _lines(described)
        return
    if entry is not None:
        card, folder = card or entry.card, entry.folder
        manifest = entry.manifest
        known = {"source": manifest.source, "revision": manifest.revision, "size_bytes": manifest.size_bytes}
        known |= {"files": manifest.files, "versions": [e.version for e in cache.entries(plain)]}
        known["pulled"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.pulled))
    elif card is None:
        card, folder = manager.resolve(name)  # a folder: its checksums are taken now
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        known = {"files": {path.relative_to(folder).as_posix(): checksum.sha256(path) for path in paths}}
        known["size_bytes"] = sum(path.stat().st_size for path in paths)
    else:
        folder = None
    known = card.to_dict() | known | {"folder": str(folder or "")}
    known["registered_as"] = registry.targets().get(card.family, "no family of this name")
    _print(known) if as_json else _lines(known)


def _lines(known: dict) -> None:
    """A line for each thing that is known."""
    for key, value in known.items():
        if value in ("", 0, (), [], {}, 0.0):
            continue
        if key == "files":
            print("files")
            for file, digest in value.items():
                print(f"  {digest}  {file}")
        elif key == "size_bytes":
            print(f"{key:<14}{value:,} ({human(value)})")
        elif key == "parameters":
            print(f"{key:<14}{value:,}")
        else:
            print(f"{key:<14}{' '.join(value) if isinstance(value, (tuple, list)) else value}")


@app.command()
def pull(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Cards, hub ids, or with --from a name of your own.")
    ],
    origin: Annotated[str, typer.Option("--from", metavar="SOURCE", help=_HELP["origin"])] = "",
    revision: Annotated[str, typer.Option(help=_HELP["revision"])] = "",
    sha256: Annotated[str, typer.Option(help=_HELP["sha256"])] = "",
    family: Annotated[str, typer.Option(help=_HELP["family"])] = "",
    update: Annotated[bool, typer.Option("--update", help=_HELP["update"])] = False,
    as_json: Json = False,
) -> None:
    """Bring models into the cache; go on where an interrupted pull stopped; mend a damaged copy."""
    from zoo import manager
    from zoo.progress import Bars

    options = Options(origin=origin, revision=revision, sha256=sha256, family=family, update=update)
    with Bars() as bars:
        found = [manager.pull(name, options, bars) for name in names]
    if as_json:
        _print(
            [{"name": e.name, "version": e.version, "folder": str(e.folder), "files": e.manifest.files} for e in found]
        )
        return
    for entry in found:
        size, files = human(entry.manifest.size_bytes), len(entry.manifest.files)
        print(f"{entry.name} {entry.version}: {files} files, {size}, verified, in {entry.folder}")


@app.command()
def verify(names: Names = None, as_json: Json = False) -> None:
    """Read every byte again and compare it with the sha256 recorded when it was pulled."""
    from zoo import cache, manager
    from zoo.errors import ModelError

    wanted = names or sorted({entry.name for entry in cache.entries()})
    results = []
    for name in wanted:
        try:
            card = manager.cards().get(name)
            entry = None if card is not None and card.source.startswith("repo:") else manager.find(name)
            if entry is None:
                card, folder = manager.resolve(name)
                results.append({"name": name, "folder": str(folder), "files": len(card.files), "whole": True})
            else:
                manager.verify_entry(entry, full=True)
                results.append(
                    {"name": name, "folder": str(entry.folder), "files": len(entry.manifest.files), "whole": True}
                )
        except ModelError as error:
            results.append({"name": name, "whole": False, "error": str(error)})
    for folder in cache.unreadable() if names is None else []:
        what = f"{folder} has no readable record. To mend it: boli zoo gc, then pull the model again"
        results.append({"name": folder.parent.name.replace("--", "/"), "whole": False, "error": what})
    if as_json:
        _print(results)
    else:
        for result in results:
            if result["whole"]:
                print(f"{result['name']}: {result['files']} files, every sha256 is right")
            else:
                print(f"boli: {result['error']}", file=sys.stderr)
        if not results:
            print("Nothing is pulled.")
    if not all(result["whole"] for result in results):
        raise typer.Exit(1)


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Models, or NAME@REVISION for one version.")],
) -> None:
    """Remove models from the cache."""
    from zoo import manager

    for name in names:
        print(f"{name}: removed, {human(manager.remove(name))} freed")


@app.command()
def du(as_json: Json = False) -> None:
    """What the cache takes on disk."""
    import shutil

    from zoo import cache

    home = cache.home()
    rows = [(e.name, e.version, cache.size(e.folder)) for e in cache.entries()]
    rows += [
        (folder.parent.name.replace("--", "/"), f"{folder.name} (no readable record)", cache.size(folder))
        for folder in cache.unreadable()
    ]
    for path in sorted((home / "staging").glob("*")):
        slug, _, host = path.name.partition("@")
        rows.append((slug.replace("--", "/"), f"interrupted or running pull on {host}", cache.size(path)))
    rows += [("-", "being removed", cache.size(path)) for path in sorted((home / "trash").glob("*"))]
    rows.sort(key=lambda row: -row[2])
    total = sum(row[2] for row in rows)
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if as_json:
        models = [{"name": name, "version": version, "size_bytes": size} for name, version, size in rows]
        _print({"home": str(home), "models": models, "size_bytes": total, "free_bytes": free})
        return
    if rows:
        _table([(name, version, human(size)) for name, version, size in rows], ("NAME", "VERSION", "SIZE"))
    print(f"{human(total)} in {home}; {human(free)} free")


@app.command()
def gc(
    everything: Annotated[
        bool, typer.Option("--all", help="Interrupted pulls of any age too, not only those older than a week.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove what nothing needs: interrupted pulls, folders without a record, superseded versions."""
    from zoo import cache
    from zoo.garbage import collect, garbage

    found = garbage(everything)
    for item in found:
        print(f"{item.path.relative_to(cache.home())}: {item.why}, {human(item.size_bytes)}")
    if not found:
        print("Nothing to remove.")
    elif dry_run:
        print(f"{human(sum(item.size_bytes for item in found))} would be freed.")
    else:
        print(f"{human(collect(found))} freed.")


@app.command("lock")
def lock_models(
    names: Names = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail unless the cache holds what the lock pins.")
    ] = False,
) -> None:
    """Pin the models a project uses in zoo.lock: revision and sha256 of every file."""
    from zoo import cache, lock, manager
    from zoo.errors import ModelError

    pins = lock.read()
    if check:
        if not pins:
            raise ModelError(f"{lock.path()} pins nothing", valid="a lock with models in it", remedy="boli zoo lock")
        for name in names or sorted(pins):
            if name not in pins:
                raise ModelError(
                    f"{lock.path()} does not pin {name}", valid=", ".join(sorted(pins)), remedy=f"boli zoo lock {name}"
                )
            manager.resolve(name)
            print(f"{name}: as pinned ({pins[name].version})")
        return
    for name in names or sorted({entry.name for entry in cache.entries()}):
        # the copy in use before the lock decides which that is: after an update the newest
        entry = next(iter(cache.entries(name)), None)
        if entry is None:
            raise ModelError(
                f"{name} is not in the cache, so its files cannot be pinned", remedy=f"boli zoo pull {name}"
            )
        manifest = entry.manifest
        if damages := entry.damages(full=False):
            raise ModelError(f"{name} is damaged: {damages[0]}", valid="a whole copy", remedy=f"boli zoo pull {name}")
        pins[name] = lock.Pin(manifest.source, manifest.revision, entry.version, manifest.files)
    print(f"{lock.write(pins)}: {len(pins)} models pinned")
