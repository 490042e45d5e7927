"""`boli bench steps`: what each thing that could make the base faster gives, one at a time.

Encoding a batch of clips and decoding one token for each, with random weights of Whisper's shapes and no adapters: in
bf16 and int8, with one thread and more, with the decoder's step compiled, and with a cache that grows by concatenation
as transformers' own does. Contenders take turns in one process; medians.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.bench import machine
from adapters.bench_models import build
from adapters.bench_page import put
from zoo.threads import thread_count

if TYPE_CHECKING:
    import torch

    from zoo.whisper import WhisperBase

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
NAME = "boli bench steps"
REFERENCE = "fp32"
Contender = Callable[[], tuple[float, float]]
"""-> seconds of the encoder, seconds of one step of the decoder."""


@app.command()
def bench(
    shapes: Annotated[str, typer.Option(help="debug, tiny, small, large-v3: separated by commas.")] = "tiny,small",
    batches: Annotated[str, typer.Option(help="Clips a batch.")] = "1,8",
    clip_s: Annotated[float, typer.Option(help="Seconds of each clip.")] = 5.0,
    steps: Annotated[int, typer.Option(help="Tokens decoded.")] = 24,
    runs: Annotated[int, typer.Option(help="Timed rounds.")] = 5,
    compiled: Annotated[
        bool, typer.Option(help="Also the compiled step: half a minute a shape, needs a C++ compiler.")
    ] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
    page: Annotated[Path | None, typer.Option(help="Put the table into this page, between its marks.")] = None,
) -> None:
    """What threads, bf16, int8, a laid-out cache and a compiled decode step give on this CPU."""
    rows = [
        row
        for shape in shapes.split(",")
        for row in measure(shape, [int(b) for b in batches.split(",")], clip_s, steps, runs, compiled)
    ]
    content = {"machine": machine(), "clip_s": clip_s, "steps": steps, "runs": runs, "rows": rows}
    print(text := as_text(content))
    if json_path is not None:
        json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if page is not None:
        put(text, page, NAME)


def measure(
    shape: str, batches: list[int], clip_s: float, steps: int, runs: int, compiled: bool
) -> list[dict[str, Any]]:
    """A row per batch and contender: median seconds of the encoder and of one step."""
    import torch

    from zoo.int8 import available
    from zoo.whisper_family import to_int8

    plain = build(shape, "cpu", torch.float32)
    bases = {REFERENCE: plain, "bf16": build(shape, "cpu", torch.bfloat16)}
    if available():
        bases["int8"] = build(shape, "cpu", torch.float32)
        to_int8(bases["int8"])
    rows = []
    with thread_count() as threads:
        for batch in batches:
            contenders = {name: _contender(base, batch, clip_s, steps, threads) for name, base in bases.items()}
            for count in sorted({1, threads}):
                if count != threads:
                    for name, base in bases.items():
                        contenders[f"{name}, {count} thread"] = _contender(base, batch, clip_s, steps, count)
            contenders["fp32, cache grown by concatenation"] = _contender(plain, batch, clip_s, steps, threads, "grown")
            projected = _contender(plain, batch, clip_s, steps, threads, "projected")
            contenders["fp32, cross-attention's keys as projected"] = projected
            if compiled:
                contenders["fp32, step compiled"] = _contender(plain, batch, clip_s, steps, threads, "compiled")
            taken = _interleaved(contenders, runs)
            for name, (encoder, step) in taken.items():
                rows.append({"shape": shape, "batch": batch, "contender": name, "encode_s": encoder, "step_s": step})
    return rows


def _contender(base: "WhisperBase", batch: int, clip_s: float, steps: int, threads: int, kind: str = "") -> Contender:
    import torch

    from zoo.interface import Features
    from zoo.whisper_decoder import WhisperStepper

    frames = round(clip_s * 100)
    mels = torch.randn(batch, base.module.config.num_mel_bins, frames, device=base.device, dtype=base.dtype)
    features = Features(mels, torch.full((batch,), frames // 2), "dynamic")
    prompt = base.prompt(["hi"] * batch)
    logits = WhisperStepper._logits
    if kind == "compiled":
        logits = torch.compile(logits, dynamic=True, fullgraph=True)

    def once() -> tuple[float, float]:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode(), _growing() if kind == "grown" else contextlib.nullcontext():
            start = time.perf_counter()
            hidden = base.encode(features)
            encoded = time.perf_counter() - start
            stepper = WhisperStepper(base.module.model.decoder, base.module.proj_out, hidden, prompt, steps)
            tokens = stepper.start().argmax(-1)
            if kind == "projected":
                stepper.cross_keys = [_as_projected(key) for key in stepper.cross_keys]
                stepper.cross_values = [_as_projected(value) for value in stepper.cross_values]
            stepper._logits = logits.__get__(stepper)  # type: ignore[method-assign]
            start = time.perf_counter()
            for _ in range(steps):
                tokens = stepper.step(tokens).argmax(-1)
            return encoded, (time.perf_counter() - start) / steps

    return once


def _as_projected(x: "torch.Tensor") -> "torch.Tensor":
    """`[B, heads, T, width]` laid out frame by frame, as a projection writes it, instead of head by head."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@contextlib.contextmanager
def _growing() -> Iterator[None]:
    """A step as with a cache that is concatenated anew for every token: each layer's keys and values are copied once."""
    from zoo.whisper_decoder import WhisperStepper

    def step(self, tokens):
        self.keys = [key.clone() for key in self.keys]
        self.values = [value.clone() for value in self.values]
        return self._run(tokens[:, None])

    original = WhisperStepper.step
    WhisperStepper.step = step  # type: ignore[method-assign]
    try:
        yield
    finally:
        WhisperStepper.step = original  # type: ignore[method-assign]


def _interleaved(contenders: dict[str, Contender], runs: int) -> dict[str, tuple[float, float]]:
    for once in contenders.values():
        once()
        once()  # the second call may compile once more, for a position that changes
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for i in range(runs):
        names = list(contenders)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(contenders[name]())
    return {name: (median(t[0] for t in taken), median(t[1] for t in taken)) for name, taken in times.items()}


def as_text(content: dict[str, Any]) -> str:
    lines = [
        f"{content['machine']}; clips of {content['clip_s']:g} s, {content['steps']} tokens, medians of "
        f"{content['runs']} interleaved rounds; *times as fast* is against fp32 of the same row's shape and batch",
        "",
        "| shape | batch | | encoder, ms | times as fast | a decoder step, ms | times as fast |",
        "|---|---|---|---|---|---|---|",
    ]
    fp32 = {(r["shape"], r["batch"]): r for r in content["rows"] if r["contender"] == REFERENCE}
    for row in content["rows"]:
        own = fp32[row["shape"], row["batch"]]
        lines.append(
            f"| {row['shape']} | {row['batch']} | {row['contender']} | {1000 * row['encode_s']:.1f} "
            f"| {own['encode_s'] / row['encode_s']:.2f} | {1000 * row['step_s']:.2f} "
            f"| {own['step_s'] / row['step_s']:.2f} |"
        )
    return "\n".join(lines)
