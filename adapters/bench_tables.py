"""The tables of `boli bench bank` from its JSON: `python -m adapters.bench_tables FILE.json [PAGE.md]`."""

import json
import sys
from pathlib import Path
from typing import Any

from adapters.bench_page import put


def as_text(content: dict[str, Any]) -> str:
    """Markdown: passes, swaps, and the ratios that the aims are stated in."""
    settings = content["settings"]
    lines = [
        f"{settings['machine']}; rank {settings['rank']}, sites {settings['targets']}, clips of "
        f"{settings['clip_s']:g} s, {settings['steps']} tokens, medians of {settings['runs']} interleaved runs, "
        f"base {settings['dtype']}, adapters {settings['bank_dtype']}",
        "",
        "| shape | batch | residents | contender | ms | x base |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["passes"]:
        lines.append(
            f"| {row['shape']} | {row['batch']} | {row['residents']} | {row['contender']} "
            f"| {1000 * row['seconds']:.1f} | {row['x_base']:.2f} |"
        )
    lines += ["", "| shape | swap | residents | ms | MB per adapter |", "|---|---|---|---|---|"]
    for row in content["swaps"]:
        size = f"{row['bytes'] / 1e6:.2f}" if "bytes" in row else ""
        lines.append(
            f"| {row['shape']} | {row['contender']} | {row['residents']} | {1000 * row['seconds']:.2f} | {size} |"
        )
    return "\n".join([*lines, "", *_ratios(content["passes"]), "", *_aims(content["passes"], content["swaps"])])


def _ratios(rows: list[dict[str, Any]]) -> list[str]:
    """How many times as long the peers take as the bank, measured in one group of interleaved runs each."""
    lines = ["| shape | batch | peer | against | times the bank's time |", "|---|---|---|---|---|"]
    # The peers' group is the last of a shape and batch, and holds the bank's rows that they took turns with.
    last = {(row["shape"], row["batch"], row["contender"]): row for row in rows}
    for (shape, batch, contender), row in last.items():
        ours = last.get((shape, batch, f"bank hard, {row.get('active', 1)} active"))
        if "PEFT" in contender and ours is not None:
            lines.append(
                f"| {shape} | {batch} | {contender} | {ours['contender']} | {row['seconds'] / ours['seconds']:.2f} |"
            )
    return lines


def _aims(passes: list[dict[str, Any]], swaps: list[dict[str, Any]]) -> list[str]:
    """The worst row of each shape beside what was aimed at."""
    lines = ["| shape | aim | measured, worst row |", "|---|---|---|"]
    for shape in dict.fromkeys(row["shape"] for row in passes):
        rows = [row for row in passes if row["shape"] == shape]
        bank = [row for row in rows if row["contender"].startswith("bank") and "active" in row]
        few = [row["x_base"] for row in bank if row["active"] <= 4]
        many = [row["x_base"] for row in bank if row["active"] == 8]
        hard = {
            (row["batch"], row["residents"]): row["seconds"]
            for row in bank
            if (row["active"], row["policy"]) == (4, "hard")
        }
        soft = [
            row["seconds"] / hard[row["batch"], row["residents"]]
            for row in bank
            if (row["active"], row["policy"]) == (4, "soft") and (row["batch"], row["residents"]) in hard
        ]
        swap = [row["seconds"] for row in swaps if (row["shape"], row["contender"]) == (shape, "bank, from memory")]
        for aim, values in (
            ("up to 4 active: at most 1.1 x base", few),
            ("8 active: at most 1.25 x base", many),
            ("soft over 4: at most 1.1 x hard", soft),
        ):
            if values:
                lines.append(f"| {shape} | {aim} | {max(values):.2f} |")
        if swap:
            lines.append(f"| {shape} | swap: at most 5 ms on tiny, whatever is resident | {1000 * max(swap):.2f} ms |")
    return lines


if __name__ == "__main__":
    tables = as_text(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    if len(sys.argv) > 2:
        put(tables, Path(sys.argv[2]), "boli bench bank")
    else:
        print(tables)
