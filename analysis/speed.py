"""`boli bench analysis`: how long similarity and spectra of many adapters take, and how much memory.

The adapters are random, of a Whisper's shape, and lie in a store of their own that is removed afterwards: times do not
depend on the values. What is timed begins with the store's files (their checksums included) and ends with all tables.
"""

import itertools
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from adapters.bench import machine
from adapters.bench_models import SHAPES, TARGETS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Timed:
    """What was measured."""

    adapters: int
    rank: int
    sites: int
    read_s: float
    """Finding them in the store, and their checksums."""
    similarity_s: float
    spectrum_s: float
    processor_s: float
    """Processor time of all three: on a busy machine the others say little."""
    peak_bytes: int
    """Largest resident size of the process so far."""

    @property
    def total_s(self) -> float:
        return self.read_s + self.similarity_s + self.spectrum_s


def shape_of_sites(shape: str, targets: str) -> dict[str, tuple[int, int]]:
    """Site -> (out, in) of a Whisper of this shape."""
    s = SHAPES[shape]
    inner = {"fc1": (4 * s.width, s.width), "fc2": (s.width, 4 * s.width)}
    found = {}
    for part, layers in zip(("encoder", "decoder"), s.layers, strict=True):
        for layer in range(layers):
            for kind in TARGETS[targets]:
                if kind in inner:
                    found[f"model.{part}.layers.{layer}.{kind}"] = inner[kind]
                    continue
                for block in ("self_attn", "encoder_attn")[: 2 if part == "decoder" else 1]:
                    found[f"model.{part}.layers.{layer}.{block}.{kind}"] = (s.width, s.width)
    return found


def generate(folder: Path, count: int, shape: str, rank: int, targets: str, seed: int = 0) -> None:
    """A store of `count` random adapters."""
    import json

    import torch
    from safetensors.torch import save_file

    from adapters.key import AdapterKey
    from adapters.peft_files import CONFIG, WEIGHTS
    from adapters.record import Record
    from adapters.store import Store
    from analysis.progress import steps
    from zoo.threads import thread_count

    store = Store(folder, create=True)
    sites = shape_of_sites(shape, targets)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(TARGETS[targets])}
    generator = torch.Generator().manual_seed(seed)
    # Many small products: on a busy machine threads mostly wait for each other.
    with thread_count(1), tempfile.TemporaryDirectory() as made:
        (Path(made) / CONFIG).write_text(json.dumps(config))
        for n in steps("making adapters", range(count)):
            held = {}
            for site, (out, wide) in sites.items():
                for which, size in (("A", (rank, wide)), ("B", (out, rank))):
                    held[f"base_model.model.{site}.lora_{which}.weight"] = torch.randn(*size, generator=generator)
            save_file(held, Path(made) / WEIGHTS)
            language = ("hi", "pa", "te", "it")[n % 4]
            about = Record(f"random/{shape}", language, rank, f"s{n}", base_sha256="00" * 32, seed=n)
            store.publish(AdapterKey(about.base, language, rank, about.variant), Path(made), about)


def measure(folder: Path) -> Timed:
    """Similarity and spectra of a whole store; nothing is taken from a cache, nothing kept."""
    from analysis.deltas import read_adapters
    from analysis.inputs import Choice
    from analysis.similarity import similarity
    from analysis.spectrum import spectrum

    times, started = [time.perf_counter()], time.process_time()
    adapters = read_adapters(Choice(folder))
    times.append(time.perf_counter())
    similarity(adapters, layout=False, progress=True).tables()
    times.append(time.perf_counter())
    spectrum(adapters, progress=True).tables()
    times.append(time.perf_counter())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    worked = time.process_time() - started
    read_s, similarity_s, spectrum_s = (b - a for a, b in itertools.pairwise(times))
    rank, sites = adapters.stored[0].key.rank, len(adapters.common)
    return Timed(len(adapters.stored), rank, sites, read_s, similarity_s, spectrum_s, worked, peak)


@app.command()
def bench(
    adapters: Annotated[int, typer.Option(help="How many.")] = 500,
    shape: Annotated[str, typer.Option(help=f"Of {', '.join(SHAPES)}.")] = "small",
    rank: Annotated[int, typer.Option(help="Of every adapter.")] = 16,
    targets: Annotated[str, typer.Option(help=f"Sites: {', '.join(TARGETS)}.")] = "qv",
    folder: Annotated[Path | None, typer.Option(help="Keep the store here, or use the one that is there.")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write what was measured here.")] = None,
) -> None:
    """Seconds and memory of similarity and spectra of many random adapters."""
    import json

    from training.data.files import written_whole
    from zoo.errors import DataError

    if shape not in SHAPES or targets not in TARGETS:
        raise DataError(f"Shape {shape!r} or targets {targets!r} are unknown", valid=f"{list(SHAPES)}, {list(TARGETS)}")
    with tempfile.TemporaryDirectory() as made:
        store = folder or Path(made) / "store"
        if not (store / f"random--{shape}").is_dir():
            generate(store, adapters, shape, rank, targets)
        found = measure(store)
    about = machine()
    print(about)
    print(f"{found.adapters} adapters of rank {found.rank} at {found.sites} sites ({shape}, {targets})\n")
    print("| files | similarity | spectra | together | processor time | peak memory |\n|---|---|---|---|---|---|")
    print(
        f"| {found.read_s:.1f} s | {found.similarity_s:.1f} s | {found.spectrum_s:.1f} s | {found.total_s:.1f} s "
        f"| {found.processor_s:.1f} s | {found.peak_bytes / 1e9:.2f} GB |"
    )
    if json_path is not None:
        with written_whole(json_path) as temporary:
            temporary.write_text(json.dumps({"machine": about, **asdict(found), "total_s": found.total_s}, indent=1))
