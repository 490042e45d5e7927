"""Figures of transfer: who helps whom, what it costs in English, what goes with it, and how far little data goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis import figures
from analysis.few_shot import Trained
from analysis.transfer import CORRELATED, TransferResult

ENGLISH = "en"


def draw(found: TransferResult, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    paths = _matrices(found, folder)
    paths += _english(found, folder)
    paths += _against(found, folder)
    if found.few_shot is not None and found.few_shot.trained:
        paths += _few_shot(found.few_shot.trained, folder)
    return paths


def _matrices(found: TransferResult, folder: Path) -> list[Path]:
    metric, normaliser = CORRELATED
    sources, targets, values = found.matrix("value", metric, normaliser)
    adapters, _, gains = found.matrix("gain", metric, normaliser)
    height = 1.4 + 0.42 * len(sources)
    made, axes = figures.figure(2 * (2.2 + 0.75 * len(targets)), height, 1, 2)
    name = metric.upper()
    figures.heat_map(
        axes[0, 0], 100 * values, sources, targets, title=f"{name} (%) of each adapter", bar=f"{name}, %", form="{:.0f}"
    )
    figures.heat_map(
        axes[0, 1], 100 * gains, adapters, targets, title="Gain against the base", bar="fewer errors, %",
        signed=True, form="{:+.0f}",
    )  # fmt: skip
    for ax in axes[0]:
        ax.set_xlabel("language of the clips")
    axes[0, 0].set_ylabel("language of the adapter")
    return figures.save_figure(made, folder, "transfer_zero_shot")


def _english(found: TransferResult, folder: Path) -> list[Path]:
    """Error rates in English, of the base and with each adapter."""
    rows = [c for c in found.cells if c.target == ENGLISH and c.normaliser == CORRELATED[1]]
    if not rows:
        return []
    sources = list(dict.fromkeys(c.source for c in rows))
    of = {(c.source, c.metric): (c.value, c.low, c.high) for c in rows}
    made, axes = figures.figure(max(4.2, 1.6 + 0.8 * len(sources)), 2.8)
    series = {metric.upper(): [of[source, metric] for source in sources] for metric in ("wer", "cer")}
    figures.interval_bars(
        axes[0, 0], sources, series, title="English, with each adapter on", label="error rate", percent=True
    )
    return figures.save_figure(made, folder, "transfer_english")


def _against(found: TransferResult, folder: Path) -> list[Path]:
    """Gain of each pair of languages against each distance and the similarity of the updates."""
    kinds = [k for k in (found.distances[0] if found.distances else {}) if k not in ("source", "target", "gain")]
    kinds = [k for k in kinds if sum(_both(row, k) for row in found.distances) > 1]
    if not kinds:
        return []
    made, axes = figures.figure(3.3 * len(kinds), 3.1, 1, len(kinds), sharey=True)
    tests = {c.against: c for c in found.correlations if c.what == "gain"}
    with figures.style():
        for ax, kind in zip(axes[0], kinds, strict=True):
            for row in found.distances:
                if _both(row, kind):
                    ax.plot(row[kind], 100 * row["gain"], "o", color=figures.COLOURS[0], markersize=4)
                    ax.annotate(
                        f"{row['source']}→{row['target']}", (row[kind], 100 * row["gain"]), fontsize=7,
                        xytext=(3, 3), textcoords="offset points",
                    )  # fmt: skip
            ax.axhline(0, color="#999999", linewidth=0.6)
            ax.set_yscale("symlog", linthresh=20)  # one adapter that ruins a language would hide the others
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.yaxis.set_minor_formatter(lambda value, _: "")
            ax.margins(0.15)
            ax.set_xlabel(kind if kind.startswith("similarity") else f"distance: {kind}")
            test = tests[kind].test if kind in tests else None
            ax.set_title(f"ρ = {test.correlation:+.2f}, p = {test.p:.2f}" if test else "no test", fontsize=9)
        axes[0, 0].set_ylabel("gain (fewer character errors), %")
    return figures.save_figure(made, folder, "transfer_against")


def _both(row: dict[str, Any], kind: str) -> bool:
    return row["gain"] is not None and row[kind] is not None


def _few_shot(trained: Sequence[Trained], folder: Path) -> list[Path]:
    """Error rate against the share of the data, a line for each way to begin; one panel for each target."""
    chosen = [t for t in trained if (t.metric, t.normaliser) == CORRELATED and t.share and t.value is not None]
    targets = sorted({t.target for t in chosen})
    if not targets:
        return []
    made, axes = figures.figure(3.8 * len(targets), 3.2, 1, len(targets), sharey=True)
    ways = sorted({way(t) for t in chosen if t.share != 1.0}) or ["from scratch"]
    colours, markers = figures.colour_of(ways), figures.marker_of(ways)
    with figures.style():
        for ax, target in zip(axes[0], targets, strict=True):
            for name in ways:
                members = [t for t in chosen if t.target == target and way(t) == name]
                shares = sorted({float(t.share or 0) for t in members})
                points = [np.mean([t.value for t in members if t.share == share]) for share in shares]
                ax.plot(shares, [100 * p for p in points], color=colours[name], marker=markers[name], label=name)
            ax.set_xscale("log")
            shares = sorted({float(t.share or 0) for t in chosen if t.target == target})
            ax.set_xticks(shares, [f"{share:.0%}" for share in shares])
            ax.minorticks_off()
            ax.set_xlabel("share of the training data")
            ax.set_title(target)
        axes[0, 0].set_ylabel(f"{CORRELATED[0].upper()}, %")
        axes[0, 0].legend()
    return figures.save_figure(made, folder, "transfer_few_shot")


def way(one: Trained) -> str:
    """`from scratch`, `from hi`, `from hi, in 4 stages`."""
    start = f"from {one.start}" if one.start else "from scratch"
    return f"{start}, in {one.progressive} stages" if one.progressive else start
