"""`boli bench router`: the whole way from samples to text, beside what people use today.

One process, the same weights, clips and threads for all; every system writes the same number of tokens, and the systems
take turns, clip by clip. Peak memory is that of a process of its own.
"""

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.bench import machine
from router import bench_owsm
from router.bench_clips import SHORT_S, BenchClip, mixed_batch, single_clips
from router.bench_tables import as_text
from zoo.threads import thread_count

if TYPE_CHECKING:
    from router.bench_ours import Ours

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
System = Callable[[list], None]


@app.command()
def bench(
    models: Annotated[
        str,
        typer.Option(
            help="boli-embedded, a shape with random weights (tiny, small, or of OWSM: "
            f"{', '.join(bench_owsm.SHAPES)}), or what `boli zoo list` has."
        ),
    ] = "boli-embedded,tiny,owsm-v3.1-base",
    durations: Annotated[str, typer.Option(help="Seconds of the clips that come one by one.")] = "1,2,3,5,10,20,30",
    each: Annotated[int, typer.Option(help="Clips of each duration.")] = 3,
    batch: Annotated[int, typer.Option(help="Clips of up to 5 s in the mixed batch.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens a clip of the mixed batch gets.")] = 16,
    rank: Annotated[int, typer.Option(help="Of every adapter.")] = 16,
    runs: Annotated[int, typer.Option(help="Timed rounds.")] = 3,
    threads: Annotated[int, typer.Option(help="For every system; 0: as torch finds.")] = 0,
    peers: Annotated[bool, typer.Option(help="Also transformers + PEFT and faster-whisper.")] = True,
    memory: Annotated[bool, typer.Option(help="Also peak memory, a process for each system.")] = True,
    searches: Annotated[str, typer.Option(help=f"Of OWSM: {', '.join(bench_owsm.SEARCHES)}.")] = ",".join(
        bench_owsm.SEARCHES
    ),
    device: Annotated[str, typer.Option(help="cpu or cuda; faster-whisper runs on the CPU only.")] = "cpu",
    quick: Annotated[
        bool, typer.Option("--quick", help="The embedded model, few clips, no memory: two minutes.")
    ] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
) -> None:
    """Latency, throughput and memory of routed transcription, beside transformers + PEFT, faster-whisper and ESPnet.

    Without options an hour on two cores, a third of it for OWSM. `python -m router.bench_tables FILE.json` remakes the tables.
    """
    if quick:
        models, durations, each, runs, memory = "boli-embedded", "1,3,5,30", 1, 2, False
    names, wanted = models.split(","), searches.split(",")
    bench_owsm.check(names, wanted)
    lengths = [float(duration) for duration in durations.split(",")]
    with thread_count(threads):
        results = [
            row
            for name in names
            if name not in bench_owsm.SHAPES
            for row in measure(name, lengths, each, batch, tokens, rank, runs, peers, memory, device)
        ]
        with tempfile.TemporaryDirectory(prefix="boli-bench-") as scratch:
            owsm = [
                row
                for name in names
                if name in bench_owsm.SHAPES
                for row in bench_owsm.measure(
                    name, wanted, mixed_batch(batch, bench_owsm.TOKENS), runs, device, Path(scratch)
                )
            ]
        settings = {
            "machine": machine(),
            "rank": rank,
            "runs": runs,
            "batch": batch,
            "each": each,
            "durations": durations,
            "device": device,
        }
    content = {"settings": settings, "results": results, "owsm": owsm}
    print(as_text(content))
    if json_path is not None:
        json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def measure(
    name: str,
    durations: list[float],
    each: int,
    batch: int,
    tokens: int,
    rank: int,
    runs: int,
    peers: bool,
    memory: bool,
    device: str,
) -> list[dict[str, Any]]:
    """One row per scenario and system."""
    from router.bench_memory import peak_mib
    from router.bench_models import prepare

    singles, together = single_clips(durations, each), mixed_batch(batch, tokens)
    converted = peers and device == "cpu"
    with tempfile.TemporaryDirectory(prefix="boli-bench-") as temporary:
        prepared = prepare(name, Path(temporary), [*singles, *together], rank, converted)
        one, many, kinds, heard = systems(prepared, peers, converted, device)
        rows = []
        scenarios = (
            (f"one by one, up to {SHORT_S:g} s", one, [[clip] for clip in singles if clip.short]),
            (f"one by one, over {SHORT_S:g} s", one, [[clip] for clip in singles if not clip.short]),
            (f"{batch} clips up to {SHORT_S:g} s, languages mixed", many, [together]),
        )
        for scenario, contenders, calls in scenarios:
            if calls:
                rows += timed(name, scenario, contenders, calls, runs)
        peaks = {system: peak_mib(kind, prepared, device) for system, kind in kinds.items()} if memory else {}
    right = {kind: routed.right / max(1, routed.clips) for kind, routed in heard.items()}
    return [{**row, "peak_mib": peaks.get(row["system"]), "routed_right": right.get(row["system"])} for row in rows]


def _first(ours: "Ours", clips: list[BenchClip]) -> None:
    ours.one(clips[0])


def systems(prepared, peers: bool, converted: bool, device: str):
    """Name -> what to call with a list of clips: for clips that come alone, and for a batch; name -> what its memory is
    measured as; name -> what counts how it routed."""
    from router.bench_ours import KINDS, Ours, load_router
    from router.bench_peers import FasterWhisper, TransformersPeft

    one: dict[str, System] = {}
    many: dict[str, System] = {}
    memory: dict[str, str] = {}
    heard: dict[str, Ours] = {}
    for kind in KINDS:
        if device != "cpu" and "int8" in kind:
            continue
        router = load_router(prepared, kind, device)
        routed, told = Ours(router, True), Ours(router, False)
        heard[kind] = routed
        one[kind] = partial(_first, routed)
        many[kind] = routed.batch
        memory[kind] = kind
        if "fp32" in kind and "padded" not in kind:
            one[f"{kind}, language given"] = partial(_first, told)
    if peers:
        peft = TransformersPeft(prepared, device)
        for padded, where in ((True, "30 s"), (False, "our context")):
            pipeline = f"transformers pipeline + PEFT, {where}"
            one[pipeline] = many[pipeline] = partial(peft.pipeline, padded=padded)
            names = f"PEFT adapter_names, {where}"
            many[names] = partial(peft.adapter_names, padded=padded)
            memory[pipeline] = f"transformers {where}"
    if converted:
        for precision, compute_type in (("fp32", "float32"), ("int8", "int8")):
            merged = FasterWhisper(prepared, compute_type)
            for system, call in (
                (f"faster-whisper {precision}, 30 s", merged.padded),
                (f"CTranslate2 {precision}, our context", merged.cut),
            ):
                one[system] = many[system] = call
                memory[system] = f"{system.split()[0]} {compute_type}"
    return one, many, memory, heard


def timed(
    name: str, scenario: str, contenders: dict[str, System], calls: list[list], runs: int
) -> list[dict[str, Any]]:
    """Every call of every round by every system in turn, after one round that is not counted."""
    import gc
    import time

    import torch

    seconds: dict[str, list[list[float]]] = {system: [[] for _ in calls] for system in contenders}
    gc.collect()
    gc.disable()
    try:
        for round_ in range(runs + 1):
            for i, clips in enumerate(calls):
                order = list(contenders)
                turn = (round_ + i) % len(order)
                for system in order[turn:] + order[:turn]:
                    start = time.perf_counter()
                    contenders[system](clips)
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    if round_:
                        seconds[system][i].append(time.perf_counter() - start)
            gc.collect()
    finally:
        gc.enable()
    audio_s = sum(clip.duration_s for clips in calls for clip in clips)
    rows = []
    for system, taken in seconds.items():
        each = sorted(median(times) for times in taken)
        rows.append(
            {
                "model": name,
                "scenario": scenario,
                "system": system,
                "clips": sum(map(len, calls)),
                "tokens": sum(clip.tokens for clips in calls for clip in clips),
                "seconds": sum(each),
                "x_realtime": audio_s / sum(each),
                "p50_s": median(each),
                "p95_s": each[min(len(each) - 1, round(0.95 * (len(each) - 1)))],
            }
        )
    return rows
