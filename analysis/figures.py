"""How every figure looks: one style, PNG and SVG, fonts for the scripts, colours that a colour-blind reader can tell.

Figures are made without pyplot, so that nothing is shared between threads and nothing opens a window. Colours: Okabe
and Ito (2008) for categories, viridis for amounts, the blue-red `RdBu_r` for signed numbers, centred on zero.
"""

import contextlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
AMOUNT, SIGNED = "viridis", "RdBu_r"
DPI = 150
MAX_CELL_TEXTS = 400  # a heat map with more cells shows colours only
FONTS = (
    "Noto Sans", "Noto Sans Devanagari", "Noto Sans Gurmukhi", "Noto Sans Telugu", "Noto Sans Tamil",
    "Noto Sans Bengali", "Noto Sans Gujarati", "Noto Sans Kannada", "Noto Sans Malayalam", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Thai", "DejaVu Sans",
)  # fmt: skip
_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.fonttype": "path",  # a reader's browser may lack the fonts
    "figure.dpi": 100,
}


@cache
def families() -> tuple[str, ...]:
    """Those of FONTS that this machine has. matplotlib's own list may be older than the fonts: the folders are read."""
    from matplotlib import font_manager

    known = {entry.name for entry in font_manager.fontManager.ttflist}
    if set(FONTS) - known:
        wanted = {name.replace(" ", "") for name in FONTS}
        for path in font_manager.findSystemFonts():
            if Path(path).stem.rpartition("-")[0] in wanted and Path(path).stem.endswith(("-Regular", "-Bold")):
                with contextlib.suppress(RuntimeError, OSError):
                    font_manager.fontManager.addfont(path)
        known = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in known)


@contextlib.contextmanager
def style():
    """Inside this block matplotlib draws and saves in the house's style."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "font.family": list(families())}):
        yield


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager

    found: set[int] = set()
    for name in families():
        path = font_manager.findfont(name, fallback_to_default=False)
        found |= set(font_manager.get_font(path).get_charmap())
    return frozenset(found)


def readable(text: str) -> str:
    """`text` where some font has all its letters, else its romanisation in brackets; `apt-get install fonts-noto-core`
    brings the fonts."""
    visible = [c for c in text if unicodedata.category(c) not in ("Cf", "Cc", "Zs")]
    if all(ord(c) in _glyphs() for c in visible):
        return text
    from unidecode import unidecode

    return f"[{unidecode(text).strip()}]"


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, in the order given; they come round again after eight, which is where `marker_of` helps."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(names))}


def marker_of(names: Sequence[str]) -> dict[str, str]:
    """A marker for each name, so that nothing is told by colour alone."""
    return {name: MARKERS[(i + i // len(COLOURS)) % len(MARKERS)] for i, name in enumerate(dict.fromkeys(names))}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> "tuple[Figure, np.ndarray]":
    """A figure of so many inches and its axes `[rows, columns]`. options: those of `Figure.subplots`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        made = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(rows, columns, squeeze=False, **options)


def save_figure(made: "Figure", folder: str | Path, name: str) -> list[Path]:
    """`<name>.png` and `<name>.svg` in `folder`, each whole or not at all. Raises DataError."""
    from training.data.files import written_whole

    paths = []
    with style():
        for suffix, options in (("png", {"dpi": DPI}), ("svg", {"metadata": {"Date": None}})):
            path = Path(folder) / f"{name}.{suffix}"
            with written_whole(path) as temporary:
                made.savefig(temporary, facecolor="white", **options)  # type: ignore[arg-type]
            paths.append(path)
    return paths


def heat_map(
    axes: "Axes",
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    bar: str = "",
    signed: bool = False,
    limits: tuple[float, float] | None = None,
    form: str = "{:.2f}",
) -> None:
    """values `[rows, columns]`; NaN is left blank and crossed out. bar: what the colours mean."""
    values = np.asarray(values, dtype=float)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if limits is not None:
        low, high = limits
    if signed:
        low, high = -max(abs(low), abs(high), 1e-12), max(abs(low), abs(high), 1e-12)
    with style():
        image = axes.imshow(values, vmin=low, vmax=high, cmap=SIGNED if signed else AMOUNT, aspect="auto")
        many = max(len(rows), len(columns)) > 40
        axes.set_xticks(range(len(columns)), [] if many else list(map(readable, columns)), **_turned(columns))
        axes.set_yticks(range(len(rows)), [] if many else list(map(readable, rows)))
        if max(len(rows), len(columns)) > 24:
            axes.tick_params(labelsize=6)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for i, j in np.argwhere(~np.isfinite(values)):
            axes.text(j, i, "×", ha="center", va="center", color="#999999", fontsize=7)
        if values.size <= MAX_CELL_TEXTS:
            for i, j in np.argwhere(np.isfinite(values)):
                colour = _ink(image.cmap(image.norm(values[i, j])))
                axes.text(j, i, form.format(values[i, j]), ha="center", va="center", color=colour, fontsize=7)
        if title:
            axes.set_title(title)
        held = axes.get_figure()
        if held is not None:
            held.colorbar(image, ax=axes, label=bar, fraction=0.05, pad=0.02)


def _turned(labels: Sequence[str]) -> dict[str, Any]:
    """Long labels stand slanted, each with its end under its tick."""
    if max(map(len, labels), default=0) <= 5 or len(labels) <= 3:
        return {}
    return {"rotation": 50.0, "ha": "right", "rotation_mode": "anchor"}


def _ink(colour: Sequence[float] | np.ndarray) -> str:
    red, green, blue = colour[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def interval_bars(
    axes: "Axes",
    groups: Sequence[str],
    series: Mapping[str, Sequence[tuple[float | None, float | None, float | None]]],
    *,
    title: str = "",
    label: str = "",
    percent: bool = False,
) -> None:
    """Bars side by side: series -> for each group (value, low, high); None is not measured and leaves a gap."""
    from matplotlib.ticker import PercentFormatter

    colours, width = colour_of(list(series)), 0.8 / max(1, len(series))
    with style():
        for k, (name, entries) in enumerate(series.items()):
            for g, (value, low, high) in enumerate(entries):
                if value is None:
                    continue
                x = g - 0.4 + (k + 0.5) * width
                axes.bar(x, value, width * 0.92, color=colours[name], label=name if _first(entries, g) else None)
                if low is not None and high is not None:
                    axes.plot([x, x], [low, high], color="#333333", linewidth=1.0)
        axes.axhline(0, color="#333333", linewidth=0.6)
        axes.set_xticks(range(len(groups)), list(map(readable, groups)), **_turned(groups))
        axes.set_ylabel(label)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        if title:
            axes.set_title(title)
        if len(series) > 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # inside it would lie over an interval


def _first(entries: Sequence[tuple[float | None, float | None, float | None]], g: int) -> bool:
    return next(i for i, entry in enumerate(entries) if entry[0] is not None) == g


def scatter(
    axes: "Axes", points: np.ndarray, names: Sequence[str], *, texts: Sequence[str] = (), title: str = ""
) -> None:
    """points `[n, 2]`, coloured and marked by name; texts: one beside each point, or none."""
    colours, markers = colour_of(sorted(set(names))), marker_of(sorted(set(names)))
    size = 14 if len(names) > 100 else 36
    with style():
        for name in sorted(set(names)):
            members = np.array([each == name for each in names])
            axes.scatter(
                points[members, 0], points[members, 1], s=size, color=colours[name], marker=markers[name],
                label=readable(name), linewidths=0,
            )  # fmt: skip
        for (x, y), text in zip(points, texts, strict=False):
            axes.annotate(readable(text), (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.margins(0.12)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(ncols=2 if len(set(names)) > 8 else 1)
        if title:
            axes.set_title(title)
