"""Writes the report's page and slides: everything inside one file, nothing loaded from elsewhere."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.result import Row

if TYPE_CHECKING:
    from analysis.appendix import Appendix
    from analysis.report import Chapter, Report

TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS = 40  # of a table that the page shows
MOST_SVG_BYTES = 400_000  # a figure of more points than that goes in as PNG
SLIDE_POINTS = 5


def write_page(report: "Report", more: "Appendix") -> Path:
    """`index.html`"""
    return _write(report, "page.html.j2", report.page, more=more)


def write_slides(report: "Report") -> Path:
    """`slides.html`"""
    return _write(report, "slides.html.j2", report.slides)


def _write(report: "Report", template: str, path: Path, **values: Any) -> Path:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from training.data.files import written_whole

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "figures_of": figures_of, "tables_of": tables_of, "embedded": embedded, "cell": cell, "columns": columns,
        "points_of": points_of, "width_of": width_of,
    }  # fmt: skip
    text = environment.get_template(template).render(report=report, **values)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def figures_of(chapter: "Chapter") -> list[tuple[str, str, Path]]:
    """(name, caption, SVG) of each figure, in the order drawn."""
    captions = chapter.section.captions
    svgs = [path for path in chapter.figures if path.suffix == ".svg"]
    return [(path.stem, captions.get(path.stem, path.stem.replace("_", " ")), path) for path in svgs]


def tables_of(chapter: "Chapter") -> list[tuple[str, list[Row], int]]:
    """(name, rows that are shown, rows there are) of the tables that the page shows."""
    found = [(name, chapter.tables.get(name, [])) for name in chapter.section.shown]
    return [(name, rows[:MOST_ROWS], len(rows)) for name, rows in found if rows]


def points_of(chapter: "Chapter") -> Sequence[str]:
    """As many statements as a slide can hold."""
    return chapter.says[:SLIDE_POINTS]


def embedded(path: Path) -> str:
    """A figure as a data URI: SVG, or the PNG beside it where the SVG is large."""
    png = path.with_suffix(".png")
    if path.stat().st_size > MOST_SVG_BYTES and png.is_file():
        return f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode()}"
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"


def width_of(path: Path) -> int:
    """CSS pixels that a figure is wide at its own size, 96 to the inch: matplotlib writes points, 72 to the inch."""
    head = path.read_text(encoding="utf-8")[:2000]
    found = re.search(r'<svg[^>]*\bwidth="([\d.]+)pt"', head)
    return round(float(found[1]) * 96 / 72) if found else 640


def columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return html.unescape(str(value)) or "–"
