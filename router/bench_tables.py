"""The tables of `boli bench router` from its JSON: `python -m router.bench_tables FILE.json [PAGE.md]`."""

import json
import sys
from pathlib import Path
from typing import Any

from adapters.bench_page import put
from router import bench_owsm

PAIRS = (
    # ours, the peer, what the ratio is called
    ("boli fp32", "transformers pipeline + PEFT, 30 s", "boli fp32 against transformers + PEFT as it comes"),
    ("boli fp32", "transformers pipeline + PEFT, our context", "boli fp32 against transformers + PEFT at our context"),
    ("boli fp32", "PEFT adapter_names, 30 s", "boli fp32 against adapter_names as it comes"),
    ("boli fp32", "PEFT adapter_names, our context", "boli fp32 against adapter_names at our context"),
    ("boli fp32", "faster-whisper fp32, 30 s", "boli fp32 against faster-whisper fp32 as it comes"),
    ("boli fp32", "CTranslate2 fp32, our context", "boli fp32 against CTranslate2 fp32 at our context"),
    ("boli int8", "faster-whisper int8, 30 s", "boli int8 against faster-whisper int8 as it comes"),
    ("boli int8", "CTranslate2 int8, our context", "boli int8 against CTranslate2 int8 at our context"),
    ("boli fp32, padded", "faster-whisper fp32, 30 s", "both padded to 30 s, fp32"),
    ("boli int8, padded", "faster-whisper int8, 30 s", "both padded to 30 s, int8"),
    ("boli bf16", "boli fp32", "bf16 against fp32"),
    ("boli int8", "boli fp32", "int8 against fp32"),
)
GIVEN = ", language given"


def as_text(content: dict[str, Any]) -> str:
    """Markdown: one table a model, and what follows from it."""
    settings, results = content["settings"], content["results"]
    lines = [
        f"{settings['machine']}; rank {settings['rank']}, medians of {settings['runs']} interleaved rounds, "
        f"clips of {settings['durations']} s, {settings['each']} of each"
    ]
    for model in dict.fromkeys(row["model"] for row in results):
        mine = [row for row in results if row["model"] == model]
        lines += ["", f"### {model}", ""]
        lines += ["| clips | system | x real time | p50 ms | p95 ms | peak MiB |", "|---|---|---|---|---|---|"]
        for row in mine:
            peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
            lines.append(
                f"| {row['scenario']} | {row['system']} | {row['x_realtime']:.1f} | {1000 * row['p50_s']:.1f} "
                f"| {1000 * row['p95_s']:.1f} | {peak} |"
            )
        heard = {row["system"]: row["routed_right"] for row in mine if row["routed_right"] is not None}
        if wrong := [f"{system} {100 * share:.0f} %" for system, share in heard.items() if share < 1]:
            lines += ["", f"Clips that went to the right adapter: {', '.join(wrong)}; all of them elsewhere."]
        lines += ["", *_ratios(mine), "", *_overheads(mine), "", *_aims(mine)]
    owsm = content.get("owsm", [])
    for shape in dict.fromkeys(row["shape"] for row in owsm):
        lines += ["", *bench_owsm.as_text([row for row in owsm if row["shape"] == shape], shape)]
    return "\n".join(lines)


def _ratios(rows: list[dict[str, Any]]) -> list[str]:
    scenarios = list(dict.fromkeys(row["scenario"] for row in rows))
    seconds = {(row["scenario"], row["system"]): row["seconds"] for row in rows}
    lines = [f"| times as fast | {' | '.join(scenarios)} |", "|---" * (1 + len(scenarios)) + "|"]
    for ours, peer, what in PAIRS:
        cells = [
            f"{seconds[scenario, peer] / seconds[scenario, ours]:.2f}"
            if (scenario, peer) in seconds and (scenario, ours) in seconds
            else ""
            for scenario in scenarios
        ]
        if any(cells):
            lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def _overheads(rows: list[dict[str, Any]]) -> list[str]:
    """What hearing the language costs: routed less language given, per clip."""
    taken = {(row["scenario"], row["system"]): row for row in rows}
    lines = ["| routing costs | clips | ms a clip | % |", "|---|---|---|---|"]
    for (scenario, system), row in taken.items():
        given = taken.get((scenario, system + GIVEN))
        if given is not None:
            more = row["seconds"] - given["seconds"]
            lines.append(
                f"| {system} | {scenario} | {1000 * more / row['clips']:.1f} | {100 * more / given['seconds']:.1f} |"
            )
    return lines


def _aims(rows: list[dict[str, Any]]) -> list[str]:
    """What was aimed at, and what was measured."""
    taken = {(row["scenario"], row["system"]): row for row in rows}
    short, mixed = (
        next((row["scenario"] for row in rows if row["scenario"].startswith(start) is first), "")
        for start, first in (("one by one, up to", True), ("one by one", False))
    )

    def times(scenario: str, ours: str, peer: str) -> str:
        pair = taken.get((scenario, ours)), taken.get((scenario, peer))
        return f"{pair[1]['seconds'] / pair[0]['seconds']:.2f}" if pair[0] and pair[1] else ""

    lines = ["| aim | measured |", "|---|---|"]
    above, given = (taken.get((short, f"boli fp32, adapters above the tap{end}")) for end in ("", GIVEN))
    if above and given:
        more = above["seconds"] - given["seconds"]
        cost = f"{1000 * more / above['clips']:.1f} ms, {100 * more / given['seconds']:.1f} %"
        lines.append(f"| routing a short clip, adapters above the tap: under 10 ms and 3 % | {cost} |")
    pipeline = "transformers pipeline + PEFT, 30 s"
    fp32, int8 = "faster-whisper fp32, 30 s", "faster-whisper int8, 30 s"
    for aim, scenario, ours, peer in (
        ("mixed batch: 3 times transformers + PEFT", mixed, "boli fp32", pipeline),
        ("short clips: 1.5 times faster-whisper, fp32", short, "boli fp32", fp32),
        ("short clips: 1.5 times faster-whisper, int8", short, "boli int8", int8),
        ("padded to 30 s: 0.6 times faster-whisper, fp32", short, "boli fp32, padded", fp32),
        ("padded to 30 s: 0.6 times faster-whisper, int8", short, "boli int8, padded", int8),
    ):
        if measured := times(scenario, ours, peer):
            lines.append(f"| {aim} | {measured} |")
    return lines


if __name__ == "__main__":
    tables = as_text(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if len(sys.argv) > 2:
        put(tables, Path(sys.argv[2]), "boli bench router")
    else:
        print(tables)
