"""A recording in time: waveform, how probable each language is, the segments found (and spoken), adapter weights."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from router.transcript import Transcript
from zoo.errors import RoutingError
from zoo.speech import SAMPLE_RATE

FONTS = (
    "Noto Sans", "Noto Sans Devanagari", "Noto Sans Gurmukhi", "Noto Sans Telugu", "Noto Sans Bengali",
    "Noto Sans Tamil", "Noto Sans Gujarati", "Noto Sans Kannada", "Noto Sans Malayalam", "Noto Sans Arabic",
    "Noto Sans CJK SC", "Lohit Devanagari", "Lohit Gurmukhi", "Lohit Telugu", "DejaVu Sans",
)  # fmt: skip
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222255")  # Paul Tol, bright
UNKNOWN_COLOUR = "#999999"
SECONDS_A_ROW = 20.0  # a longer recording takes several pictures' width
LONGEST_S = 300.0


@dataclass(frozen=True)
class Stretch:
    """What was really spoken, where it is known."""

    start: float
    end: float
    language: str
    text: str = ""


@cache
def fonts() -> list[str]:
    """Those of `FONTS` that this machine has, so that labels show in all scripts; also those that were installed after
    matplotlib made its list."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    files = {f"{name.replace(' ', '')}-Regular": name for name in FONTS}
    for path in font_manager.findSystemFonts():
        name = files.get(Path(path).stem)
        if name and name not in known:
            font_manager.fontManager.addfont(path)
            known.add(name)
    return [name for name in FONTS if name in known]


def colours(languages: Sequence[str]) -> dict[str, str]:
    """One colour per language; alike in every picture that shows the same languages."""
    from router.classifier import UNKNOWN

    known = sorted(set(languages) - {UNKNOWN})
    return {**dict(zip(known, itertools.cycle(COLOURS))), UNKNOWN: UNKNOWN_COLOUR}


def draw(
    audio: np.ndarray,
    transcript: Transcript,
    path: Path,
    *,
    reference: Sequence[Stretch] = (),
    decided: Sequence[tuple[float, str]] = (),
    title: str = "",
) -> Path:
    """Write a picture (PNG, SVG or PDF by its ending).

    audio: float32 `[n]` at 16 kHz; reference: what was spoken; decided: causal decisions, (seconds, language), shown in a row
    of their own, each up to the next: another head than the one whose frames are shown may have made them.
    Raises RoutingError where the recording is longer than 5 minutes or the picture cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    duration = len(audio) / SAMPLE_RATE
    if duration > LONGEST_S:
        raise RoutingError(f"A time line of {duration:.0f} s cannot be read", valid=f"up to {LONGEST_S:g} s")
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    languages = [tag for p in transcript.posteriors for tag in p.languages]
    languages += [s.language for s in transcript.segments] + [s.language for s in reference]
    languages += [language for _, language in decided]
    names = sorted({name for segment in transcript.segments for name in segment.weights})
    colour = colours([*languages, *map(_language, names)])
    rows = [("waveform", 1.0), ("posteriors", 1.4)]
    rows += [("spoken", 0.6)] if reference else []
    rows += [("followed", 0.4)] if decided else []
    rows += [("found", 0.6), ("weights", 1.0)] if names else [("found", 0.6)]
    with matplotlib.rc_context({"font.family": fonts() or ["sans-serif"], "font.size": 9}):
        width = min(40.0, max(8.0, 14.0 * duration / SECONDS_A_ROW))
        figure = Figure(figsize=(width, 1.2 + 1.3 * sum(height for _, height in rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), sharex=True, height_ratios=[height for _, height in rows])
        by_name = dict(zip((name for name, _ in rows), np.atleast_1d(axes), strict=True))
        _waveform(by_name["waveform"], audio)
        _posteriors(by_name["posteriors"], transcript, colour)
        if reference:
            _boxes(by_name["spoken"], "spoken", reference, colour)
        if decided:
            ends = [second for second, _ in decided[1:]] + [duration]
            heard = [Stretch(second, end, tag) for (second, tag), end in zip(decided, ends, strict=True)]
            _boxes(by_name["followed"], "followed", heard, colour)
        found = [Stretch(s.start, s.end, s.language, s.text) for s in transcript.segments]
        _boxes(by_name["found"], "found", found, colour)
        if names:
            _weights(by_name["weights"], transcript, names, duration, colour)
        axes[-1].set_xlim(0, max(duration, 0.1))
        axes[-1].set_xlabel("seconds")
        if title:
            figure.suptitle(title, fontsize=10)
        save(figure, path)
    return path


def save(figure: Any, path: Path) -> None:
    """Whole or not at all. Raises RoutingError."""
    import os
    import warnings

    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a machine without the script's font
            figure.savefig(temporary, dpi=110)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise RoutingError(
            f"The picture {path} cannot be written: {error}", valid="a name that ends in .png, .svg or .pdf"
        ) from None


def _waveform(axes: Any, audio: np.ndarray) -> None:
    """Least and largest sample of each of at most 4,000 steps."""
    step = max(1, len(audio) // 4000)
    whole = audio[: len(audio) // step * step].reshape(-1, step) if len(audio) else np.zeros((1, 1))
    time = np.arange(len(whole)) * step / SAMPLE_RATE
    axes.fill_between(time, whole.min(axis=1), whole.max(axis=1), color="#555555", linewidth=0.3)
    axes.set_yticks([])
    axes.set_ylabel("sound")


def _posteriors(axes: Any, transcript: Transcript, colour: dict[str, str]) -> None:
    shown: set[str] = set()
    for part in transcript.posteriors:
        time = part.start + (np.arange(len(part.probabilities)) + 0.5) / part.frame_rate
        for k, language in enumerate(part.languages):
            label = None if language in shown else language
            axes.plot(time, part.probabilities[:, k], color=colour[language], linewidth=1.1, label=label)
            shown.add(language)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("probability")
    if shown:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    else:
        axes.text(0.5, 0.5, "not detected frame by frame", transform=axes.transAxes, ha="center", va="center")


def _boxes(axes: Any, name: str, stretches: Sequence[Stretch], colour: dict[str, str]) -> None:
    for one in stretches:
        tint = colour.get(one.language, UNKNOWN_COLOUR)
        axes.axvspan(one.start, one.end, color=tint, alpha=0.35, linewidth=0)
        axes.axvline(one.start, color=tint, linewidth=1)
        letters = max(1, int((one.end - one.start) * 11))  # as many as fit in at this size
        text = one.text if len(one.text) <= letters else one.text[: max(1, letters - 1)] + "…"
        label = f"{one.language}\n{text}" if text else one.language
        axes.text((one.start + one.end) / 2, 0.5, label, ha="center", va="center", fontsize=8, clip_on=True)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_ylabel(name)


def _language(adapter: str) -> str:
    """Of an adapter's name `LANGUAGE:rRANK:VARIANT@VERSION` (`adapters.store.Stored.name`)."""
    return adapter.partition(":")[0]


def _weights(axes: Any, transcript: Transcript, names: Sequence[str], duration: float, colour: dict[str, str]) -> None:
    """Each adapter in its language's colour; a second one of the same language is hatched."""
    edges = np.array([0.0, *sorted({t for s in transcript.segments for t in (s.start, s.end)}), duration])
    middles = (edges[:-1] + edges[1:]) / 2
    low = np.zeros(len(middles))
    seen: set[str] = set()
    for name in names:
        language = _language(name)
        high = low + [
            next((s.weights.get(name, 0.0) for s in transcript.segments if s.start <= t < s.end), 0.0) for t in middles
        ]
        label = name.split("@")[0]
        axes.stairs(
            high, edges, baseline=low, fill=True, color=colour.get(language, UNKNOWN_COLOUR), alpha=0.6, label=label,
            hatch="//" if language in seen else None,
        )  # fmt: skip
        seen.add(language)
        low = high
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("adapters")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, frameon=False)
