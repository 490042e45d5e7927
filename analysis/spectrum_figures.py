"""Figures of spectra: energy curves, strength by layer, ranks by layer, intruder dimensions, data against rank."""

from pathlib import Path

import numpy as np

from analysis import figures
from analysis.result import Row
from analysis.spectrum import Spectrum

MOST = 40  # adapters that a heat map names


def draw(found: Spectrum, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    tables = found.tables()
    paths = _energy(found, tables["energy"], folder)
    paths += _by_layer(found, tables["layers"], folder)
    if "intruders" in tables:
        paths += _intruders(found, tables["intruders"], folder)
    if any(row["hours"] is not None for row in tables["adapters"]):
        paths += _hours(tables["adapters"], folder)
    return paths


def _energy(found: Spectrum, rows: list[Row], folder: Path) -> list[Path]:
    """One line an adapter; where there are many, one line a language and rank: the mean."""
    keys = {found.adapters.labels[stored.name]: stored.key for stored in found.adapters.stored}
    many = len(keys) > 10
    names = {label: f"{key.language} r{key.rank}" if many else label for label, key in keys.items()}
    made, axes = figures.figure(9.5, 3.4, 1, 2, sharey=True)
    lines = list(dict.fromkeys(names.values()))
    colours, markers = figures.colour_of(lines), figures.marker_of(lines)
    for ax, part in zip(axes[0], ("encoder", "decoder"), strict=True):
        with figures.style():
            for line in lines:
                curves: dict[int, list[float]] = {}
                for row in rows:
                    if row["part"] == part and names[row["adapter"]] == line:
                        curves.setdefault(row["components"], []).append(row["energy"])
                if curves:
                    x = sorted(curves)
                    y = [float(np.mean(curves[k])) for k in x]
                    ax.plot(x, y, color=colours[line], marker=markers[line], markersize=3, linewidth=1.1, label=line)
            ax.set_title(part)
            ax.set_xlabel("strongest directions")
            ax.set_ylim(0, 1.02)
            ax.grid(True, axis="y")
    with figures.style():
        axes[0, 0].set_ylabel("share of the energy of ΔW")
        axes[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figures.save_figure(made, folder, "spectrum_energy")


def _by_layer(found: Spectrum, rows: list[Row], folder: Path) -> list[Path]:
    labels = [found.adapters.labels[name] for name in found.adapters.names][:MOST]
    relative = all(row["relative_norm"] is not None for row in rows)
    made, axes = figures.figure(3.2 + 1.1 * len(found.layers), min(16.0, 1.5 + 0.32 * len(labels)), 1, 2)
    layers = [layer.replace("encoder", "enc").replace("decoder", "dec") for layer in found.layers]
    for ax, measure, title, bar, form in (
        (
            axes[0, 0], "relative_norm" if relative else "norm", "Strength by layer",
            "‖ΔW‖ / ‖W‖" if relative else "‖ΔW‖", "{:.2f}" if relative else "{:.3g}",
        ),
        (axes[0, 1], "effective_rank_share", "Directions used by layer", "effective rank / rank", "{:.2f}"),
    ):  # fmt: skip
        held = {(row["adapter"], row["layer"]): row[measure] for row in rows}
        values = np.array(
            [[held.get((label, layer), np.nan) for layer in found.layers] for label in labels], dtype=float
        )
        figures.heat_map(ax, values, labels, layers, title=title, bar=bar, form=form)
    return figures.save_figure(made, folder, "spectrum_layers")


def _intruders(found: Spectrum, rows: list[Row], folder: Path) -> list[Path]:
    labels = [found.adapters.labels[name] for name in found.adapters.names][:MOST]
    epsilons = sorted({row["epsilon"] for row in rows})
    held = {(row["adapter"], row["epsilon"]): row["intruders"] / max(1, row["vectors"]) for row in rows}
    made, axes = figures.figure(1.8 + 0.75 * len(epsilons), min(16.0, 1.4 + 0.32 * len(labels)))
    values = np.array([[held[label, epsilon] for epsilon in epsilons] for label in labels])
    figures.heat_map(
        axes[0, 0], values, labels, [f"< {epsilon:g}" for epsilon in epsilons], limits=(0, 1),
        title="Intruder dimensions", bar="share of the leading singular vectors",
    )  # fmt: skip
    with figures.style():
        axes[0, 0].set_xlabel("largest cosine with any singular vector of W")
    return figures.save_figure(made, folder, "spectrum_intruders")


def _hours(rows: list[Row], folder: Path) -> list[Path]:
    known = [row for row in rows if row["hours"] is not None]
    made, axes = figures.figure(9.0, 3.4, 1, 2)
    languages = sorted({row["language"] for row in known})
    colours, markers = figures.colour_of(languages), figures.marker_of(languages)
    measures = ["effective_rank_share", "relative_norm" if known[0]["relative_norm"] is not None else "norm"]
    names = {"effective_rank_share": "effective rank / rank", "relative_norm": "‖ΔW‖ / ‖W‖", "norm": "‖ΔW‖"}
    for ax, measure in zip(axes[0], measures, strict=True):
        with figures.style():
            for language in languages:
                members = [row for row in known if row["language"] == language]
                ax.scatter(
                    [row["hours"] for row in members], [row[measure] for row in members], s=30,
                    color=colours[language], marker=markers[language], label=language, linewidths=0,
                )  # fmt: skip
            ax.set_xlabel("hours of training data")
            ax.set_ylabel(names[measure])
            ax.set_xlim(left=0)
    with figures.style():
        axes[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figures.save_figure(made, folder, "spectrum_hours")
