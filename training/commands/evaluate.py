"""`boli evaluate routing|codeswitch|adapters|page|criteria`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from training.commands.codeswitch import codeswitch
from training.commands.options import (
    LONGEST_S,
    Batch,
    Beam,
    Bootstrap,
    Classifier,
    Context,
    CtcWeight,
    Device,
    Dtype,
    Languages,
    Limit,
    Manifests,
    Model,
    Output,
    Rank,
    Seed,
    StoreFolder,
    Subset,
    Tables,
    Variant,
)

if TYPE_CHECKING:
    from router.router import Router
    from training.clips import Clips

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Score adapters and routing; check the criteria.")


@app.callback()
def _root() -> None:
    """Score adapters and routing; check the criteria."""


app.command()(codeswitch)


@app.command()
def routing(
    manifest: Manifests,
    subset: Subset = None,
    policies: Annotated[str, typer.Option(help="Of hard, soft, threshold, hierarchical.")] = "hard,soft",
    full: Annotated[
        list[str] | None, typer.Option(help="Fully fine-tuned model: FOLDER, or LANGUAGE=FOLDER. May be repeated.")
    ] = None,
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    classifier: Classifier = None,
    languages: Languages = None,
    variant: Variant = None,
    rank: Rank = None,
    limit: Limit = 0,
    json: Output = None,
    tables: Tables = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    batch_size: Batch = 16,
    beam_size: Beam = None,
    top_k: Annotated[int | None, typer.Option(help="soft: mix at most this many languages.")] = None,
    threshold: Annotated[float, typer.Option(help="threshold: one language above this probability.")] = 0.8,
    latency_clips: Annotated[int, typer.Option(help="Time this many clips that come alone; 0: none.")] = 40,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
) -> None:
    """Base alone, oracle adapter, the model's own detection and each policy on the same clips: error rates, routing
    accuracy and confusion, what routing costs against the oracle, latency by stage, memory and parameters."""
    import router as routers
    from router.policies import POLICIES
    from training.evaluation import provenance, report
    from training.evaluation.routing import evaluate_routing
    from zoo.errors import RoutingError

    wanted = policies.split(",")
    if unknown := [policy for policy in wanted if policy not in POLICIES]:
        raise RoutingError(f"Policy {unknown[0]!r} is unknown", valid=", ".join(POLICIES))
    clips = _clips(manifest, subset, languages, limit)
    settings: dict[str, Any] = {"device": device, "dtype": dtype, "context": context}
    loaded = routers.load(
        model,
        store,
        classifier,
        variant=variant,
        rank=rank,
        top_k=top_k,
        threshold=threshold,
        batch_size=batch_size,
        beam_size=beam_size,
        **settings,
    )
    search = _search_of(loaded, batch_size)
    others = [
        _fully_tuned(entry, {**settings, "context": context or loaded.base.context}, search) for entry in full or ()
    ]
    found = evaluate_routing(
        loaded, clips, wanted, full=others, latency_clips=latency_clips, bootstrap=bootstrap, seed=seed
    )
    sizes = provenance.sizes(loaded)
    out = report.console()
    for table in (report.error_rates(found.measurements), report.accuracies(found.measurements)):
        out.print(table)
    for table in report.confusions(found.confusion):
        out.print(table)
    if latency_clips:
        out.print(report.latencies(found.measurements))
    for line in report.notes(found.measurements, sizes):
        out.print(line)
    if left := len(clips) - len(found.scorable):
        out.print(f"{left} clips speak languages that {loaded.base.card.name} cannot write: routed, not scored.")
    _finish(json, tables, found.systems, found.measurements, loaded, clips, manifest, sizes, confusion=found.confusion)


@app.command()
def adapters(
    manifest: Manifests,
    subset: Subset = None,
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    languages: Languages = None,
    variant: Variant = None,
    rank: Rank = None,
    limit: Limit = 0,
    json: Output = None,
    tables: Tables = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    context: Context = None,
    batch_size: Batch = 16,
    beam_size: Beam = None,
    bootstrap: Bootstrap = 1000,
    seed: Seed = 0,
) -> None:
    """Every adapter of the store (newest version of each rank and variant) against the base alone, on the clips of its
    language."""
    import router as routers
    from training.evaluation import provenance, report
    from training.evaluation.adapters import evaluate_adapters, newest
    from zoo.errors import StoreError

    clips = _clips(manifest, subset, languages, limit)
    loaded = routers.load(
        model,
        store,
        device=device,
        dtype=dtype,
        context=context,
        variant=variant,
        rank=rank,
        batch_size=batch_size,
        beam_size=beam_size,
    )
    if loaded.store is None:
        raise StoreError("No store was named", valid="a folder of adapters", remedy="--store FOLDER")
    chosen = newest(loaded.store.find(base=loaded.base.card.name, variant=variant, rank=rank))
    systems, measurements = evaluate_adapters(loaded, chosen, clips, bootstrap=bootstrap, seed=seed)
    sizes = provenance.sizes(loaded)
    out = report.console()
    out.print(report.error_rates(measurements))
    for line in report.notes(measurements, sizes):
        out.print(line)
    _finish(json, tables, systems, measurements, loaded, clips, manifest, sizes)


@app.command()
def page(
    corpus: Annotated[Path, typer.Argument(help="Folder that `python -m training.data.embedded --out` made.")],
    document: Annotated[Path, typer.Option("--write", help="Markdown file whose measured part is replaced.")],
    full: Annotated[
        list[str] | None, typer.Option(help="Fully fine-tuned model of a language: LANGUAGE=FOLDER. May be repeated.")
    ] = None,
    classifier_run: Annotated[
        list[Path] | None, typer.Option(help="Run of boli train classifier, for its tables. May be repeated.")
    ] = None,
    tap_run: Annotated[
        list[Path] | None,
        typer.Option(help="Run of boli train classifier on one of the layers that are compared. May be repeated."),
    ] = None,
    corpora: Annotated[
        str | None,
        typer.Option(help="Of people, only clips of these corpora, which nothing measured was trained on: a,b"),
    ] = None,
    part: Annotated[str, typer.Option(help="Name in the two marks that the tables stand between.")] = "measured",
    model: Model = "boli-embedded",
    store: StoreFolder = None,
    classifier: Classifier = None,
    context: Context = None,
    beam_size: Beam = None,
    ctc_weight: CtcWeight = None,
    limit: Limit = 80,
    batch_size: Batch = 16,
    bootstrap: Bootstrap = 1000,
) -> None:
    """The tables of docs/embedded.md: human speech first (unseen speakers; known speakers, unseen texts), then synthetic
    (`limit` clips a language); base, full fine-tuning, every adapter, routing, and languages heard. With `corpora`, of a
    model that was trained without them (training/recipes/embedded/across.yaml)."""
    import router as routers
    from training.data.files import written_whole
    from training.evaluation import page as pages
    from training.evaluation.adapters import newest
    from zoo.errors import DataError

    if not document.is_file():
        raise DataError(f"{document} is no file", valid="a Markdown file with the two marks", remedy="--write FILE")
    text = document.read_text(encoding="utf-8")
    pages.replace_measured(text, [], str(document), part)  # before the work, not after it
    loaded = routers.load(
        model, store, classifier, context=context, beam_size=beam_size, ctc_weight=ctc_weight, batch_size=batch_size
    )
    if loaded.store is None:
        raise DataError("No store was named", valid="a folder of adapters", remedy="--store FOLDER")
    adapters = newest(loaded.store.find(base=loaded.base.card.name))
    spoken = sorted({stored.key.language for stored in adapters} | {"en"})
    search = _search_of(loaded, batch_size)
    others = [_fully_tuned(entry, {"context": loaded.base.context}, search) for entry in full or ()]
    lines = [f"Beams of the search: {search['beam_size']}; share of CTC in its scores: {search['ctc_weight']:g}.", ""]
    tests: list[pages.TestSet] = []
    for title, pattern, of, most in pages.sets(corpora, limit):
        manifests = [corpus / pattern.format(language) for language in spoken]
        manifests = [path for path in manifests if path.is_file()]
        if not manifests:
            raise DataError(
                f"{corpus} holds no {pattern.format('LANGUAGE')}",
                valid="a folder made by python -m training.data.embedded --out DIR",
            )
        test = pages.TestSet(title, _clips(manifests, None, None, most, of))
        tests.append(test)
        found = pages.measure(loaded, adapters, test, others, ["hard", "soft"], bootstrap)
        lines += [
            f"### {title}",
            "",
            pages.about(test),
            "",
            "Word error rate in %, Indic normaliser [95 % interval]:",
            "",
        ]
        lines += [*pages.error_table(found), "", "Character error rate in %:", "", *pages.error_table(found, "cer"), ""]
        lines += ["Clips whose language was heard, in % (clips):", "", *pages.language_table(found), ""]
        typer.echo(f"{title}: {len(test.clips)} clips")
    if classifier_run:
        title = "### The classifier beside the spectrum alone" + (", unseen corpora" if corpora else "")
        lines += [title, "", *pages.classifier_table(classifier_run), ""]
    if tap_run:

        def load(folder: Path):
            return routers.load(
                model, store, folder, context=context, beam_size=beam_size, ctc_weight=ctc_weight, batch_size=batch_size
            )

        lines += ["### The tap", "", *pages.tap_table(tap_run, load, [tests[0], tests[-1]]), ""]
    with written_whole(document) as temporary:
        temporary.write_text(pages.replace_measured(text, lines[:-1], str(document), part), encoding="utf-8")
    typer.echo(f"written: {document}")


@app.command()
def criteria(
    scores: Annotated[list[Path], typer.Argument(help="Score files that boli evaluate ... --json wrote.")],
    json: Output = None,
) -> int:
    """The study's success criteria: pass, fail, or not measured. Exit code 1 where one fails."""
    import json as json_format

    from training.data.files import written_whole
    from training.evaluation import report
    from training.evaluation.criteria import check
    from training.evaluation.measurements import read_scores

    results = check([read_scores(path) for path in scores])
    out = report.console()
    out.print(report.criteria_table(results))
    counts = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "not measured")}
    out.print(", ".join(f"{n} {status}" for status, n in counts.items()))
    if json is not None:
        with written_whole(json) as temporary:
            content = {"kind": "boli.criteria", "criteria": [r.to_dict() for r in results]}
            temporary.write_text(json_format.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return 1 if counts["fail"] else 0


def _clips(
    manifests: list[Path], subset: str | None, languages: str | None, limit: int, corpora: str | None = None
) -> "Clips":
    """The clips of all manifests, decoded. Those in several languages are left to `boli evaluate codeswitch`."""
    from training.clips import describe_skipped, load_clips
    from training.data.manifest import read_manifest, require_languages
    from training.recipe import DataOptions
    from training.validation import spread
    from zoo.errors import DataError

    records = [record for path in manifests for record in read_manifest(path, subset=subset)]
    if languages:
        wanted = languages.split(",")
        records = [record for record in records if record.lang in wanted]
        require_languages(records, wanted, ", ".join(map(str, manifests)))
    if corpora:
        found = {record.corpus for record in records}
        records = [record for record in records if record.corpus in corpora.split(",")]
        if not records:
            raise DataError(f"No clip is of corpus {corpora}", valid=", ".join(sorted(found)))
    switched = [record for record in records if len(record.languages) > 1]
    records = [record for record in records if len(record.languages) == 1]
    if not records:
        raise DataError(
            f"All {len(switched)} clips switch language", remedy="boli evaluate codeswitch --manifest MANIFEST"
        )
    records = [records[i] for i in spread(limit, [record.lang for record in records])]
    clips = load_clips(records, DataOptions(max_duration_s=LONGEST_S))
    if clips.skipped:
        typer.echo(describe_skipped(clips), err=True)
    if switched:
        typer.echo(f"{len(switched)} clips switch language: left to boli evaluate codeswitch", err=True)
    return clips


def _search_of(loaded: "Router", batch_size: int) -> dict[str, Any]:
    """What another model is to be searched with, to be compared with this one."""
    return {
        "batch_size": batch_size,
        "beam_size": loaded.options.beam_size,
        "ctc_weight": loaded.options.ctc_weight,
    }


def _fully_tuned(entry: str, settings: dict[str, Any], search: dict[str, Any]) -> "tuple[str, Router]":
    """`FOLDER` or `LANGUAGE=FOLDER` -> (language or empty, a Router of that model without adapters)."""
    import zoo
    from router.options import TranscribeOptions
    from router.router import Router

    language, separator, folder = entry.partition("=")
    if not separator:
        language, folder = "", entry
    return language, Router(zoo.load(folder, **settings), None, None, TranscribeOptions(**search))


def _finish(
    json: Path | None, tables: Path | None, systems, measurements, loaded, clips, manifests, sizes, **more: Any
) -> None:
    """Write what was asked for."""
    import re

    from training.evaluation.measurements import write_scores
    from training.evaluation.metrics import align
    from training.evaluation.normalisers import normaliser
    from training.evaluation.provenance import provenance
    from training.evaluation.tables import write_tables

    if tables is not None:
        for system in systems:
            positions = sorted(system.heard)
            records = [clips.records[i] for i in positions]
            texts = [system.heard[i].text for i in positions]
            aligned = align([r.text for r in records], texts, [r.lang for r in records], normaliser("indic"))
            write_tables(tables / re.sub(r"[^\w.+-]+", "_", system.label), records, texts, aligned)
    if json is not None:
        about = provenance(loaded, clips, manifests)
        path = write_scores(json, measurements, **about, sizes=sizes, **more)
        typer.echo(f"written: {path}")
