"""The report's appendix: what every adapter was trained with, and how its training went."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.inputs import adapter_labels
from analysis.result import Row

if TYPE_CHECKING:
    from adapters.store import StoredAdapter

CURVES = ("loss", "valid_wer", "valid_cer")
MOST_RUNS = 24


@dataclass(frozen=True)
class Appendix:
    """Rows for the page."""

    same: list[Row]
    """Options that all adapters were trained with: option, value."""
    differing: list[Row]
    """One row an adapter: the options that differ."""
    records: list[Row]
    curves: tuple[Path, ...]
    note: str
    """Where the curves come from, or why there are none."""


def appendix(stored: "Sequence[StoredAdapter]", runs: Path | None, out: Path) -> Appendix:
    """Hyperparameters from the records, curves from the folder of training runs."""
    labels = adapter_labels(stored)
    options = {each.name: flattened(each.record.recipe) for each in stored}
    keys = list(dict.fromkeys(key for found in options.values() for key in found))
    values = {key: [options[each.name].get(key) for each in stored] for key in keys}
    same = [key for key in keys if all(value == values[key][0] for value in values[key])]
    differing = [key for key in keys if key not in same]
    records = [
        {
            "adapter": labels[each.name],
            "parameters": each.record.parameters,
            "lowest adapted layer": each.record.lowest_adapted_layer,
            "context": each.record.context,
            "clips": each.record.data.get("clips"),
            "hours": each.record.data.get("hours"),
            "speakers": each.record.data.get("speakers"),
            "seed": each.record.seed,
            "weights sha256": each.record.weights_sha256[:16],
            "created": each.record.created[:19],
        }
        for each in stored
    ]
    curves, note = _curves(runs, out)
    return Appendix(
        [{"option": key, "value": values[key][0]} for key in same],
        [{"adapter": labels[each.name]} | {k: options[each.name].get(k) for k in differing} for each in stored],
        records,
        curves,
        note,
    )


def flattened(options: dict[str, Any], before: str = "") -> dict[str, Any]:
    """`{"fit": {"steps": 9}}` -> `{"fit.steps": 9}`."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = f"{before}{key}"
        if isinstance(value, dict):
            found |= flattened(value, f"{name}.")
        else:
            found[name] = value
    return found


def _curves(runs: Path | None, out: Path) -> tuple[tuple[Path, ...], str]:
    """Loss and validation error over the steps of every run under `runs` that trained an adapter."""
    from analysis import figures

    if runs is None:
        return (), "No folder of training runs was named (--runs): there are no curves."
    histories = {name: history for name, history in _histories(Path(runs)).items() if history}
    if not histories:
        return (), f"{runs} holds no run of boli train adapter: there are no curves."
    shown = [c for c in CURVES if any(c in point for history in histories.values() for point in history)]
    made, axes = figures.figure(3.6 * len(shown), 3.0 + 0.12 * len(histories), 1, len(shown))
    names = list(histories)[:MOST_RUNS]
    colours = figures.colour_of(names)
    lines = ("-", "--", ":")
    with figures.style():
        for ax, curve in zip(axes[0], shown, strict=True):
            for i, name in enumerate(names):
                points = [(p["step"], p[curve]) for p in histories[name] if p.get(curve) is not None]
                style = lines[i // len(figures.COLOURS) % len(lines)]
                ax.plot(
                    *zip(*points, strict=True) if points else ((), ()),
                    style,
                    color=colours[name],
                    label=name,
                    marker="o" if len(points) == 1 else None,
                )
            ax.set_title(curve.replace("_", " "))
            ax.set_xlabel("step")
        made.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    left = f"; {len(histories) - MOST_RUNS} more are not shown" if len(histories) > MOST_RUNS else ""
    return tuple(figures.save_figure(made, out / "figures", "curves")), f"{len(names)} training runs{left}."


def _histories(runs: Path) -> dict[str, list[dict[str, Any]]]:
    """Run's name -> its history; runs that trained something else than an adapter are left out."""
    found = {}
    for path in sorted(runs.rglob("metrics.json")):
        config = path.with_name("config.yaml")
        try:
            if config.is_file() and "\nadapter:" in f"\n{config.read_text(encoding='utf-8')}":
                name = path.parent.name
                found[name.partition("_")[2] or name] = json.loads(path.read_text(encoding="utf-8"))["history"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
