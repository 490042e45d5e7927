"""Figures of errors: classes, confused phones, changed features, unknown words."""

from pathlib import Path

import numpy as np

from analysis import figures
from analysis.error_classes import CLASSES, NO_PHONE
from analysis.errors import ErrorsResult
from analysis.ipa import FEATURES

MOST_PHONES = 12
MOST_PANELS = 4


def draw(found: ErrorsResult, folder: Path) -> list[Path]:
    """All figures of a result; their paths."""
    return _classes(found, folder) + _features(found, folder) + _phones(found, folder) + _vocabulary(found, folder)


def _classes(found: ErrorsResult, folder: Path) -> list[Path]:
    """Errors per 100 words, by class: the base above, the adapter below."""
    languages = sorted({str(row["language"]) for row in found.classes})
    bars = [(language, system) for language in languages for system in ("base", "adapter")]
    rates = {(r["language"], r["system"], r["class"]): r["per_100_words"] or 0.0 for r in found.classes}
    made, axes = figures.figure(7.4, 1.6 + 0.32 * len(bars))
    ax = axes[0, 0]
    colours = dict(zip(CLASSES, (*figures.COLOURS, "#999999"), strict=False))
    with figures.style():
        for k, (language, system) in enumerate(bars):
            left = 0.0
            for name in CLASSES:
                width = rates.get((language, system, name), 0.0)
                ax.barh(-k, width, 0.75, left=left, color=colours[name], label=name if k == 0 else None)
                left += width
        ax.set_yticks([-k for k in range(len(bars))], [f"{language} {system}" for language, system in bars])
        ax.set_xlabel("errors per 100 reference words")
        ax.tick_params(axis="y", length=0)
        made.legend(loc="outside upper center", ncols=5)
    return figures.save_figure(made, folder, "errors_classes")


def _features(found: ErrorsResult, folder: Path) -> list[Path]:
    """Share of aligned phones whose vowel-or-consonant, manner, place, voicing is wrong."""
    wrong: dict[tuple, int] = {}
    said: dict[tuple, dict[str, int]] = {}
    for row in found.features:
        key = (row["language"], row["system"], row["feature"])
        wrong[key] = wrong.get(key, 0) + row["count"]
        said.setdefault(key, {})[row["said"]] = row["of"]
    languages = sorted({key[0] for key in wrong})
    if not languages:
        return []
    made, axes = figures.figure(max(6.4, 3.0 * len(languages)), 2.8, 1, len(languages), sharey=True)
    for ax, language in zip(axes[0], languages, strict=True):
        series = {
            system: [
                (wrong[key] / max(1, sum(said[key].values())), None, None) if (key := (language, system, f)) in wrong
                else (0.0, None, None)
                for f in FEATURES
            ]
            for system in ("base", "adapter")
        }  # fmt: skip
        names = [feature.replace("vowel or consonant", "vowel/cons.") for feature in FEATURES]
        figures.interval_bars(ax, names, series, title=language, percent=True)
    axes[0, 0].set_ylabel("aligned phones that differ in it")
    return figures.save_figure(made, folder, "errors_features")


def _phones(found: ErrorsResult, folder: Path) -> list[Path]:
    """The most frequent confusions of phones with the adapter on, a panel for each language."""
    languages = sorted({str(row["language"]) for row in found.phones if row["system"] == "adapter"})[:MOST_PANELS]
    if not languages:
        return []
    columns = min(2, len(languages))
    rows = -(-len(languages) // columns)
    made, axes = figures.figure(5.0 * columns, 4.1 * rows, rows, columns)
    for i, ax in enumerate(axes.flat):
        if i >= len(languages):
            ax.set_visible(False)
            continue
        own = [r for r in found.phones if (r["language"], r["system"]) == (languages[i], "adapter")]
        said = _most(own, "said")
        written = _most([r for r in own if r["said"] in said], "written")
        values = np.zeros((len(said), len(written)))
        for row in own:
            if row["said"] in said and row["written"] in written:
                values[said.index(row["said"]), written.index(row["written"])] += row["count"]
        values[values == 0] = np.nan
        names = [[p if p != NO_PHONE else "none" for p in symbols] for symbols in (said, written)]
        figures.heat_map(ax, values, *names, title=languages[i], bar="times", form="{:.0f}")
        ax.set_ylabel("said")
        ax.set_xlabel("written")
    return figures.save_figure(made, folder, "errors_phones")


def _most(rows: list[dict], field: str) -> list[str]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row[field]] = counts.get(row[field], 0) + row["count"]
    return sorted(counts, key=lambda symbol: -counts[symbol])[:MOST_PHONES]


def _vocabulary(found: ErrorsResult, folder: Path) -> list[Path]:
    """Error rate on words that were in the training texts and on those that were not."""
    languages = sorted({str(row["language"]) for row in found.vocabulary})
    if not languages:
        return []
    rates = {(r["language"], r["system"], r["known"]): r["error_rate"] for r in found.vocabulary}
    series = {
        f"{system}, {'known' if known else 'unknown'} words": [
            (rates.get((language, system, known)), None, None) for language in languages
        ]
        for system in ("base", "adapter")
        for known in (True, False)
    }
    made, axes = figures.figure(max(5.0, 1.6 * len(languages) + 2), 2.9)
    figures.interval_bars(axes[0, 0], languages, series, label="wrong reference words", percent=True)
    return figures.save_figure(made, folder, "errors_vocabulary")
