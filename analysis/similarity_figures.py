"""Figures of similarity: who is like whom, layer by layer, as a tree and in the plane."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from analysis import figures
from analysis.similarity import Similarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 12  # adapters whose heat maps fit side by side, and whose names fit into the plane
MOST_LINES = 12  # pairs of languages that a figure of lines can show


def draw(found: Similarity, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    labels = [found.adapters.labels[name] for name in found.adapters.names]
    paths = _heat_maps(found, labels, folder)
    if len(labels) > 1:
        paths += _tree(found, labels, folder)
        paths += _layers(found, folder)
        paths += _plane(found, labels, folder)
    return paths


def _heat_maps(found: Similarity, labels: Sequence[str], folder: Path) -> list[Path]:
    order = list(found.order)
    named = [labels[i] for i in order]
    side = min(9.0, 2.6 + 0.3 * len(labels))
    wide = len(labels) <= FEW
    made, axes = figures.figure(*((3 * side + 1.2, side, 1, 3) if wide else (side + 1.6, 3 * side, 3, 1)))
    ceiling = "" if found.ceiling is None else f"; two seeds of one language: {found.ceiling:.2f}"
    for ax, values, title, bar in (
        (axes.flat[0], found.cosine, f"Cosine of ΔW{ceiling}", "cosine"),
        (axes.flat[1], found.left_above, "Output subspaces", "overlap (0: chance, 1: contained)"),
        (axes.flat[2], found.right_above, "Input subspaces", "overlap (0: chance, 1: contained)"),
    ):
        shown = np.array(values, dtype=float)[np.ix_(order, order)]
        np.fill_diagonal(shown, np.nan)
        figures.heat_map(ax, shown, named, named, title=title, bar=bar, signed=bar == "cosine")
    return figures.save_figure(made, folder, "similarity_heat_maps")


def _tree(found: Similarity, labels: Sequence[str], folder: Path) -> list[Path]:
    from scipy.cluster.hierarchy import dendrogram

    made, axes = figures.figure(5.5, min(24.0, 1.2 + 0.26 * len(labels)))
    ax = axes[0, 0]
    with figures.style():
        dendrogram(
            found.merges, labels=[figures.readable(label) for label in labels], orientation="right", ax=ax,
            color_threshold=0, above_threshold_color="#333333", leaf_font_size=8 if len(labels) <= 60 else 4,
        )  # fmt: skip
        ax.set_xlabel("1 - cosine of ΔW (average linkage)")
        ax.set_title("Which adapters are alike")
        ax.spines["left"].set_visible(False)
    return figures.save_figure(made, folder, "similarity_tree")


def _layers(found: Similarity, folder: Path) -> list[Path]:
    """Cosine against layer, one line for each pair of languages (the closest ones where there are many)."""
    languages = found.adapters.languages
    between: dict[tuple[str, str], list[np.ndarray]] = {}
    for i, j in combinations(range(len(languages)), 2):
        first, second = sorted((languages[i], languages[j]))
        between.setdefault((first, second), []).append(found.layer_cosine[:, i, j])
    lines = {pair: np.nanmean(np.stack(values), axis=0) for pair, values in between.items()}
    chosen = sorted(lines, key=lambda pair: -float(np.nanmean(lines[pair])))[:MOST_LINES]
    made, axes = figures.figure(1.8 + 0.5 * len(found.layers) + 1.6, 3.4)
    ax: Axes = axes[0, 0]
    names = [" - ".join(pair) for pair in chosen]
    colours, markers = figures.colour_of(names), figures.marker_of(names)
    with figures.style():
        x = np.arange(len(found.layers))
        for name, pair in zip(names, chosen, strict=True):
            for part in ("encoder", "decoder"):
                members = [n for n, layer in enumerate(found.layers) if layer.startswith(part)]
                ax.plot(
                    x[members], lines[pair][members], color=colours[name], marker=markers[name], markersize=4,
                    linewidth=1.2, label=name if part == found.layers[0].split()[0] else None,
                )  # fmt: skip
        if found.ceiling is not None:
            ax.axhline(found.ceiling, color="#333333", linestyle="--", linewidth=0.9)
            ax.annotate("two seeds", (x[-1], found.ceiling), ha="right", va="bottom", fontsize=7)
        ax.axhline(0, color="#999999", linewidth=0.6)
        ax.set_xticks(
            x, [layer.replace("encoder", "enc").replace("decoder", "dec") for layer in found.layers], rotation=60
        )
        ax.set_ylabel("cosine of ΔW")
        more = f" (the {MOST_LINES} closest of {len(lines)} pairs)" if len(lines) > MOST_LINES else ""
        ax.set_title(f"Similarity by layer{more}")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figures.save_figure(made, folder, "similarity_layers")


def _plane(found: Similarity, labels: Sequence[str], folder: Path) -> list[Path]:
    made, axes = figures.figure(5.2, 4.2)
    texts: Sequence[str] = labels
    if len(labels) > FEW:  # the colour tells the language
        texts = [label.partition(" ")[2] for label in labels] if len(labels) <= 40 else ()
    how = "UMAP" if found.layout.method == "umap" else found.layout.method
    figures.scatter(
        axes[0, 0],
        found.layout.points,
        found.adapters.languages,
        texts=texts,
        title=f"Adapters by cosine of ΔW ({how})",
    )
    return figures.save_figure(made, folder, "similarity_plane")
