"""Peak memory of one system, measured in a process of its own."""

import multiprocessing
import resource
import sys
from pathlib import Path
from typing import Any

from router.bench_models import Prepared


def peak_mib(kind: str, prepared: Prepared, device: str) -> float:
    """Resident memory at its peak, MiB, after a short clip, a 30 s clip and a mixed batch; on a GPU what it allocated."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (kind, prepared, device))


def _run(kind: str, prepared: Prepared, device: str) -> float:
    import torch

    from router.bench_clips import mixed_batch, single_clips
    from router.bench_ours import KINDS, Ours, load_router
    from router.bench_peers import FasterWhisper, TransformersPeft

    clips, together = single_clips([3.0, 30.0], 1), mixed_batch(8, 16)
    padded = kind.endswith("30 s")  # of transformers
    system: Any
    if kind in KINDS:
        system = Ours(load_router(prepared, kind, device), True)
        for clip in clips:
            system.one(clip)
        system.batch(together)
    elif kind.startswith("transformers"):
        system = TransformersPeft(prepared, device)
        for clip in clips:
            system.pipeline([clip], padded)
        system.pipeline(together, padded)
    else:
        system = FasterWhisper(prepared, kind.split()[1])
        call = system.padded if kind.startswith("faster-whisper") else system.cut
        for clip in clips:
            call([clip])
        call(together)
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return _peak_mib()


def _peak_mib() -> float:
    """Of this process alone. Linux's ru_maxrss would start from the parent's peak: it outlives fork and exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
