"""`boli bench bank`: what mixing adapters costs, beside the base alone, PEFT and merged weights."""

import json
import platform
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.bench_models import SHAPES, TARGETS
from adapters.bench_passes import measure
from adapters.bench_swaps import measure_swaps
from adapters.bench_tables import as_text

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def machine() -> str:
    """What it ran on, in words."""
    import os

    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"


@app.command()
def bench(
    shapes: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "tiny,small",
    batches: Annotated[str, typer.Option(help="Clips in a batch.")] = "1,8",
    residents: Annotated[str, typer.Option(help="Adapters in memory.")] = "1,4,16,64",
    active: Annotated[str, typer.Option(help="Adapters in use in one call.")] = "1,4,8",
    rank: Annotated[int, typer.Option(help="Of every adapter.")] = 16,
    targets: Annotated[str, typer.Option(help=f"Sites: {', '.join(TARGETS)}.")] = "qv",
    clip_s: Annotated[float, typer.Option(help="Seconds of audio in a clip.")] = 5.0,
    steps: Annotated[int, typer.Option(help="Tokens decoded.")] = 24,
    runs: Annotated[int, typer.Option(help="Timed rounds; medians are reported.")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the base.")] = "float32",
    bank_dtype: Annotated[str, typer.Option(help="Of the adapters.")] = "float32",
    peers: Annotated[bool, typer.Option(help="Also PEFT and merged weights.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="tiny; 1 and 64 residents, 1 and 4 active, 3 rounds: two minutes.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
) -> None:
    """Time of one pass with adapters mixed in, against the base alone, PEFT and merged weights.

    Without options about half an hour on two cores, most of it for `small`; `--shapes tiny` five minutes.
    `python -m adapters.bench_tables FILE.json` remakes the tables.
    """
    if quick:
        shapes, residents, active, runs = "tiny", "1,64", "1,4", 3
    rows: list[dict[str, Any]] = []
    for shape in shapes.split(","):
        for batch in (int(b) for b in batches.split(",")):
            rows += measure(
                shape,
                rank=rank,
                targets=targets,
                batch=batch,
                actives=[int(a) for a in active.split(",")],
                residents=[int(r) for r in residents.split(",")],
                clip_s=clip_s,
                steps=steps,
                runs=runs,
                device=device,
                dtype=dtype,
                bank_dtype=bank_dtype,
                peers=peers,
            )
    swaps = [
        row
        for shape in shapes.split(",")
        for row in measure_swaps(shape, rank, targets, [int(r) for r in residents.split(",")], runs, device, dtype)
    ]
    settings = {
        "machine": machine(),
        "rank": rank,
        "targets": targets,
        "clip_s": clip_s,
        "steps": steps,
        "runs": runs,
        "dtype": dtype,
        "bank_dtype": bank_dtype,
    }
    content = {"settings": settings, "passes": rows, "swaps": swaps}
    print(as_text(content))
    if json_path is not None:
        json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")
