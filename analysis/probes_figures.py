"""Figures of probes: what each layer tells, what an adapter changes, what languages share."""

from pathlib import Path

import numpy as np

from analysis import figures
from analysis.probe_data import TASKS
from analysis.probes import ProbesResult
from analysis.vocabulary import LEVELS


def draw(found: ProbesResult, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    return _accuracy(found, folder) + _selectivity(found, folder) + _changes(found, folder) + _overlap(found, folder)


def _accuracy(found: ProbesResult, folder: Path) -> list[Path]:
    """Accuracy by layer: solid with the language's adapter, dashed the base alone, dotted the control task."""
    return _lines(found, folder, "accuracy", "probes_accuracy", control=True)


def _selectivity(found: ProbesResult, folder: Path) -> list[Path]:
    return _lines(found, folder, "selectivity", "probes_selectivity", control=False)


def _lines(found: ProbesResult, folder: Path, field: str, name: str, *, control: bool) -> list[Path]:
    from matplotlib.lines import Line2D

    tasks = [task for task in TASKS if any(p.task == task for p in found.probes)]
    languages = sorted({p.language for p in found.probes})
    colours, markers = figures.colour_of(languages), figures.marker_of(languages)
    columns = min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    made, axes = figures.figure(3.1 * columns, 2.5 * rows + 0.6, rows, columns, sharex=True)
    with figures.style():
        for ax, task in zip(axes.flat, tasks, strict=False):
            for language in languages:
                for system, line in (("base", "--"), ("adapter", "-")):
                    own = [p for p in found.probes if (p.task, p.language, p.system) == (task, language, system)]
                    ax.plot(
                        [p.layer for p in own], [100 * getattr(p, field) for p in own], line, color=colours[language],
                        marker=markers[language], markersize=3.5, linewidth=1.2,
                    )  # fmt: skip
                    if control and system == "base":
                        controls = [100 * p.control for p in own]
                        ax.plot([p.layer for p in own], controls, ":", color=colours[language], linewidth=1.0)
            ax.set_title(task)
            ax.xaxis.get_major_locator().set_params(integer=True)
        for ax in list(axes.flat)[len(tasks) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel(f"{field}, %")
        made.supxlabel("encoder layers applied", fontsize=9)
        keys = [Line2D([], [], color=colours[k], marker=markers[k], linewidth=1.2, label=k) for k in languages]
        keys.append(Line2D([], [], color="black", linestyle="-", label="adapter"))
        keys.append(Line2D([], [], color="black", linestyle="--", label="base"))
        if control:
            keys.append(Line2D([], [], color="black", linestyle=":", label="control task"))
        made.legend(handles=keys, loc="outside upper center", ncols=min(len(keys), 4 * columns))
    return figures.save_figure(made, folder, name)


def _changes(found: ProbesResult, folder: Path) -> list[Path]:
    """What the adapter changes, task by layer, a panel for each language."""
    languages = sorted({str(row["language"]) for row in found.changes})
    if not languages:
        return []
    tasks = [task for task in TASKS if any(row["task"] == task for row in found.changes)]
    layers = sorted({int(row["layer"]) for row in found.changes})
    values = np.full((len(languages), len(tasks), len(layers)), np.nan)
    for row in found.changes:
        values[languages.index(row["language"]), tasks.index(row["task"]), layers.index(row["layer"])] = row["change"]
    most = float(np.nanmax(np.abs(values))) * 100 or 1.0
    columns = min(2, len(languages))
    rows = -(-len(languages) // columns)
    width = min(7.0, 2.8 + 0.45 * len(layers))
    made, axes = figures.figure(width * columns, (0.9 + 0.32 * len(tasks)) * rows + 0.3, rows, columns)
    for i, ax in enumerate(axes.flat):
        if i >= len(languages):
            ax.set_visible(False)
            continue
        figures.heat_map(
            ax, 100 * values[i], tasks, list(map(str, layers)), title=languages[i], bar="points of accuracy",
            signed=True, limits=(-most, most), form="{:+.1f}",
        )  # fmt: skip
    made.supxlabel("encoder layers applied", fontsize=9)
    return figures.save_figure(made, folder, "probes_changes")


def _overlap(found: ProbesResult, folder: Path) -> list[Path]:
    """How much of each language's running words, tokens, letters and phones another has too."""
    languages = sorted({str(row["source"]) for row in found.overlap})
    levels = [level for level in LEVELS if any(row["level"] == level for row in found.overlap)]
    if not levels:
        return []
    side = 1.5 + 0.42 * len(languages)
    made, axes = figures.figure((side + 1.0) * len(levels), side, 1, len(levels))
    for ax, level in zip(axes[0], levels, strict=True):
        values = np.full((len(languages), len(languages)), np.nan)
        for row in found.overlap:
            if row["level"] == level:
                where = languages.index(row["source"]), languages.index(row["target"])
                values[where] = 100 * row["shared_running"]
        figures.heat_map(
            ax, values, languages, languages, title=level, bar="% of the column's that the row has", form="{:.0f}",
            limits=(0, 100),
        )  # fmt: skip
    return figures.save_figure(made, folder, "probes_overlap")
