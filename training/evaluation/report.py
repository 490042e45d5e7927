"""Evaluation results as tables for people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.evaluation.measurements import Measurement
from training.evaluation.systems import STAGES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from training.evaluation.criteria import CriterionResult

WIDTH = 200  # columns where standard output is no terminal


def console() -> "Console":
    import sys

    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)


def label(m: Measurement) -> str:
    """How tables call a system: its name and what tells it apart."""
    told_apart = [str(m.conditions[key]) for key in ("policy", "model", "adapter") if key in m.conditions]
    return " ".join([m.system, *told_apart])


def value(m: Measurement) -> float:
    """Of a measurement that is made only where there is something to measure."""
    assert m.value is not None, m.measure
    return m.value


def percent(m: Measurement | None) -> str:
    if m is None or m.value is None:
        return "-"
    interval = "" if m.low is None or m.high is None else f" [{100 * m.low:.1f}, {100 * m.high:.1f}]"
    return f"{100 * m.value:.1f}{interval}"


def error_rates(measurements: Sequence[Measurement]) -> "Table":
    """One line per language, kind of speech and system: WER under three normalisers, CER, and what was lost."""
    table = _table(
        "Error rates in % (95 % interval)",
        ["language", "speech", "system", "WER Indic", "WER Whisper", "WER raw", "CER Indic", "CER raw",
         "words", "dropped", "loops", "against oracle or base"],
    )  # fmt: skip
    cells: dict[tuple, dict[tuple[str, str], Measurement]] = {}
    for m in measurements:
        if m.normaliser:
            cells.setdefault((m.language, m.speech, label(m)), {})[m.measure, m.normaliser] = m
    last = None
    for (language, speech, name), found in sorted(cells.items(), key=lambda item: (item[0][0] == "", *item[0][:2])):
        if not found.get(("wer", "raw")):
            continue
        if last not in (None, (language, speech)):
            table.add_section()
        last = (language, speech)
        change = ""
        if gap := found.get(("degradation_against_oracle", "indic")):
            change = f"{100 * value(gap):+.1f} % WER"
        elif gain := found.get(("reduction_against_base", "indic")):
            change = f"{-100 * value(gain):+.1f} % WER"
        table.add_row(
            language or "all", speech or "-", name,
            *(percent(found.get(("wer", n))) for n in ("indic", "whisper", "raw")),
            *(percent(found.get(("cer", n))) for n in ("indic", "raw")),
            str(found["wer", "raw"].count),
            str(found["dropped_runs", "raw"].value), str(found["loops", "raw"].value), change,
        )  # fmt: skip
    return table


def accuracies(measurements: Sequence[Measurement]) -> "Table":
    """One line per system: accuracy over all clips, then per language and corpus."""
    found = [m for m in measurements if m.measure.endswith(("routing_accuracy", "detection_accuracy"))]
    columns = list(dict.fromkeys(_where(m) for m in found))
    table = _table("Routing accuracy in % (clips)", ["system", *columns])
    for name in dict.fromkeys(label(m) for m in found):
        own = {_where(m): m for m in found if label(m) == name}
        table.add_row(name, *(f"{100 * value(own[c]):.1f} ({own[c].count})" if c in own else "-" for c in columns))
    return table


def _where(m: Measurement) -> str:
    return m.language or m.conditions.get("corpus") or m.conditions.get("of", "all")


def confusions(confusion: dict[str, dict[str, dict[str, int]]]) -> "list[Table]":
    """One table per system: spoken down, heard across. Systems that heard the same share one."""
    alike: dict[str, list[str]] = {}
    for name, rows in confusion.items():
        alike.setdefault(repr(rows), []).append(name)
    tables = []
    for names in alike.values():
        rows = confusion[names[0]]
        heard = sorted({h for row in rows.values() for h in row} | set(rows))
        table = _table("Spoken (down), heard (across)", ["", *heard])
        for spoken, row in rows.items():
            table.add_row(spoken, *(str(row.get(h, 0)) for h in heard))
        tables.append(table)
        table.caption, table.caption_justify = "; ".join(names), "left"
    return tables


def latencies(measurements: Sequence[Measurement]) -> "Table":
    """Milliseconds per stage, median / 95th percentile."""
    stages = [*STAGES, "total"]
    found = {(label(m), m.measure): m for m in measurements if m.measure.startswith("latency_")}
    table = _table("Milliseconds a clip that comes alone, p50 / p95", ["system", "clips", *stages])
    for name in dict.fromkeys(name for name, _ in found):
        cells = [
            " / ".join(f"{1000 * value(found[name, f'latency_{stage}_{p}_s']):.1f}" for p in ("p50", "p95"))
            for stage in stages
        ]
        table.add_row(name, str(found[name, "latency_total_p50_s"].count), *cells)
    return table


def notes(measurements: Sequence[Measurement], sizes: dict[str, Any]) -> list[str]:
    """What fits no table, one line each."""
    lines = []
    for m in measurements:
        if m.measure == "unsure_clips":
            lines.append(f"Largest language probability below 0.8: {int(value(m))} of {m.count} clips.")
        if m.measure == "soft_gain_where_unsure":
            lines.append(
                f"Soft against hard on these {m.count} ({m.normaliser}): {percent(m)} % fewer word errors, "
                f"better in {100 * m.conditions['probability_better']:.0f} % of resamples."
            )
    parts = {name.removeprefix("parameters_"): n for name, n in sizes.items() if name.startswith("parameters_")}
    lines.append("Parameters: " + ", ".join(f"{name} {n:,}" for name, n in parts.items()) + ".")
    memory = {name: n for name, n in sizes.items() if "bytes" in name and n}
    lines.append("Memory: " + ", ".join(f"{name.replace('_', ' ')} {n / 2**20:,.1f} MiB" for name, n in memory.items()))
    return lines


def criteria_table(results: "Sequence[CriterionResult]") -> "Table":
    table = _table("Success criteria", ["criterion", "goal", "status", "value", "on what"])
    for r in results:
        value = "-" if r.value is None else f"{r.value:.3g}"
        if r.low is not None and r.high is not None:
            value += f" [{r.low:.3g}, {r.high:.3g}]"
        table.add_row(r.name, r.goal, r.status, value, r.detail)
    return table


def _table(title: str, columns: Sequence[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("system", "", "language"))
    return table
