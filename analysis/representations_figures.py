"""Figures of representations: how far each adapter moves each layer, who moves it alike, the tap in the plane."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import figures
from analysis.representations import ALL, Representations

MOST = 12  # lines that one figure can show
MOST_MAPS = 8  # layers shown as heat maps


def draw(found: Representations, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    paths = _tap(found, folder)
    if len(found.labels) > 1:
        paths += _with_base(found, folder)
        paths += _pairs(found, folder)
    return paths


def _with_base(found: Representations, folder: Path) -> list[Path]:
    """CKA with the base against layer: on the adapter's own language, and on all others' clips."""
    rows = found.tables()["with_base"]
    labels = found.labels[1 : MOST + 1]
    own = any(row["own_language"] for row in rows)
    made, axes = figures.figure(9.5 if own else 5.5, 3.4, 1, 2 if own else 1, sharey=True)
    colours, markers = figures.colour_of(labels), figures.marker_of(labels)
    views = [("on clips of its own language", True), ("on clips of other languages", False)] if own else [("", None)]
    for ax, (title, wanted) in zip(axes[0], views, strict=True):
        with figures.style():
            for label in labels:
                chosen = [
                    row for row in rows if row["adapter"] == label
                    and (row["speech"] == ALL if wanted is None else row["speech"] != ALL and row["own_language"] is wanted)
                ]  # fmt: skip
                means = [_mean([row["cka"] for row in chosen if row["layer"] == layer]) for layer in found.layers]
                for part in ("encoder", "decoder"):
                    x = [n for n, layer in enumerate(found.layers) if layer.startswith(part)]
                    ax.plot(
                        x, [means[n] for n in x], color=colours[label], marker=markers[label], markersize=4,
                        linewidth=1.1, label=label if part == "encoder" else None,
                    )  # fmt: skip
            ax.set_xticks(range(len(found.layers)), _short(found.layers), rotation=60)
            ax.set_title(title)
            ax.axhline(1, color="#999999", linewidth=0.6)
    with figures.style():
        axes[0, 0].set_ylabel("CKA with the base alone")
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figures.save_figure(made, folder, "representations_with_base")


def _pairs(found: Representations, folder: Path) -> list[Path]:
    """Heat maps of CKA between all systems at layers spread over the base."""
    at = sorted({round(n) for n in np.linspace(0, len(found.layers) - 1, min(MOST_MAPS, len(found.layers)))})
    columns = min(4, len(at))
    rows = -(-len(at) // columns)
    side = min(6.0, 1.9 + 0.3 * len(found.labels))
    made, axes = figures.figure(columns * (side + 0.5), rows * side, rows, columns)
    for ax, n in zip(axes.flat, at, strict=False):
        values = found.cka[ALL][n].copy()
        np.fill_diagonal(values, np.nan)
        figures.heat_map(ax, values, found.labels, found.labels, title=found.layers[n], bar="CKA")
    for ax in axes.flat[len(at) :]:
        ax.set_visible(False)
    return figures.save_figure(made, folder, "representations_pairs")


def _tap(found: Representations, folder: Path) -> list[Path]:
    made, axes = figures.figure(5.2, 4.2)
    how = "UMAP" if found.tap.method == "umap" else found.tap.method
    figures.scatter(
        axes[0, 0], found.tap.points, [row["language"] for row in found.tap_rows], title=f"Clips at the tap ({how})"
    )
    return figures.save_figure(made, folder, "representations_tap")


def _mean(values: Sequence[float]) -> float:
    kept = [value for value in values if np.isfinite(value)]
    return float(np.mean(kept)) if kept else float("nan")


def _short(layers: Sequence[str]) -> list[str]:
    return [layer.replace("encoder", "enc").replace("decoder", "dec") for layer in layers]
