"""Figures of layer importance: bars per language, heat maps layers x languages, curves along relative depth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis import figures
from analysis.layers import Importance
from analysis.result import Row

MOST = 6  # adapters that one figure of bars can show
TITLES = {"off": "switched off: what is lost", "only": "alone: what is gained"}


def draw(found: Importance, folder: Path, *, measure: str = "cer", beside: Sequence[Row] = ()) -> list[Path]:
    """All figures of a result; their paths. beside: the table `depths` of other bases."""
    paths = []
    for scope, name in (("layer", "Layers"), ("module", "Module types"), ("part", "Encoder and decoder")):
        groups = _groups(found, scope)
        if groups:
            paths += _bars(found, scope, name, groups, measure, folder)
            if scope != "part":
                paths += _heat(found, scope, name, groups, measure, folder)
    rows = [*found.tables()["depths"], *beside]
    if rows:
        paths += _depth(rows, measure, folder)
    return paths


def _groups(found: Importance, scope: str) -> list[str]:
    present = dict.fromkeys(row["group"] for row in found.rows if row["scope"] == scope)
    if scope == "layer":
        return [layer for layer in found.layers if layer in present]
    return list(present)


def _bars(found: Importance, scope: str, name: str, groups: Sequence[str], measure: str, folder: Path) -> list[Path]:
    """Change of the error rate with its interval, a colour an adapter."""
    labels = found.labels[:MOST]
    made, axes = figures.figure(max(4.5, 1.6 + 0.16 * len(groups) * (1 + len(labels))), 5.6, 2, 1)
    for ax, how in zip(axes[:, 0], ("off", "only"), strict=True):
        series: Mapping[str, list] = {label: [] for label in labels}
        for label in labels:
            rows = found.of(label, scope, how)
            sign = 1 if how == "off" else -1
            for group in groups:
                row = rows.get(group, {})
                values = [row.get(f"{measure}_change{end}") for end in ("", "_low", "_high")]
                series[label].append(tuple(None if v is None else sign * v for v in values))
        figures.interval_bars(
            ax, [_short(group) for group in groups], series, percent=True,
            title=f"{name} {TITLES[how]}", label=f"{'loss' if how == 'off' else 'gain'} in {measure.upper()}",
        )  # fmt: skip
    return figures.save_figure(made, folder, f"layers_{scope}_bars")


def _heat(found: Importance, scope: str, name: str, groups: Sequence[str], measure: str, folder: Path) -> list[Path]:
    """Share of the adapter's whole gain, layers x languages. Colours end at 100 %: one loop would else drown all."""
    labels = list(found.labels)
    made, axes = figures.figure(2.6 + 0.9 * len(labels) * 2, 1.6 + 0.32 * len(groups), 1, 2)
    for ax, how in zip(axes[0], ("off", "only"), strict=True):
        held = {label: found.of(label, scope, how) for label in labels}
        values = np.array(
            [[held[label].get(group, {}).get(f"{measure}_share") for label in labels] for group in groups], dtype=float
        )
        figures.heat_map(
            ax, values, [_short(group) for group in groups], labels, signed=True, limits=(-1, 1), form="{:.0%}",
            title=TITLES[how].capitalize(), bar=f"share of the adapter's gain in {measure.upper()}",
        )  # fmt: skip
    return figures.save_figure(made, folder, f"layers_{scope}_heat")


def _depth(rows: Sequence[Row], measure: str, folder: Path) -> list[Path]:
    bases = list(dict.fromkeys(row["base"] for row in rows))
    colours, markers = figures.colour_of(bases), figures.marker_of(bases)
    made, axes = figures.figure(9.0, 5.4, 2, 2, sharex=True, sharey="row")
    for i, how in enumerate(("off", "only")):
        for j, part in enumerate(("encoder", "decoder")):
            ax = axes[i, j]
            with figures.style():
                for base in bases:
                    chosen = sorted(
                        (row for row in rows if (row["base"], row["how"], row["part"]) == (base, how, part)
                         and row[f"{measure}_share"] is not None),
                        key=lambda row: row["depth"],
                    )  # fmt: skip
                    if not chosen:
                        continue
                    x = [row["depth"] for row in chosen]
                    ends = [[row[f"{measure}_share_{end}"] for row in chosen] for end in ("least", "most")]
                    ax.fill_between(x, *ends, color=colours[base], alpha=0.15, linewidth=0)
                    y = [row[f"{measure}_share"] for row in chosen]
                    ax.plot(x, y, color=colours[base], marker=markers[base], markersize=4, label=base)
                ax.axhline(0, color="#999999", linewidth=0.6)
                ax.set_title(f"{part}, {TITLES[how]}")
                if i:
                    ax.set_xlabel("relative depth (0: lowest layer)")
                if not j:
                    ax.set_ylabel(f"share of the gain in {measure.upper()}")
                if not i and j and ax.get_legend_handles_labels()[0]:
                    ax.legend()
    return figures.save_figure(made, folder, "layers_depth")


def _short(group: str) -> str:
    return group.replace("encoder_attn", "cross").replace("self_attn", "self").replace("_proj", "")
