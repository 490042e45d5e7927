"""Readers of corpora as they really come: one file a layout, one line here to register it."""

from pathlib import Path

from training.data.corpora import ai4bharat, common_voice, fleurs, hub, json_lines, mls
from training.data.corpora.found import Layout
from zoo.errors import DataError

LAYOUTS: dict[str, Layout] = {}


def register(layout: Layout) -> None:
    """Add a layout. Raises DataError for a name that is taken."""
    if layout.name in LAYOUTS:
        raise DataError(f"Layout {layout.name!r} is registered twice", valid="a name of its own")
    LAYOUTS[layout.name] = layout


for _layout in (common_voice.LAYOUT, mls.LAYOUT, fleurs.LAYOUT, ai4bharat.LAYOUT, hub.LAYOUT, json_lines.LAYOUT):
    register(_layout)


def layout_of(source: str | Path, name: str = "auto") -> Layout:
    """The layout called `name`, or the first that recognises `source`. Raises DataError naming the layouts."""
    if name != "auto":
        if name not in LAYOUTS:
            raise DataError(f"There is no layout {name!r}", valid=", ".join(["auto", *LAYOUTS]))
        return LAYOUTS[name]
    path = Path(source)
    for layout in LAYOUTS.values():
        if layout.recognises(path):
            return layout
    if not path.exists():
        raise DataError(f"{source} does not exist", valid="a corpus folder, a manifest, or hub:OWNER/NAME")
    inside = ", ".join(sorted(p.name for p in path.iterdir())[:8]) if path.is_dir() else "a file"
    shapes = "; ".join(f"{layout.name}: {layout.corpora}" for layout in LAYOUTS.values())
    raise DataError(
        f"{source} has no layout known here (in it: {inside})", valid=shapes, remedy="name it with --layout"
    )
