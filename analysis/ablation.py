"""What a base writes with parts of an adapter: all but one layer, one layer alone, and so on.

A part of an adapter is an adapter: the pairs of the other sites are left out, and the bank adds the rest as it adds any
adapter. So nothing but the bank's own sum is between a condition and what serving would give.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adapters.peft_files import LoraWeights
from analysis.cache import Cache, digest
from analysis.deltas import place
from analysis.inputs import clips_digest
from analysis.progress import steps

if TYPE_CHECKING:
    from adapters.bank import Bank
    from adapters.store import StoredAdapter
    from training.clips import Clips
    from zoo.interface import BaseModel

KIND = "ablation-1"
How = Literal["full", "base", "off", "only"]
Scope = Literal["all", "part", "layer", "module"]


@dataclass(frozen=True)
class Condition:
    """Which sites of an adapter are on."""

    how: How
    """full: all; base: none; off: all but the group; only: the group alone."""
    scope: Scope
    group: str
    """`encoder`, `encoder 3`, `self_attn.q_proj`; empty for full and base."""
    on: frozenset[str]
    """Sites that are on."""
    size: int
    """Sites of the group."""

    @property
    def name(self) -> str:
        return f"{self.how} {self.group}".strip()


def groups(sites: Collection[str], scopes: Collection[str]) -> dict[tuple[Scope, str], frozenset[str]]:
    """(scope, name) -> sites: parts, layers bottom up, module types."""
    ordered = sorted(sites, key=lambda site: (place(site).part == "decoder", place(site).layer, site))
    found: dict[tuple[Scope, str], set[str]] = {}
    for site in ordered:
        where = place(site)
        if "part" in scopes:
            found.setdefault(("part", where.part), set()).add(site)
    for site in ordered:
        if "layer" in scopes:
            found.setdefault(("layer", place(site).layer_name), set()).add(site)
    for site in sorted(sites, key=lambda site: (place(site).block == "", place(site).module)):
        if "module" in scopes:
            found.setdefault(("module", place(site).module), set()).add(site)
    return {key: frozenset(members) for key, members in found.items()}


def conditions(sites: Collection[str], scopes: Collection[str] = ("part", "layer", "module")) -> list[Condition]:
    """base and full, then each group off and each group alone."""
    every = frozenset(sites)
    found = [Condition("base", "all", "", frozenset(), 0), Condition("full", "all", "", every, len(every))]
    for (scope, name), members in groups(sites, scopes).items():
        found.append(Condition("off", scope, name, every - members, len(members)))
        found.append(Condition("only", scope, name, members, len(members)))
    return found


@contextmanager
def resident(bank: "Bank", weights: LoraWeights, wanted: Sequence[Condition]) -> Iterator[dict[frozenset[str], str]]:
    """Inside the block the parts of an adapter are in the bank: sites that are on -> name; no name for none."""
    names: dict[frozenset[str], str] = {}
    try:
        for condition in wanted:
            if condition.on and condition.on not in names:
                name = f"{weights.name}|{len(names)}"
                kept = {site: pair for site, pair in weights.sites.items() if site in condition.on}
                bank.load(name, LoraWeights(kept, weights.config, name))
                names[condition.on] = name
        yield names
    finally:
        for name in names.values():
            bank.evict(name)


def transcripts(
    base: "BaseModel",
    bank: "Bank",
    stored: "StoredAdapter",
    clips: "Clips",
    positions: Sequence[int],
    wanted: Sequence[Condition],
    *,
    cache: Cache,
    batch_clips: int = 16,
    progress: bool = False,
) -> dict[frozenset[str], list[str]]:
    """Sites that are on -> greedy text of each clip of `positions`, in their order. An item of the cache is one batch
    under all conditions."""
    from adapters.peft_files import read_weights
    from training.data.buckets import BatchOptions, LengthBuckets
    from zoo.speech import Utterance

    utterances = [Utterance(clips.audio(i), id=clips.records[i].id) for i in positions]
    shape = BatchOptions(batch_size=batch_clips, max_batch_s=1e9, shuffle=False)
    batches = list(LengthBuckets([base.grid_s(u) for u in utterances], shape, grid_of=float).batches())
    distinct = list(dict.fromkeys(condition.on for condition in wanted))
    found: dict[frozenset[str], list[str]] = {on: [""] * len(positions) for on in distinct}
    keys = {on: digest({"sites": sorted(on)}) for on in distinct}
    weights: LoraWeights | None = None
    for members in steps(f"{stored.name} in parts", batches, show=progress):
        key = {
            "base": base.weights_sha256,
            "quantization": base.quantization,
            "dtype": str(base.dtype),
            "context": base.context,
            "tokenizer": base.tokenizer_sha256,
            "adapter": stored.record.weights_sha256,
            "config": stored.record.config_sha256,
            "clips": clips_digest(clips, [positions[m] for m in members]),
            "conditions": sorted(keys.values()),
        }

        def compute(members: list[int] = members) -> dict[str, Any]:
            nonlocal weights
            if weights is None:
                stored.check()
                weights = read_weights(stored.folder, stored.name)
            languages = [clips.records[positions[m]].lang for m in members]
            with resident(bank, weights, wanted) as names:
                texts = _batch(base, bank, names, distinct, [utterances[m] for m in members], languages)
            return {keys[on]: each for on, each in texts.items()}

        item = cache.item(KIND, key, compute)
        for on in distinct:
            for m, text in zip(members, item[keys[on]], strict=True):
                found[on][m] = text
    return found


def _batch(base, bank: "Bank", names, distinct, utterances, languages) -> dict[frozenset[str], list[str]]:
    """One batch under every condition.

    The encoder is walked once with the whole adapter and once with none; a condition branches off at the lowest layer
    where it differs from the walk it is like, so that what layers have in common is computed once.
    """
    import torch

    from adapters.mixture import Mixture
    from training.validation import TOKENS_PER_S, TOKENS_SPARE
    from zoo.interface import DecodeOptions

    options = DecodeOptions(max_tokens=TOKENS_SPARE + int(TOKENS_PER_S * base.grid_s(utterances[0])))
    full = max(distinct, key=len)
    encoder = {site.name: site.layer for site in base.sites if site.part == "encoder"}

    nothing: frozenset[str] = frozenset()

    def under(on: frozenset[str]):
        return bank.mixing(Mixture.one_hot([names[on]] * len(utterances))) if on else bank.off()

    def branch(on: frozenset[str]) -> tuple[bool, int]:
        """Like the whole adapter or like none, and the first encoder layer where it is not."""
        differs = [
            min((encoder[site] for site in (on ^ walk) if site in encoder), default=base.n_layers)
            for walk in (nothing, full)
        ]
        return differs[1] >= differs[0], max(differs)

    texts: dict[frozenset[str], list[str]] = {}
    with torch.inference_mode():
        for like_full, walk in ((False, nothing), (True, full)):
            at: dict[int, list[frozenset[str]]] = {}
            for on in distinct:
                like, layer = branch(on)
                if like == like_full:
                    at.setdefault(layer, []).append(on)
            if not at:
                continue
            state = base.features(utterances)
            for layer in range(base.n_layers + 1):
                with under(walk):
                    state = base.encode(state, until=layer)
                for on in at.get(layer, ()):
                    with under(on):
                        hypotheses = base.decode(base.encode(state), languages, options)
                    texts[on] = [hypothesis.text for hypothesis in hypotheses]
    return texts
