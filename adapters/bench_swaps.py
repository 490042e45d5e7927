"""Time to swap one adapter in while others are resident: the bank's, and PEFT's two ways."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from adapters.bench_models import TARGETS, build, random_adapter, save_as_peft


def measure_swaps(
    shape: str, rank: int, targets: str, residents: list[int], runs: int, device: str, dtype: str
) -> list[dict[str, Any]]:
    """Median seconds to swap one adapter in while n are resident: ours, and PEFT's two ways."""
    import torch

    from adapters.bank import Bank
    from adapters.peft_files import read_weights

    rows = []
    kinds = TARGETS[targets]
    base = build(shape, device, getattr(torch, dtype))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_as_peft(base, random_adapter(base, rank, kinds, 0), rank, kinds, folder)
        bank = Bank(base)
        weights = read_weights(folder)
        for held in residents:
            for i in range(held):
                bank.load(f"a{i}", weights)
            times = []
            for _ in range(runs):
                start = time.perf_counter()
                bank.load("a0", weights)
                if device != "cpu":
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
            from_disk = []
            for _ in range(runs):
                start = time.perf_counter()
                bank.load("a0", read_weights(folder))
                from_disk.append(time.perf_counter() - start)
            rows.append(
                {
                    "shape": shape,
                    "contender": "bank, from memory",
                    "residents": held,
                    "seconds": median(times),
                    "bytes": bank.n_bytes // held,
                }
            )
            rows.append(
                {
                    "shape": shape,
                    "contender": "bank, from disk, checked",
                    "residents": held,
                    "seconds": median(from_disk),
                    "bytes": bank.n_bytes // held,
                }
            )
        rows += _peft_swaps(shape, rank, kinds, residents, runs, device, dtype, folder)
    return rows


def _peft_swaps(shape, rank, kinds, residents, runs, device, dtype, folder: Path) -> list[dict[str, Any]]:
    import torch
    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter

    rows = []
    base = build(shape, device, getattr(torch, dtype))
    model = PeftModel.from_pretrained(base.module, folder, adapter_name="a0")
    held = 1
    for wanted in residents:
        while held < wanted:
            model.load_adapter(folder, adapter_name=f"a{held}")
            held += 1
        loads, swaps = [], []
        for _ in range(min(runs, 3)):
            start = time.perf_counter()
            model.load_adapter(folder, adapter_name="new")
            loads.append(time.perf_counter() - start)
            model.delete_adapter("new")
        for _ in range(runs):
            start = time.perf_counter()
            hotswap_adapter(model, str(folder), adapter_name="a0")
            swaps.append(time.perf_counter() - start)
        rows.append({"shape": shape, "contender": "PEFT load_adapter", "residents": wanted, "seconds": median(loads)})
        rows.append(
            {"shape": shape, "contender": "PEFT hotswap_adapter", "residents": wanted, "seconds": median(swaps)}
        )
    return rows
