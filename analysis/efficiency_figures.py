"""Figures of efficiency: error rate against what was trained, and against time."""

from pathlib import Path

from analysis import figures
from analysis.efficiency import Cost, EfficiencyResult


def draw(found: EfficiencyResult, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    return _against(found, folder)


def _against(found: EfficiencyResult, folder: Path) -> list[Path]:
    """WER against trained parameters, bytes and latency; open markers are the base alone, a line joins a language's."""
    panels = [
        ("trained parameters", lambda c: c.trained_parameters / 1e6, "millions (0: the base alone)"),
        ("model with adapter", lambda c: (found.base_bytes + c.adapter_bytes) / 2**20, "MiB"),
        (
            "latency of a clip alone",
            lambda c: None if c.latency_p50_s is None else 1000 * c.latency_p50_s,
            "ms, median",
        ),
    ]
    costs = [c for c in found.costs if c.wer is not None]
    languages = sorted({c.language for c in costs})
    panels = [p for p in panels if any(p[1](c) is not None for c in costs)]
    colours, markers = figures.colour_of(languages), figures.marker_of(languages)
    made, axes = figures.figure(3.2 * len(panels), 3.2, 1, len(panels), sharey=True)
    with figures.style():
        for ax, (title, x_of, unit) in zip(axes[0], panels, strict=True):
            for language in languages:
                own = sorted((c for c in costs if c.language == language), key=lambda c: c.trained_parameters)
                points = [(x_of(c), 100 * (c.wer or 0), c) for c in own if x_of(c) is not None]
                if title != "latency of a clip alone":
                    ax.plot([p[0] for p in points], [p[1] for p in points], color=colours[language], linewidth=0.8)
                for x, y, cost in points:
                    ax.plot(
                        x, y, markers[language], color=colours[language], markersize=6,
                        markerfacecolor="white" if cost.system == "base" else colours[language],
                        label=language if cost is own[-1] else None,
                    )  # fmt: skip
                    _interval(ax, x, cost, colours[language])
            ax.set_title(title)
            ax.set_xlabel(unit)
            ax.margins(0.1)
        axes[0, 0].set_ylabel("WER, %")
        handles, names = axes[0, 0].get_legend_handles_labels()
        made.legend(handles, names, loc="outside upper center", ncols=max(1, len(names)))
    return figures.save_figure(made, folder, "efficiency_against")


def _interval(ax, x: float, cost: Cost, colour: str) -> None:
    if cost.wer_low is not None and cost.wer_high is not None:
        ax.plot([x, x], [100 * cost.wer_low, 100 * cost.wer_high], color=colour, linewidth=0.8, alpha=0.7)
