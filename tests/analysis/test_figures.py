"""The style of figures: both formats, no missing glyph, nothing lost where nothing was measured."""

import numpy as np
import pytest

from analysis import figures


def test_a_figure_is_written_as_png_and_svg(tmp_path):
    made, axes = figures.figure(6, 3, 1, 2)
    values = np.array([[0.1, np.nan], [0.5, 1.0]])
    figures.heat_map(axes[0, 0], values, ["हिन्दी", "తెలుగు"], ["ਪੰਜਾਬੀ", "it"], title="t", bar="cosine")
    series = {"off": [(0.5, 0.4, 0.6), (None, None, None)], "on": [(None, None, None), (-0.1, None, None)]}
    figures.interval_bars(axes[0, 1], ["hi", "te"], series, label="WER", percent=True)
    png, svg = figures.save_figure(made, tmp_path / "f", "made")
    assert png.read_bytes()[:4] == b"\x89PNG"
    assert svg.read_text().count("<svg") == 1
    assert "<dc:date>" not in svg.read_text()


def test_what_no_font_can_draw_is_romanised(monkeypatch):
    assert figures.readable("hi r16") == "hi r16"
    monkeypatch.setattr(figures, "_glyphs", lambda: frozenset(range(128)))
    assert figures.readable("हिन्दी") == "[hindii]"


@pytest.mark.parametrize("count", [1, 9, 20])
def test_names_are_told_apart_by_colour_and_marker(count):
    names = [f"n{i}" for i in range(count)]
    colours, markers = figures.colour_of(names), figures.marker_of(names)
    assert len({(colours[name], markers[name]) for name in names}) == count


def test_scatter_takes_any_number_of_points(tmp_path):
    made, axes = figures.figure(4, 3)
    figures.scatter(axes[0, 0], np.zeros((1, 2)), ["hi"], texts=["hi r8"], title="one")
    assert figures.save_figure(made, tmp_path, "one")
