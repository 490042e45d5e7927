"""The measured part of docs/embedded.md: tables made of the published model, adapters and classifier.

Human speech stands first. Each set is transcribed by every system on one loaded base: the base alone, full fine-tuning
where given, each adapter with the language told, the model's own detection, and the router's policies.
"""

import csv
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.evaluation.adapters import evaluate_adapters
from training.evaluation.measurements import Measurement
from training.evaluation.metrics import align, summarise
from training.evaluation.normalisers import normaliser
from training.evaluation.routing import evaluate_routing, source_of
from zoo.errors import DataError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from router.router import Router
    from training.clips import Clips

NORMALISER = "indic"


@dataclass(frozen=True)
class TestSet:
    """Clips that are reported on together."""

    title: str
    clips: "Clips"


def sets(corpora: str | None, limit: int) -> list[tuple[str, str, str | None, int]]:
    """Title, manifests, corpora (None: all) and most clips a language of each set of the page."""
    unseen, known, synthetic = "human_{}_test.jsonl", "human_{}_known_speaker.jsonl", "{}_test.jsonl"
    if corpora:
        return [
            ("Human speech, unseen corpora", unseen, corpora, 0),
            ("Human speech, unseen corpora, their other speakers", known, corpora, 0),
            ("Synthetic speech, unseen voices and texts, the same models", synthetic, None, limit),
        ]
    return [
        ("Human speech, unseen speakers and texts", unseen, None, 0),
        ("Human speech, speakers of the training set, unseen texts", known, None, 0),
        ("Synthetic speech, unseen voices and texts", synthetic, None, limit),
    ]


def measure(
    router: "Router",
    adapters: "Sequence[StoredAdapter]",
    test: TestSet,
    full: "Sequence[tuple[str, Router]]",
    policies: Sequence[str],
    bootstrap: int,
) -> list[Measurement]:
    """All systems on one set."""
    found = evaluate_adapters(router, adapters, test.clips, bootstrap=bootstrap)[1]
    routed = evaluate_routing(router, test.clips, policies, full=full, latency_clips=0, bootstrap=bootstrap)
    return [*(m for m in found if m.system == "adapter"), *routed.measurements]


def error_table(measurements: Sequence[Measurement], measure: str = "wer") -> list[str]:
    """Markdown: a line per language, a column per system; rates in %, 95 % interval, reference words."""
    cells: dict[str, dict[str, Measurement]] = {}
    for m in measurements:
        if m.measure == measure and m.normaliser == NORMALISER and m.language and m.value is not None:
            cells.setdefault(m.language, {})[_column(m)] = m
    columns = sorted({column for row in cells.values() for column in row}, key=_order)
    unit = {"wer": "words", "cer": "characters"}[measure]
    lines = [f"| | {unit} | " + " | ".join(columns) + " |", "|---|" + "---|" * (len(columns) + 1)]
    for language, row in sorted(cells.items()):
        counts = {m.count for m in row.values()}
        count = "/".join(f"{n:,}" for n in sorted(counts))
        lines.append(f"| {language} | {count} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |")
    return lines


def language_table(measurements: Sequence[Measurement]) -> list[str]:
    """Markdown: share of clips whose language was heard, per language, for each system that finds it by itself."""
    found = [
        m
        for m in measurements
        if m.measure in ("routing_accuracy", "detection_accuracy") and not m.conditions.get("of")
    ]
    names = [name for name in ("hard", "detected") if any(_column(m) == name for m in found)]
    languages = sorted({m.language for m in found if m.language})
    if not names:
        return []
    lines = ["| | " + " | ".join([*languages, "balanced", "all"]) + " |", "|---|" + "---|" * (len(languages) + 2)]
    for name in names:
        own = {m.language: m for m in found if _column(m) == name}
        each = [own[language].value or 0.0 for language in languages]
        cells = [f"{100 * (own[language].value or 0):.1f} ({own[language].count})" for language in languages]
        title = "classifier" if name == "hard" else "the model's own detection"
        whole = f"{100 * (own[''].value or 0):.1f} ({own[''].count})" if "" in own else "-"
        lines.append(f"| {title} | " + " | ".join([*cells, f"{100 * sum(each) / len(each):.1f}", whole]) + " |")
    return lines


def classifier_table(runs: Sequence[Path]) -> list[str]:
    """Markdown of `boli train classifier` runs: every head and the spectrum alone, within and across corpora.

    Raises DataError where a run has no results.csv.
    """
    lines = ["| run | test set | slice | clips | head | accuracy | balanced |", "|---|---|---|---|---|---|---|"]
    for run in runs:
        for row in _results(Path(run)):
            if row["slice"] in ("all", "within corpora", "across corpora") and row.get("balanced_accuracy"):
                shares = [f"{100 * float(row[key]):.1f}" for key in ("accuracy", "balanced_accuracy")]
                name = Path(run).name.split("_", 1)[-1]
                lines.append(
                    f"| {name} | {row['test']} | {row['slice']} | {row['clips']} | {row['head']} | "
                    + " | ".join(shares)
                    + " |"
                )
    return lines


def tap_table(runs: Sequence[Path], load: "Callable[[Path], Router]", tests: Sequence[TestSet]) -> list[str]:
    """Markdown of `boli train classifier` runs on several layers: what each hears, what is written with it, how long it takes.

    load: a router with the classifier in a folder; tests: clips that are routed (hard, nothing heard twice) with each.
    Raises DataError where a run is not finished.
    """
    heads = [f"words wrong: {test.title[0].lower() + test.title[1:]}, %" for test in tests]
    lines = [
        "| tap | validation balanced, % | frames of validation right, % | test set balanced, head alone, % | with own detection, % | "
        + " | ".join(heads)
        + " | ms a clip to encode and hear |",
        "|---" * (6 + len(tests)) + "|",
    ]
    found = []
    for run in runs:
        final = _final(Path(run))
        router = load(Path(run) / "classifier")
        shares = {row["head"]: float(row["balanced_accuracy"]) for row in _results(Path(run)) if row["slice"] == "all"}
        name = next(head for head in shares if head != "spectrum")
        measured = [final["valid_balanced_accuracy"], final["valid_frame_accuracy"], shares[name]]
        measured.append(shares.get(f"{name} + own detection", math.nan))
        cells = [f"{100 * share:.1f}" for share in measured]
        spent = 0.0
        for test in tests:
            clips = test.clips
            texts = []
            for transcript in router.transcribe((clips.audio(i) for i in range(len(clips))), switching=False):
                texts.append(transcript.text)
                spent += sum(transcript.timings.get(stage, 0.0) for stage in ("features", "encode", "classify"))
            told = [record.text for record in clips.records], [record.lang for record in clips.records]
            wer = summarise(align(told[0], texts, told[1], normaliser(NORMALISER)), bootstrap=0).wer
            cells.append(f"{100 * (wer.value or 0.0):.1f} ({wer.reference:,})")
        cells.append(f"{1000 * spent / max(1, sum(len(test.clips) for test in tests)):.0f}")
        found.append((router.base.tap, f"| {router.base.tap} | " + " | ".join(cells) + " |"))
    return [*lines, *(line for _, line in sorted(found))]


def _of_run(run: Path, name: str) -> str:
    path = run / name
    if not path.is_file():
        raise DataError(f"{run} holds no {name}", valid="the folder of a finished boli train classifier")
    return path.read_text(encoding="utf-8")


def _results(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(_of_run(run, "results.csv").splitlines()))


def _final(run: Path) -> dict[str, float]:
    return json.loads(_of_run(run, "metrics.json"))["final"]


def about(test: TestSet) -> str:
    """How much of what the set holds."""
    clips = test.clips
    parts = []
    for language in sorted({r.lang for r in clips.records}):
        own = [r for r in clips.records if r.lang == language]
        corpora = sorted({str(r.extra.get("corpus", "")) or source_of(r) for r in own} - {""})
        parts.append(f"{language} {len(own)} clips of {len({r.speaker for r in own})} speakers ({', '.join(corpora)})")
    return f"{len(clips)} clips, {60 * clips.hours:.1f} minutes: " + "; ".join(parts) + "."


def replace_measured(document: str, lines: Sequence[str], where: str, part: str = "measured") -> str:
    """The document with what lies between the two marks `<!-- PART: begin -->` and `<!-- PART: end -->` replaced.

    Raises DataError where the marks are missing.
    """
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    if document.count(begin) != 1 or document.count(end) != 1 or document.index(begin) > document.index(end):
        raise DataError(f"{where} has no place for tables", valid=f"one line {begin} and, below it, one line {end}")
    head, rest = document.split(begin)
    tail = rest.split(end)[1]
    return "\n".join([head + begin, "", *lines, "", end + tail])


def _column(m: Measurement) -> str:
    if m.system == "adapter":
        rank, variant = m.conditions["rank"], m.conditions["variant"]
        return f"r{rank}" if variant == "default" else f"r{rank} {variant}"
    if m.system == "routed":
        return str(m.conditions["policy"])
    return m.system


def _order(column: str) -> tuple[int, int, str]:
    if column.startswith("r") and column.split()[0][1:].isdigit():
        name, _, variant = column.partition(" ")
        return (3 if variant else 2, int(name[1:]), variant)
    fixed = ["base", "full", "", "", "oracle", "detected", "hard", "soft", "threshold", "hierarchical"]
    return (fixed.index(column) if column in fixed else len(fixed), 0, column)


def _cell(m: Measurement | None) -> str:
    if m is None or m.value is None:
        return "-"
    interval = "" if m.low is None or m.high is None else f" [{100 * m.low:.0f}, {100 * m.high:.0f}]"
    return f"{100 * m.value:.1f}{interval}"
