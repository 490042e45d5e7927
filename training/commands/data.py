"""`boli data`: describe, convert, split, mix and code-switch corpora."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoo.errors import DataError

if TYPE_CHECKING:
    from training.data.describe import Description
    from training.data.manifest import Record

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Describe, convert and make corpora.")

Manifests = Annotated[
    list[Path], typer.Argument(help="Manifests (JSON lines); several count as one.", metavar="MANIFEST...")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write into.")]
Lang = Annotated[str | None, typer.Option("--lang", help="Language of clips that name none.")]
Subset = Annotated[str | None, typer.Option("--subset", help="Use only the clips of this subset.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]


@app.command()
def describe(
    manifests: Manifests,
    lang: Lang = None,
    subset: Subset = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Hours, speakers and texts per subset and language, and what subsets share."""
    from training.data.describe import describe as described
    from training.data.manifest import with_durations

    found = described(with_durations(_read(manifests, lang, subset, name_files=True)))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    else:
        _tables(found)


@app.command()
def layouts() -> None:
    """List the layouts of corpora that `convert` reads."""
    from training.data.corpora import LAYOUTS

    for layout in LAYOUTS.values():
        typer.echo(f"{layout.name:<13} {layout.corpora}")


@app.command()
def convert(
    source: Annotated[str, typer.Argument(help="Corpus folder, manifest, parquet file, or hub:OWNER/NAME[:CONFIG].")],
    out: Out,
    layout: Annotated[str, typer.Option(help="See `boli data layouts`.")] = "auto",
    lang: Lang = None,
    split: Annotated[str | None, typer.Option(help="Only this split (train, dev, test, validated, 9hr, ...).")] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Put before speakers' names.  [default: the layout's name]")
    ] = None,
    loudness_db: Annotated[float, typer.Option(help="Level of speech, dB full scale.")] = -26.0,
    keep_loudness: Annotated[bool, typer.Option("--keep-loudness", help="Leave levels as they are.")] = False,
    trim: Annotated[bool, typer.Option("--trim", help="Cut silence at both ends, keep 0.1 s.")] = False,
    min_s: Annotated[float, typer.Option(help="Skip shorter clips.")] = 0.2,
    max_s: Annotated[float, typer.Option(help="Skip longer clips.")] = 30.0,
    format: Annotated[str, typer.Option(help="flac, wav or ogg.")] = "flac",
    in_place: Annotated[bool, typer.Option("--in-place", help="Write a manifest only, to the corpus' files.")] = False,
    limit: Annotated[int, typer.Option(help="Stop after so many clips; 0: all.")] = 0,
    workers: Annotated[int, typer.Option(help="Clips decoded at the same time.")] = 4,
) -> None:
    """Turn a corpus as it comes into 16 kHz mono clips and a manifest; name what cannot be used."""
    from training.data.corpora import hub, layout_of
    from training.data.prepare import PrepareOptions, describe_skipped, prepare

    options = PrepareOptions(
        None if keep_loudness else loudness_db, trim, min_s, max_s, format, in_place, limit, workers
    )
    folder = hub.local(source)
    if out.resolve() == (folder if folder.is_dir() else folder.parent).resolve():
        raise DataError(f"--out {out} is the corpus' own folder: it would be overwritten", valid="another folder")
    chosen = layout_of(folder, layout)
    name = ("" if chosen.name == "manifest" else chosen.name) if corpus is None else corpus
    with _progress("clips") as advance:
        done = prepare(chosen.read(folder, lang, split), out, options, corpus=name, progress=lambda _: advance())
    for line in describe_skipped(done):
        typer.echo(line, err=True)
    typer.echo(f"{len(done.records)} clips, {done.hours:.2f} h, read as {chosen.name} -> {done.manifest}")


@app.command()
def split(
    manifests: Manifests,
    out: Out,
    shares: Annotated[str, typer.Option(help="Sets and their shares.")] = "train=0.8,dev=0.1,test=0.1",
    by: Annotated[str, typer.Option(help="What no two sets may share: speaker, text, or both.")] = "speaker,text",
    lang: Annotated[str | None, typer.Option(help="Only these languages, with commas.")] = None,
    seed: Seed = 0,
) -> None:
    """Divide a manifest into sets without common speakers or texts: OUT/train.jsonl, OUT/dev.jsonl, ..."""
    from training.data.describe import describe as described
    from training.data.manifest import require_languages, with_durations, write_manifest
    from training.data.splits import split as divided

    records = with_durations(_read(manifests, None, None))
    if lang:
        require_languages(records, _names(lang), ", ".join(map(str, manifests)))
        records = [r for r in records if r.lang in _names(lang)]
    result = divided(records, _numbers(shares, "--shares"), by=_names(by), seed=seed)
    for name, members in result.sets.items():
        write_manifest(out / f"{name}.jsonl", members)
    _tables(described([r for members in result.sets.values() for r in members]))
    if result.left_out:
        hours = sum(r.duration or 0 for r in result.left_out) / 3600
        typer.echo(f"{len(result.left_out)} clips ({hours:.2f} h) left out: speaker and text fell into different sets")
    if result.unknown_speakers and "speaker" in _names(by):
        typer.echo(f"warning: {result.unknown_speakers} clips name no speaker; a voice may be in two sets", err=True)
    typer.echo(f"-> {', '.join(str(out / f'{name}.jsonl') for name in result.sets)}")


@app.command()
def mix(
    sources: Annotated[list[str], typer.Argument(help="MANIFEST=SHARE, two or more.", metavar="MANIFEST=SHARE...")],
    out: Annotated[Path, typer.Option("--out", help="Manifest to write.")],
    window: Annotated[int, typer.Option(help="Every window of so many clips keeps the ratio.")] = 100,
    repeat: Annotated[bool, typer.Option("--repeat", help="Repeat clips until every source was seen once.")] = False,
    seed: Seed = 0,
) -> None:
    """Mix manifests by ratio, kept in every window of clips and not only on average."""
    from training.data.manifest import write_manifest
    from training.data.sampling import mixed

    ratios: dict[str, float] = {}
    records: list[Record] = []
    names: list[str] = []
    for source in sources:
        file, _, share = source.rpartition("=")
        name = Path(file).stem if Path(file).stem not in ratios else file
        ratios[name] = _number(share, source)
        found = _read([Path(file)], None, None)
        records += [replace(r, id=f"{name}:{r.id}", extra={**r.extra, "mix": name}) for r in found]
        names += [name] * len(found)
    if len(ratios) < 2:
        raise DataError("There is one source to mix", valid="two or more MANIFEST=SHARE")
    total = sum(ratios.values())
    size = None if repeat else max(window, min(int(names.count(n) * total / s) for n, s in ratios.items() if s > 0))
    drawn = mixed(names, ratios, window=window, size=size, seed=seed)
    seen: dict[int, int] = {}
    chosen = []
    for index in drawn:
        seen[index] = seen.get(index, 0) + 1
        again = f"#{seen[index]}" if seen[index] > 1 else ""
        chosen.append(replace(records[index], id=records[index].id + again))
    write_manifest(out, chosen)
    counts = ", ".join(f"{n}: {sum(names[i] == n for i in drawn)}" for n in ratios)
    repeats = len(drawn) - len(seen)
    typer.echo(f"{len(drawn)} clips ({counts}{f'; {repeats} repeats' if repeats else ''}) -> {out}")


@app.command()
def codeswitch(
    manifests: Manifests,
    out: Out,
    lang: Annotated[str | None, typer.Option(help="Languages to switch between.  [default: all]")] = None,
    subset: Subset = None,
    clips: Annotated[int, typer.Option(help="Clips of each kind.")] = 50,
    kinds: Annotated[str, typer.Option(help="What to make.")] = "inter,intra,rapid,speaker-change,splice",
    voices: Annotated[Literal["same", "different", "both"], typer.Option(help="Who speaks.")] = "both",
    transcribed: Annotated[bool, typer.Option("--transcribed", help="Only pieces whose words are known.")] = False,
    speeds: Annotated[
        str,
        typer.Option(
            help="Each speaker at each of these speeds, as another voice: 0.8,1.25 gives voices that nobody has."
        ),
    ] = "1",
    seed: Seed = 0,
) -> None:
    """Make code-switched clips with exact segment times, and controls in which only the speaker changes."""
    from training.data.codeswitch import CodeSwitchOptions, make

    records = _read(manifests, None, subset)
    languages = _names(lang) if lang else sorted({r.lang for r in records})
    options = CodeSwitchOptions(
        clips, tuple(_names(kinds)), voices, transcribed=transcribed, speeds=_speeds(speeds), seed=seed
    )
    with _progress("clips") as advance:
        done = make(records, languages, out, options, progress=lambda _: advance())
    for note in done.notes[:20]:
        typer.echo(f"note: {note}", err=True)
    if len(done.notes) > 20:
        typer.echo(f"note: ... and {len(done.notes) - 20} more", err=True)
    minutes = sum(r.duration or 0 for r in done.records) / 60
    counts = ", ".join(f"{kind} {n}" for kind, n in done.counts.items())
    typer.echo(f"{len(done.records)} clips, {minutes:.1f} min ({counts}) -> {done.manifest}")


def _speeds(text: str) -> tuple[float, ...]:
    from zoo.errors import DataError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"--speeds is {text!r}", valid="factors from 0.5 to 2: 0.8,1.25") from None


def _read(manifests: list[Path], lang: str | None, subset: str | None, name_files: bool = False) -> "list[Record]":
    """All records; ids of several manifests are kept apart by the file's name where they clash."""
    from training.data.manifest import read_manifest

    found = {path: read_manifest(path, lang=lang, subset=subset) for path in manifests}
    if len(found) == 1:
        return next(iter(found.values()))
    records = []
    for path, members in found.items():
        for record in members:
            named = replace(record, id=f"{path.stem}:{record.id}")
            records.append(replace(named, subset=path.stem) if name_files and not record.subset else named)
    return records


def _tables(found: "Description") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("subset", "lang", title=None, box=None)
    for name in ("clips", "hours", "speakers", "texts", "words", "shortest s", "median s", "longest s"):
        table.add_column(name, justify="right")
    for p in found.parts:
        speakers = f"{p.speakers}" + (f" + {p.unknown_speakers} ?" if p.unknown_speakers else "")
        seconds = [f"{s:.1f}" for s in (p.shortest_s, p.median_s, p.longest_s)]
        lang = p.lang + (f" ({p.switched} switched)" if p.switched else "")
        table.add_row(p.subset, lang, f"{p.clips}", f"{p.hours:.2f}", speakers, f"{p.texts}", f"{p.words}", *seconds)
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    console.print(table)
    for o in found.overlaps:
        shared = [f"{n} {what}" for n, what in ((o.speakers, "speakers"), (o.texts, "texts"), (o.files, "files")) if n]
        console.print(f"{o.first} and {o.second} share in {o.lang}: {', '.join(shared)}", style="yellow")
    if len({p.subset for p in found.parts}) > 1 and not found.overlaps:
        console.print("no speaker, text or file is in two subsets", style="green")


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where!r} gives no number", valid="NAME=NUMBER, e.g. train=0.8") from None


def _numbers(text: str, where: str) -> dict[str, float]:
    pairs = [part.partition("=") for part in _names(text)]
    return {name.strip(): _number(value, f"{where} {name}={value}") for name, _, value in pairs}


def _progress(what: str):
    """A counter of clips on the terminal, with the rate; a context manager giving `advance`."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def shown():
        console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(what, total=None)
            yield lambda: progress.advance(task)

    return shown()
