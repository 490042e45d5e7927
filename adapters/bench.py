"""`boli bench bank`: what mixing adapters costs, beside the base alone, PEFT and merged weights.

Every contender runs the same driver on the same weights: encode a batch of clips, then decode a fixed number of steps.
Only what sits at the sites differs. Runs are interleaved in one process and medians are reported.
"""

import gc
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import torch

    from adapters.peft_files import LoraWeights

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SHAPES = {
    "debug": {"d_model": 64, "layers": (3, 2), "heads": 2, "mels": 80},
    "tiny": {"d_model": 384, "layers": (4, 4), "heads": 6, "mels": 80},
    "small": {"d_model": 768, "layers": (12, 12), "heads": 12, "mels": 80},
    "large-v3": {"d_model": 1280, "layers": (32, 32), "heads": 20, "mels": 128},
}
TARGETS = {
    "qv": ("q_proj", "v_proj"),
    "qkvo": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "all": ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"),
}


def build(shape: str, device: str, dtype: "torch.dtype"):
    """A base model of Whisper's shape with random weights (times do not depend on their values)."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    from zoo.card import Card
    from zoo.whisper import WhisperBase

    s = SHAPES[shape]
    config = WhisperConfig(
        vocab_size=51866,
        d_model=s["d_model"],
        num_mel_bins=s["mels"],
        encoder_layers=s["layers"][0],
        decoder_layers=s["layers"][1],
        encoder_attention_heads=s["heads"],
        decoder_attention_heads=s["heads"],
        encoder_ffn_dim=4 * s["d_model"],
        decoder_ffn_dim=4 * s["d_model"],
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    with torch.device(device):
        module = WhisperForConditionalGeneration(config).to(dtype)
    module.generation_config = GenerationConfig(eos_token_id=50257, pad_token_id=50257, decoder_start_token_id=50258)
    for name, value in {
        "lang_to_id": {"<|hi|>": 50276},
        "task_to_id": {"transcribe": 50360},
        "no_timestamps_token_id": 50364,
    }.items():
        setattr(module.generation_config, name, value)
    card = Card(f"bench/{shape}", "whisper", context="dynamic", tap=s["layers"][0] // 2)
    return WhisperBase(module, None, None, card, Path("."), context="dynamic")


def random_adapter(base, rank: int, targets: tuple[str, ...], seed: int) -> "LoraWeights":
    import torch

    from adapters.peft_files import LoraSite, LoraWeights

    generator = torch.Generator().manual_seed(seed)
    sites = {
        site.name: LoraSite(
            torch.randn(rank, site.in_features, generator=generator) * 0.02,
            torch.randn(site.out_features, rank, generator=generator) * 0.02,
            1.0,
        )
        for site in base.sites
        if site.kind in targets
    }
    return LoraWeights(sites, {"r": rank, "lora_alpha": rank, "peft_type": "LORA"}, f"random-{seed}")


def workload(base, batch: int, clip_s: float, steps: int) -> Callable[[], Any]:
    """Encode `batch` clips of `clip_s` seconds and decode `steps` tokens greedily; nobody may end early."""
    import torch

    from zoo.interface import Features
    from zoo.search import greedy
    from zoo.whisper_decoder import WhisperStepper

    frames = round(clip_s * 100)
    mels = torch.randn(batch, base.module.config.num_mel_bins, frames, device=base.device, dtype=base.dtype)
    features = Features(mels, torch.full((batch,), frames // 2, device=base.device), "dynamic")
    prompt = base.prompt(["hi"] * batch)

    def once() -> None:
        with torch.inference_mode():
            hidden = base.encode(features)
            stepper = WhisperStepper(base.module.model.decoder, base.module.proj_out, hidden.values, prompt, steps)
            greedy(stepper, prompt, -1, steps)
        if base.device.type == "cuda":
            torch.cuda.synchronize()

    return once


def interleaved(contenders: dict[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Median seconds of each, taking turns, after one warm-up round."""
    for once in contenders.values():
        once()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    try:
        for i in range(runs):
            names = list(contenders)
            for name in names[i % len(names) :] + names[: i % len(names)]:
                start = time.perf_counter()
                contenders[name]()
                times[name].append(time.perf_counter() - start)
    finally:
        gc.enable()
    return {name: median(values) for name, values in times.items()}


def _peft_copy(base, adapters: dict[str, "LoraWeights"], rank: int, targets: tuple[str, ...]):
    """The same adapters in PEFT, on a copy of the base that shares its weights."""
    import copy

    from peft import LoraConfig, get_peft_model
    from peft.utils import set_peft_model_state_dict

    from zoo.whisper import WhisperBase

    memo = {id(p): p for p in base.module.parameters()}
    module = copy.deepcopy(base.module, memo)
    names = list(adapters)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets))
    model = get_peft_model(module, config, adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, config)
    for name, weights in adapters.items():
        state = {}
        for site, pair in weights.sites.items():
            state[f"base_model.model.{site}.lora_A.weight"] = pair.A
            state[f"base_model.model.{site}.lora_B.weight"] = pair.B
        set_peft_model_state_dict(model, state, adapter_name=name)
    model.set_adapter(names[0])
    model.eval().requires_grad_(False)
    return WhisperBase(module, None, None, base.card, base.folder, context="dynamic"), model


def _merged(base, weights: "LoraWeights"):
    """A copy of the base whose weights hold the update."""
    import copy

    import torch

    from zoo.whisper import WhisperBase

    module = copy.deepcopy(base.module)
    with torch.no_grad():
        for name, pair in weights.sites.items():
            linear = module.get_submodule(name)
            linear.weight += (pair.B @ pair.A * pair.scale).to(linear.weight)
    return WhisperBase(module, None, None, base.card, base.folder, context="dynamic")


def measure(
    shape: str,
    *,
    rank: int,
    targets: str,
    batch: int,
    actives: list[int],
    residents: list[int],
    clip_s: float,
    steps: int,
    runs: int,
    device: str,
    dtype: str,
    bank_dtype: str,
    peers: bool,
) -> list[dict[str, Any]]:
    """One row per (residents, active) and contender: median seconds and their ratio to the base alone."""
    import copy

    import torch

    from adapters.bank import Bank
    from adapters.mixture import Mixture
    from zoo.whisper import WhisperBase

    kinds = TARGETS[targets]
    plain = build(shape, device, getattr(torch, dtype))
    most = max([*actives, *residents])
    adapters = {f"a{i}": random_adapter(plain, rank, kinds, i) for i in range(most)}
    memo = {id(p): p for p in plain.module.parameters()}
    banked = WhisperBase(copy.deepcopy(plain.module, memo), None, None, plain.card, plain.folder, context="dynamic")
    bank = Bank(banked, dtype=getattr(torch, bank_dtype))
    alone = workload(plain, batch, clip_s, steps)
    through_bank = workload(banked, batch, clip_s, steps)

    def mixed(mixture: Mixture) -> Callable[[], None]:
        def once() -> None:
            with bank.mixing(mixture):
                through_bank()

        return once

    contenders: dict[str, Callable[[], Any]] = {"base alone": alone, "bank, no mixture": through_bank}
    tags: dict[str, dict[str, Any]] = {}
    loaded = 0
    rows: list[dict[str, Any]] = []

    def note(group: dict[str, Callable[[], Any]], held: int) -> None:
        times = interleaved(group, runs)
        for name, seconds in times.items():
            rows.append(
                {
                    "shape": shape,
                    "batch": batch,
                    "residents": held,
                    "contender": name,
                    "seconds": seconds,
                    "x_base": seconds / times["base alone"],
                    **tags.get(name, {}),
                }
            )

    for held in residents:
        for i in range(loaded, held):
            bank.load(f"a{i}", adapters[f"a{i}"])
        loaded = max(loaded, held)
        group = dict(contenders)
        for active in actives:
            if active > held:
                continue
            names = [f"a{i}" for i in range(active)]
            if active <= batch:
                hard = f"bank hard, {active} active"
                group[hard] = mixed(Mixture.one_hot([names[b % active] for b in range(batch)]))
                tags[hard] = {"active": active, "policy": "hard"}
            if active > 1:
                soft = f"bank soft over {active}"
                group[soft] = mixed(Mixture.from_rows([{name: 1 / active for name in names}] * batch))
                tags[soft] = {"active": active, "policy": "soft"}
        note(group, held)
    if peers:
        few = {name: adapters[name] for name in list(adapters)[: max(actives)]}
        in_peft, model = _peft_copy(plain, few, rank, kinds)
        through_peft = workload(in_peft, batch, clip_s, steps)
        merged = workload(_merged(plain, adapters["a0"]), batch, clip_s, steps)
        group = {
            "base alone": alone,
            "bank hard, 1 active": mixed(Mixture.one_hot(["a0"] * batch)),
            "PEFT single": through_peft,
            "merged weights": merged,
        }
        for active in (a for a in actives if 1 < a <= batch):
            names = [f"a{b % active}" for b in range(batch)]

            def by_names(names=names) -> None:
                with model._enable_peft_forward_hooks(adapter_names=names):
                    through_peft()

            group[f"PEFT adapter_names, {active} active"] = by_names
            group[f"bank hard, {active} active"] = mixed(Mixture.one_hot(names))
        note(group, loaded)
    return rows


def measure_swaps(
    shape: str, rank: int, targets: str, residents: list[int], runs: int, device: str, dtype: str
) -> list[dict[str, Any]]:
    """Median seconds to swap one adapter in while n are resident: ours, and PEFT's two ways."""
    import tempfile

    import torch

    from adapters.bank import Bank
    from adapters.peft_files import read_weights

    rows = []
    kinds = TARGETS[targets]
    base = build(shape, device, getattr(torch, dtype))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _save_as_peft(base, random_adapter(base, rank, kinds, 0), rank, kinds, folder)
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


def _save_as_peft(base, weights: "LoraWeights", rank: int, kinds: tuple[str, ...], folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for site, pair in weights.sites.items():
        tensors[f"base_model.model.{site}.lora_A.weight"] = pair.A
        tensors[f"base_model.model.{site}.lora_B.weight"] = pair.B
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(kinds), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


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
    json_path: Annotated[Path | None, typer.Option("--json", help="Write all rows here.")] = None,
) -> None:
    """Time of one pass with adapters mixed in, against the base alone, PEFT and merged weights."""
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
    print(
        f"{settings['machine']}; rank {rank}, sites {targets}, clips of {clip_s:g} s, {steps} tokens, medians of {runs} interleaved runs, {dtype}\n"
    )
    print("| shape | batch | residents | contender | ms | x base |\n|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['shape']} | {row['batch']} | {row['residents']} | {row['contender']} | {1000 * row['seconds']:.1f} | {row['x_base']:.2f} |"
        )
    print("\n| shape | swap | residents | ms | MB per adapter |\n|---|---|---|---|---|")
    for row in swaps:
        size = f"{row['bytes'] / 1e6:.2f}" if "bytes" in row else ""
        print(f"| {row['shape']} | {row['contender']} | {row['residents']} | {1000 * row['seconds']:.2f} | {size} |")
    if json_path is not None:
        json_path.write_text(
            json.dumps({"settings": settings, "passes": rows, "swaps": swaps}, indent=1), encoding="utf-8"
        )
