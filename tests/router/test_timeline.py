"""The picture of a recording in time: adapters bear their languages' colours."""

import matplotlib.colors
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
