"""What `boli evaluate codeswitch` prints, writes and draws."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.files import written_whole
from training.evaluation import report as tables_of
from training.evaluation.codeswitching import CodeSwitchReport, worst
from training.evaluation.codeswitching_runs import BY_ITSELF, kind_of
from training.evaluation.criteria import CRITERIA
from training.evaluation.measurements import Measurement, write_scores
from training.evaluation.report import percent
from training.evaluation.switches import Matching, spoken_switches

if TYPE_CHECKING:
    from rich.table import Table

    from router.router import Router

Rows = list[list[str]]
CAUSAL = (
    ("recall", "switch_recall"), ("precision", "switch_precision"), ("median delay", "switch_delay_median_s"),
    ("p90 delay", "switch_delay_p90_s"), ("within 0.5 s", "switch_within_0.5s"), ("within 1 s", "switch_within_1s"),
    ("false a minute", "switch_false_alarms_per_minute"),
)  # fmt: skip


def cell(m: Measurement | None) -> str:
    """Rates in percent, times in seconds."""
    if m is None or m.value is None:
        return "-"
    if m.measure.endswith("_s"):
        return f"{m.value:.2f} s"
    return f"{m.value:.1f}" if m.measure.endswith("_per_minute") else percent(m)


def what(m: Measurement) -> tuple[str, str]:
    """(kind of speech, kind of clip; `all`)."""
    return m.speech or "-", str(m.conditions.get("kind", "all"))


def criteria_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """Those that these measurements answer, each kind of speech for itself."""
    measured = [m for m in report.measurements if m.value is not None]
    kinds = sorted({m.speech for m in measured if m.measure == "switch_recall"})
    rows = []
    for criterion in CRITERIA:
        judged = [criterion.judge([m for m in measured if m.speech == speech]) for speech in kinds]
        if any(status != "not measured" for status, _, _ in judged):
            cells = (f"{m.value:.3g}, {status}" if m is not None else status for status, m, _ in judged)
            rows.append([criterion.name, criterion.goal, *cells])
    return ["criterion", "goal", *(speech or "-" for speech in kinds)], rows


def causal_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """How quickly switches are noticed, by kind of speech and clip."""
    found = {
        (what(m), m.measure.removeprefix("kind_")): m
        for m in report.measurements
        if m.conditions.get("mode") == "causal"
    }
    rows = []
    for key in sorted({key for key, _ in found}, key=lambda key: (key[0], key[1] != "all", key[1])):
        recall = found.get((key, "switch_recall"))
        rows.append([*key, str(recall.count if recall else 0), *(cell(found.get((key, name))) for _, name in CAUSAL)])
    return ["speech", "clips", "switches", *(title for title, _ in CAUSAL)], rows


def told_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """The new language, heard by who is told where it begins."""
    found = [m for m in report.measurements if m.measure == "language_told_where"]
    seconds = sorted({m.conditions["seconds"] for m in found})
    rows = []
    for speech, head in sorted({(m.speech, m.conditions["head"]) for m in found}):
        own = {m.conditions["seconds"]: m for m in found if (m.speech, m.conditions["head"]) == (speech, head)}
        cells = (f"{percent(own[s])} ({own[s].count})" if s in own else "-" for s in seconds)
        rows.append([speech or "-", head, *cells])
    return ["speech", "head", *(f"after {s:g} s" for s in seconds)], rows


def offline_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """Precision / recall / F1 within three tolerances, and the time written in its language."""
    found: dict[tuple, dict[tuple, Measurement]] = {}
    for m in report.measurements:
        if m.conditions.get("mode") == "offline":
            way = f"{m.conditions['policy']} {m.conditions['strategy']}"
            name = m.measure.removeprefix("kind_"), m.conditions.get("tolerance_s")
            found.setdefault((*what(m), way), {})[name] = m
    tolerances = (0.25, 0.5, 1.0)
    rows = []
    for key, own in sorted(found.items(), key=lambda item: (item[0][0], item[0][1] != "all", item[0])):
        cells = []
        for tolerance in tolerances:
            parts = [own.get((f"switch_{name}", tolerance)) for name in ("precision", "recall", "f1")]
            shown = [f"{100 * m.value:.0f}" if m is not None and m.value is not None else "-" for m in parts]
            cells.append(" / ".join(shown))
        rows.append(
            [
                *key,
                *cells,
                cell(own.get(("switch_false_alarms_per_minute", 1.0))),
                cell(own.get(("time_language_accuracy", None))),
                cell(own.get(("dropped_audio_s", None))),
            ]
        )
    heads = [f"P / R / F1 within {tolerance:g} s" for tolerance in tolerances]
    return ["speech", "clips", "policy", *heads, "false a minute", "time in its language", "audio left out"], rows


def word_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """Error rates and what became of the words at the switches."""
    found: dict[tuple, dict[tuple[str, str], Measurement]] = {}
    for m in report.measurements:
        if m.normaliser and "kind" not in m.conditions:
            way = " ".join([m.system, *(str(value) for value in m.conditions.values())])
            found.setdefault((m.speech or "-", way), {})[m.measure, m.normaliser] = m
    columns = [
        ("WER", "wer", "indic"), ("WER raw", "wer", "raw"), ("CER", "cer", "indic"), ("MER", "mer", "indic"),
        ("PIER", "pier", "indic"), ("words in their language", "word_language_accuracy", "indic"),
        ("dropped at seams", "seam_words_dropped", "indic"), ("doubled at seams", "seam_words_doubled", "indic"),
        ("against one by one", "degradation_against_one_by_one", "indic"),
    ]  # fmt: skip
    rows = [
        [*key, str(own["wer", "indic"].count), *(cell(own.get((name, normaliser))) for _, name, normaliser in columns)]
        for key, own in sorted(found.items())
        if ("wer", "indic") in own
    ]
    return ["speech", "system", "words", *(title for title, _, _ in columns)], rows


def kind_rows(report: CodeSwitchReport) -> tuple[list[str], Rows]:
    """WER by kind of clip: switched, and one by one, under the first policy."""
    first = report.runs[0].system.conditions["policy"]
    found: dict[tuple[str, str], dict[str, Measurement]] = {}
    for m in report.measurements:
        if (
            m.measure == "kind_wer" and m.normaliser == "indic" and m.conditions.get("policy", first) == first
            and m.conditions.get("strategy", "segments") == "segments"
        ):  # fmt: skip
            found.setdefault(what(m), {})[m.system] = m
    names = ["switched", BY_ITSELF, "unswitched", "one-by-one", "one-by-one-told"]
    rows = [
        [*key, str(next(iter(own.values())).count), *(cell(own.get(name)) for name in names)]
        for key, own in sorted(found.items())
    ]
    return ["speech", "clips", "words", *(f"WER {name}" for name in names)], rows


def worst_rows(report: CodeSwitchReport, chosen: Sequence[tuple[int, Matching]]) -> tuple[list[str], Rows]:
    rows = []
    for i, matching in chosen:
        record = report.clips.records[i]
        rows.append(
            [
                record.id,
                kind_of(record),
                " ".join(f"{segment.lang} {segment.start:.1f}" for segment in record.segments) or record.lang,
                " ".join(f"{s.language} {s.start:.1f}" for s in report.runs[0].transcripts[i].segments) or "-",
                str(len(matching.missed)),
                str(len(matching.false)),
            ]
        )
    return ["clip", "kind", "spoken (from, s)", "found", "missed", "invented"], rows


def sections(report: CodeSwitchReport, most: int) -> list[tuple[str, tuple[list[str], Rows]]]:
    return [
        ("The study's criteria", criteria_rows(report)),
        ("Causally: delay from the new language's start to the decision, look-ahead and hop included", causal_rows(report)),
        ("Told where the language changes: the new one heard right, in % (switches)", told_rows(report)),
        ("Offline: switches found, in %", offline_rows(report)),
        ("Words, in % (95 % interval)", word_rows(report)),
        ("Word error rate by kind of clip, in %", kind_rows(report)),
        ("The worst clips", worst_rows(report, worst(report, most))),
    ]  # fmt: skip


def notes(report: CodeSwitchReport) -> list[str]:
    """What fits no table."""
    lines = []
    for m in report.measurements:
        if m.measure == "switch_hop_s" and m.value is not None:
            lines.append(
                f"Causally each hop took {1000 * m.value:.0f} ms to compute, which the delays above leave out (median of "
                f"{m.count}, one at a time; {m.conditions['machine']})."
            )
        if m.measure in ("shown_where_switched", "shown_where_not") and m.value is not None:
            where = "several languages" if m.measure == "shown_where_switched" else "one language"
            lines.append(
                f"Switching would be on by itself in {100 * m.value:.1f} % of {m.count} "
                f"{m.speech or 'unnamed'} clips in {where}."
            )
    return lines


def show(report: CodeSwitchReport, most: int) -> None:
    out = tables_of.console()
    for title, (columns, rows) in sections(report, most):
        if rows:
            out.print(_rich(title, columns, rows))
    for line in notes(report):
        out.print(line)


def _rich(title: str, columns: Sequence[str], rows: Rows) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def write_json(path: Path, report: CodeSwitchReport, router: "Router", manifests: Mapping[str, str], most: int) -> Path:
    """The score file: measurements, provenance, parameters of the decisions, the curve, the worst clips."""
    from training.evaluation.provenance import provenance, sizes

    columns, rows = worst_rows(report, worst(report, most))
    about = provenance(router, report.clips, [])
    about["test_set"]["manifests"] = dict(manifests)
    return write_scores(
        path,
        report.measurements,
        **about,
        sizes=sizes(router),
        switching={"offline": vars(router.smoothing), "causal": vars(router.causal)},
        curve=report.curve,
        worst=[dict(zip(columns, row, strict=True)) for row in rows],
    )


def write_tables(folder: Path, report: CodeSwitchReport) -> Path:
    """switches.csv: every switch spoken, found or invented, offline (within 1 s) and causal; texts.csv: what each system
    wrote."""
    from training.evaluation.switches import decided_switches, found_switches, match, match_decisions

    run = report.runs[0]
    with _csv(
        folder / "switches.csv", ["clip", "kind", "mode", "spoken_s", "language", "found_s", "offset_s"]
    ) as write:
        for i in range(len(report.clips)):
            record = report.clips.records[i]
            spoken = spoken_switches(record)
            offline = match(found_switches(run.transcripts[i]), spoken, 1.0)
            causal = match_decisions(decided_switches(report.changes.get(i, [])), spoken)
            for mode, matching in (("offline", offline), ("causal", causal)):
                name = [record.id, kind_of(record), mode]
                for f, s in matching.pairs:
                    write([*name, s.high, s.language, f.time, round(f.time - s.high, 3)])
                for s in matching.missed:
                    write([*name, s.high, s.language, "", ""])
                for f in matching.false:
                    write([*name, "", f.language, f.time, ""])
    with _csv(folder / "texts.csv", ["clip", "kind", "system", "language", "text"]) as write:
        for i in report.switched:
            record = report.clips.records[i]
            name = [record.id, kind_of(record)]
            for segment in record.segments:
                write([*name, "spoken", segment.lang, segment.text])
            for own in report.runs:
                for text, language in own.parts.get(i, ()):
                    write([*name, own.system.label, language, text])
    return folder


class _csv:
    """A CSV file that appears whole; inside the block, a function that writes a row. Spreadsheets know it for UTF-8."""

    def __init__(self, path: Path, columns: Sequence[str]):
        self.whole, self.columns = written_whole(path), columns

    def __enter__(self):
        self.file = open(self.whole.__enter__(), "w", encoding="utf-8-sig", newline="")
        writer = csv.writer(self.file)
        writer.writerow(self.columns)
        return writer.writerow

    def __exit__(self, *error: Any):
        self.file.close()
        return self.whole.__exit__(*error)
