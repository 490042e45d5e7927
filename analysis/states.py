"""Hidden states of a base under each adapter, at the same frames and the same tokens of the same clips.

The encoder is walked layer by layer; the decoder reads the reference text (teacher forcing), so that every adapter's
states stand at the same tokens. Frames and tokens are spread evenly over each clip's real ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.cache import Cache
from analysis.deltas import place
from analysis.inputs import clips_digest

if TYPE_CHECKING:
    import torch

    from adapters.bank import Bank
    from adapters.store import StoredAdapter
    from training.clips import Clips
    from zoo.interface import BaseModel

KIND = "states-1"


def hidden_states(
    base: "BaseModel",
    bank: "Bank",
    stored: "StoredAdapter | None",
    clips: "Clips",
    per_clip: int,
    *,
    cache: Cache,
    batch_clips: int = 16,
) -> dict[str, np.ndarray]:
    """fp32 `[n, d]` after each layer (`encoder 0`, ..., `decoder 0`, ...), `clip`: int64 `[n]` and `token_clip`: the clip of
    each encoder and decoder vector, and `tap`: fp32 `[clips, d]`, the mean over the real frames at the tap.

    stored: None is the base alone. Every language must be one that the base can write.
    """
    key = {
        "base": base.weights_sha256,
        "quantization": base.quantization,
        "dtype": str(base.dtype),
        "context": base.context,
        "tap": base.tap,
        "adapter": stored.record.weights_sha256 if stored else "",
        "config": stored.record.config_sha256 if stored else "",
        "clips": clips_digest(clips),
        "per_clip": per_clip,
    }
    return cache.item(KIND, key, lambda: _collect(base, bank, stored, clips, per_clip, batch_clips))


def _collect(base, bank: "Bank", stored, clips: "Clips", per_clip: int, batch_clips: int) -> dict[str, np.ndarray]:
    import torch

    from adapters.mixture import Mixture
    from adapters.peft_files import read_weights
    from training.data.buckets import BatchOptions, LengthBuckets
    from zoo.speech import Utterance

    utterances = [Utterance(clips.audio(i), id=record.id) for i, record in enumerate(clips.records)]
    shape = BatchOptions(batch_size=batch_clips, max_batch_s=1e9, shuffle=False)
    held: dict[str, dict[int, np.ndarray]] = {}
    name = stored.name if stored else ""
    if stored is not None:
        stored.check()
        bank.load(name, read_weights(stored.folder, name))
    try:
        for members in LengthBuckets([base.grid_s(u) for u in utterances], shape, grid_of=float).batches():
            mixing = bank.mixing(Mixture.one_hot([name] * len(members))) if stored else bank.off()
            records = [clips.records[i] for i in members]
            with torch.inference_mode(), mixing:
                features = base.features([utterances[i] for i in members])
                found = _encoder(base, features)
                lengths = features.lengths.tolist()
                tapped = found[f"encoder {base.tap - 1}"] if base.tap else base.encode(features, until=0).values
                for i, row, length in zip(members, tapped, lengths, strict=True):
                    held.setdefault("tap", {})[i] = row[:length].float().mean(0, keepdim=True).cpu().numpy()
                _pick(held, found, members, lengths, per_clip)
                labels = base.labels([r.text for r in records], [r.lang for r in records])
                with _watched(base) as seen:
                    base.loss(features, labels)
                _pick(held, seen, members, (labels != -100).sum(1).tolist(), per_clip)
    finally:
        if stored is not None:
            bank.evict(name)
    arrays = {layer: np.concatenate([rows[i] for i in range(len(clips))]) for layer, rows in held.items()}
    for index, layer in (("clip", "encoder 0"), ("token_clip", "decoder 0")):
        if layer in held:
            arrays[index] = np.repeat(np.arange(len(clips)), [len(held[layer][i]) for i in range(len(clips))])
    return arrays


def _encoder(base, features) -> "dict[str, torch.Tensor]":
    """`encoder 0`, ... -> `[B, T, d]`"""
    state, found = features, {}
    for layer in range(base.n_layers):
        state = base.encode(state, until=layer + 1)
        found[f"encoder {layer}"] = state.values
    return found


@contextmanager
def _watched(base: "BaseModel") -> "Iterator[dict[str, torch.Tensor]]":
    """Inside the block the output `[B, L, d]` of every decoder layer that has sites is kept."""
    seen: dict[str, torch.Tensor] = {}

    def hook(name: str):
        def keep(module, inputs, output) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return keep

    paths = {}
    for site in base.sites:
        if site.part == "decoder":
            parts = site.name.split(".")
            number = next(i for i, part in enumerate(parts) if part.isdigit())
            paths[place(site.name).layer_name] = ".".join(parts[: number + 1])
    handles = [base.module.get_submodule(path).register_forward_hook(hook(name)) for name, path in paths.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _pick(
    held: dict[str, dict[int, np.ndarray]],
    found: "dict[str, torch.Tensor]",
    members: Sequence[int],
    lengths: Sequence[int],
    per_clip: int,
) -> None:
    """Keep up to `per_clip` vectors of each clip, spread evenly over its real steps."""
    for layer, values in found.items():
        for i, row, length in zip(members, values, lengths, strict=True):
            steps = np.unique(np.linspace(0, length - 1, min(per_clip, length)).round().astype(int))
            held.setdefault(layer, {})[i] = row[steps].float().cpu().numpy()


def layers_of(states: dict[str, Any]) -> list[str]:
    """The layers among the arrays of `hidden_states`, encoder first, bottom up."""
    names = [name for name in states if name.split()[0] in ("encoder", "decoder")]
    return sorted(names, key=lambda name: (name.startswith("decoder"), int(name.split()[1])))
