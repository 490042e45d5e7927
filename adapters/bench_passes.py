"""Time of one pass with adapters mixed in, beside the base alone, PEFT and merged weights.

Every contender encodes the same batch of clips with the same weights, then decodes a fixed number of steps. All run our
driver, so that only what sits at the sites differs, but those named `generate`: they are PEFT as its users run it,
through transformers, with the positions cut to the clips' length. Runs are interleaved in one process and medians are
reported.
"""

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from adapters.bench_models import TARGETS, build, cut_for_generate, merged, peft_copy, random_adapter


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
            stepper = WhisperStepper(base.module.model.decoder, base.module.proj_out, hidden, prompt, steps)
            greedy(stepper, prompt, -1, [steps] * len(prompt))
        if base.device.type == "cuda":
            torch.cuda.synchronize()

    return once


def generating(model, module, batch: int, clip_s: float, steps: int, **options) -> Callable[[], Any]:
    """The same work through transformers' `generate`. model: what is called; module: the Whisper inside it."""
    import torch

    weight = module.model.encoder.conv1.weight
    mels = torch.randn(batch, module.config.num_mel_bins, round(clip_s * 100), device=weight.device, dtype=weight.dtype)

    def once() -> None:
        with torch.inference_mode():
            written = model.generate(
                input_features=mels,
                language="hi",
                task="transcribe",
                min_new_tokens=steps,
                max_new_tokens=steps,
                **options,
            )
        assert written.shape[1] >= steps, f"generate wrote {written.shape[1]} tokens, not {steps}"
        if weight.device.type == "cuda":
            torch.cuda.synchronize()

    return once


def interleaved(contenders: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Seconds of each in every round, taking turns, after one warm-up round."""
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
    return times


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
    """One row per (residents, active) and contender: median seconds, and the median over the rounds of their ratio to the
    base alone in the same round (a machine that slows down for a while slows both)."""
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
    banked = WhisperBase(
        copy.deepcopy(plain.module, memo), None, plain.extractor, plain.card, plain.folder, context="dynamic"
    )
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
        for name, taken in times.items():
            rows.append(
                {
                    "shape": shape,
                    "batch": batch,
                    "residents": held,
                    "contender": name,
                    "seconds": median(taken),
                    "x_base": median(one / base for one, base in zip(taken, times["base alone"], strict=True)),
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
        group, more = _peers(plain, few, rank, kinds, actives, batch, clip_s, steps)
        group = {"base alone": alone, "bank hard, 1 active": mixed(Mixture.one_hot(["a0"] * batch)), **group}
        for active in (a for a in actives if 1 < a <= batch):
            hard = f"bank hard, {active} active"
            group[hard] = mixed(Mixture.one_hot([f"a{b % active}" for b in range(batch)]))
            tags[hard] = {"active": active, "policy": "hard"}
        tags |= more
        note(group, loaded)
    return rows


def _peers(plain, adapters: dict, rank: int, kinds, actives: list[int], batch: int, clip_s: float, steps: int):
    """Contenders that are not the bank, and what their rows say besides."""
    import copy

    in_peft, model = peft_copy(plain, adapters, rank, kinds)
    through_peft = workload(in_peft, batch, clip_s, steps)
    group: dict[str, Callable[[], Any]] = {
        "PEFT single": through_peft,
        "merged weights": workload(merged(plain, adapters["a0"]), batch, clip_s, steps),
    }
    tags: dict[str, dict[str, Any]] = {}
    frames = round(clip_s * plain.frame_rate)
    module = copy.deepcopy(plain.module, {id(p): p for p in plain.module.parameters()})
    for each in (module, in_peft.module):
        cut_for_generate(each, frames)
    group["generate, base alone"] = generating(module, module, batch, clip_s, steps)
    group["generate, PEFT single"] = generating(model, in_peft.module, batch, clip_s, steps)
    for active in (a for a in actives if 1 < a <= batch):
        names = [f"a{b % active}" for b in range(batch)]

        def by_names(names=names) -> None:
            with model._enable_peft_forward_hooks(adapter_names=names):
                through_peft()

        ours, theirs = f"PEFT adapter_names, {active} active", f"generate, PEFT adapter_names, {active} active"
        group[ours] = by_names
        group[theirs] = generating(model, in_peft.module, batch, clip_s, steps, adapter_names=names)
        tags[ours] = tags[theirs] = {"active": active, "policy": "hard"}
    return group, tags
