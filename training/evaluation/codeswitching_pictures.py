"""Pictures of `boli evaluate codeswitch`: how late switches are noticed, and the time lines of the worst clips."""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluation.codeswitching import CodeSwitchReport, worst
from training.evaluation.codeswitching_runs import kind_of

if TYPE_CHECKING:
    from router.timeline import Stretch

LATEST_S = 3.0  # of the delay axis


def draw(folder: Path, report: CodeSwitchReport, most: int) -> list[tuple[str, Path]]:
    """(title, picture) of each: delays first, then the worst clips. Older time lines in the folder are removed."""
    drawn = [("How late switches are noticed", delays(folder / "delays.png", report))]
    for old in folder.glob("worst_*.png"):
        old.unlink()
    for number, (i, matching) in enumerate(worst(report, most), 1):
        name = re.sub(r"[^\w-]+", "_", report.clips.records[i].id)[-60:]
        path = folder / f"worst_{number:02d}_{name}.png"
        title = f"{report.clips.records[i].id}, {kind_of(report.clips.records[i])}: "
        title += f"{len(matching.missed)} missed, {len(matching.false)} invented"
        drawn.append((title, time_line(path, report, i, title)))
    return drawn


def delays(path: Path, report: CodeSwitchReport) -> Path:
    """Left: the share of all switches noticed within so many seconds, for several thresholds and so rates of false
    alarms; beside it how far off the offline ones lie. Right: recall and median delay against false alarms."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from router.timeline import fonts, save

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with matplotlib.rc_context({"font.family": fonts() or ["sans-serif"], "font.size": 9}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncol": 3, "frameon": False}
        for point in report.curve:
            _share(left, point["delays_s"], point["switches"], point)
        spoken = report.curve[0]["switches"] if report.curve else len(report.offsets)
        x = np.sort(report.offsets)
        left.step([0, *x, LATEST_S], [0, *(np.arange(len(x)) + 1) / max(1, spoken), len(x) / max(1, spoken)],
                  where="post", color="black", linestyle=":", label="offline, distance")  # fmt: skip
        left.axvline(0.5, color="#bbbbbb", linewidth=0.8)
        left.axvline(1.0, color="#bbbbbb", linewidth=0.8)
        left.set(
            xlim=(0, LATEST_S), ylim=(0, 1), xlabel="delay in s (offline: distance)", ylabel="share of all switches"
        )
        left.legend(fontsize=7, **below)
        alarms = [point["false_alarms_per_minute"] for point in report.curve]
        right.plot(alarms, [point["recall"] for point in report.curve], "o-", color="#4477aa", label="recall")
        right.set(xlabel="false alarms a minute", ylabel="recall", ylim=(0, 1))
        other = right.twinx()
        for name, style in (("delay_median_s", "s--"), ("delay_p90_s", "^:")):
            values = [np.nan if point[name] is None else point[name] for point in report.curve]
            other.plot(alarms, values, style, color="#ee6677", label=name.removesuffix("_s").replace("_", " "))
        other.set(ylabel="delay in s", ylim=(0, None))
        right.axvline(2.0, color="#bbbbbb", linewidth=0.8)
        lines = [*right.get_lines()[:1], *other.get_lines()]
        right.legend(lines, [str(line.get_label()) for line in lines], fontsize=7, **below)
        save(figure, path)
    return path


def _share(axes, values, of: int, point) -> None:
    label = f"{point['false_alarms_per_minute']:.1f} false a minute" + (" (chosen)" if point["chosen"] else "")
    heights = (np.arange(len(values)) + 1) / max(1, of)
    last = heights[-1] if len(heights) else 0.0
    axes.step([0, *values, LATEST_S], [0, *heights, last], where="post", label=label,
              linewidth=2.2 if point["chosen"] else 0.9)  # fmt: skip


def time_line(path: Path, report: CodeSwitchReport, i: int, title: str = "") -> Path:
    """One clip: sound, posteriors, what was spoken, what was decided causally, what was found, adapters."""
    from router import timeline

    decided = [(change.decided_s, change.language) for change in report.changes.get(i, ())]
    return timeline.draw(
        report.clips.audio(i),
        report.runs[0].transcripts[i],
        path,
        reference=reference_of(report, i),
        decided=decided,
        title=title,
    )


def reference_of(report: CodeSwitchReport, i: int) -> "list[Stretch]":
    from router.timeline import Stretch

    record = report.clips.records[i]
    if not record.segments:
        return [Stretch(0.0, report.clips.lengths[i] / 16_000, record.lang, record.text)]
    return [Stretch(s.start, s.end, s.lang, s.text) for s in record.segments]
