"""The picture of a recording in time: adapters bear their languages' colours."""

import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure

from adapters.store import Store
from router import timeline
from router.transcript import Segment, Transcript


def test_an_adapter_has_its_languages_colour(toy_store):
    """Names as the store gives them; a second adapter of a language is hatched."""
    names = [stored.name for stored in Store(toy_store).all()]
    assert len(names) >= 2
    languages = [stored.key.language for stored in Store(toy_store).all()]
    assert [timeline._language(name) for name in names] == languages
    names.append(f"{languages[0]}:r64:default@0123456789ab")
    share = 1 / len(names)
    segment = Segment(0.0, 1.0, "", languages[0], 0.9, dict.fromkeys(names, share), "soft")
    transcript = Transcript("", languages[0], 0.9, {}, (segment,), 1.0)
    colour = timeline.colours(languages)
    axes = Figure().subplots()
    timeline._weights(axes, transcript, names, 1.0, colour)
    for patch, name in zip(axes.patches, names, strict=True):
        wanted = matplotlib.colors.to_rgba(colour[timeline._language(name)], 0.6)
        assert patch.get_facecolor() == pytest.approx(wanted)
    assert [bool(patch.get_hatch()) for patch in axes.patches] == [False] * (len(names) - 1) + [True]


def test_what_was_decided_as_it_ran_has_a_row_of_its_own(tmp_path, monkeypatch):
    """Each decision holds from when it was made up to the next, the last to the end."""
    drawn = []
    monkeypatch.setattr(timeline, "save", lambda figure, path: drawn.append(figure))
    segment = Segment(0.0, 3.0, "a", "hi", 0.9, {}, "hard")
    transcript = Transcript("a", "hi", 0.9, {}, (segment,), 3.0)
    audio = np.zeros(48_000, np.float32)
    spoken = [timeline.Stretch(0.0, 1.0, "hi"), timeline.Stretch(1.0, 3.0, "en")]
    timeline.draw(audio, transcript, tmp_path / "a.png", reference=spoken, decided=[(0.4, "hi"), (1.6, "te")])
    axes = {each.get_ylabel(): each for each in drawn[0].axes}
    assert list(axes) == ["sound", "probability", "spoken", "followed", "found"]
    boxes = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes["followed"].patches]
    assert np.allclose(boxes, [(0.4, 1.6), (1.6, 3.0)])
    assert [text.get_text() for text in axes["followed"].texts] == ["hi", "te"]
    colour = timeline.colours(["hi", "en", "te"])
    tint = axes["followed"].patches[1].get_facecolor()
    assert tint == pytest.approx(matplotlib.colors.to_rgba(colour["te"], 0.35))
    timeline.draw(audio, transcript, tmp_path / "b.png")
    assert [each.get_ylabel() for each in drawn[1].axes] == ["sound", "probability", "found"]
