"""What a base with one of its adapters, or with none, writes for clips: decoded once, then kept.

Transfer, errors and efficiency all read these transcripts, so no clip is decoded twice for them.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.cache import Cache
from analysis.inputs import Choice, clips_digest, load_base, one_base, open_store
from zoo.errors import AdapterError

if TYPE_CHECKING:
    from adapters.store import StoredAdapter
    from router.router import Router
    from training.clips import Clips
    from training.evaluation.systems import System

KIND = "heard-1"


@dataclass
class Listener:
    """A loaded base, its store, and the transcripts that are kept."""

    router: "Router"
    cache: Cache
    adapters: "list[StoredAdapter]"
    """One a language: what a router would serve it with."""
    every: "list[StoredAdapter]"
    """All ranks and variants of each language that are trained on all of its data."""
    few: "list[StoredAdapter]"
    """Those trained on a share of the data or from another language's adapter."""

    @property
    def base(self) -> Any:
        return self.router.base

    def mixing(self, stored: "StoredAdapter | None", rows: int) -> AbstractContextManager[Any]:
        """Inside the block the base runs with `stored` for so many rows of a batch; None: alone."""
        from adapters.mixture import Mixture

        if stored is None:
            return self.router.bank.off()
        self.router.sharing(fleet={stored.key.language: stored})  # makes its name known to the bank
        return self.router.bank.mixing(Mixture.one_hot([stored.name] * rows))

    def hear(self, stored: "StoredAdapter | None", clips: "Clips", language: str, name: str) -> "System":
        """What the base with `stored` (None: alone) writes for the clips of `language`, told that language.

        The System is called `name`; its `heard` has the positions of the clips of that language.
        """
        from training.evaluation.systems import Heard, System, told

        positions = [i for i, record in enumerate(clips.records) if record.lang == language]
        base = self.base
        key = {
            "base": base.weights_sha256,
            "quantization": base.quantization,
            "dtype": str(base.dtype),
            "context": base.context,
            "tokenizer": base.tokenizer_sha256,
            "adapter": stored.record.weights_sha256 if stored else "",
            "config": stored.record.config_sha256 if stored else "",
            "language": language,
            "beam": self.router.options.beam_size,
            "clips": clips_digest(clips, positions),
        }

        def compute() -> dict[str, Any]:
            fleet = {language: stored} if stored else {}
            heard = told(self.router.sharing(fleet=fleet), name, clips, positions).heard
            return {"texts": [heard[i].text for i in positions]}

        texts = self.cache.item(KIND, key, compute)["texts"]
        conditions = {"adapter": stored.name} if stored else {}
        return System(name, conditions, {i: Heard(t, language, 1.0) for i, t in zip(positions, texts, strict=True)})


def listen(
    choice: Choice, cache: Cache, *, model: str | None = None, device: str = "cpu", batch_size: int = 16
) -> Listener:
    """Load the base that the store's adapters belong to (or `model`), with the adapters that are meant.

    Raises AdapterError where there is none, or where they belong to several bases and none was named.
    """
    from router.options import TranscribeOptions
    from router.router import Router
    from training.evaluation.adapters import newest

    store = open_store(choice.store)
    named = choice.base or (model if model and store.find(base=model) else None)
    found = newest(store.find(base=named, rank=choice.rank, variant=choice.variant))
    if not found:
        there = sorted({str(stored.key) for stored in store.all()})
        raise AdapterError(
            f"The store {store.folder} has no adapter that is meant",
            valid=", ".join(there[:8]) or "the store is empty",
            remedy=f"boli adapters list --store {store.folder}",
        )
    one_base(found)
    base = load_base(found, model, device)
    few = [stored for stored in found if is_few_shot(stored)]
    every = [stored for stored in found if not is_few_shot(stored)]
    if choice.languages:
        every = [stored for stored in every if stored.key.language in choice.languages]
        few = [stored for stored in few if stored.key.language in choice.languages]
    router = Router(base, store, None, TranscribeOptions(batch_size=batch_size))
    return Listener(router, cache, one_a_language(every), every, few)


def is_few_shot(stored: "StoredAdapter") -> bool:
    """Whether it began as another language's adapter or saw a part of its data only."""
    recipe = stored.record.recipe
    return bool(recipe.get("adapter", {}).get("start_from") or recipe.get("data", {}).get("max_train_clips"))


def one_a_language(found: "Sequence[StoredAdapter]") -> "list[StoredAdapter]":
    """As the router chooses (router/fleet.py): variant `default` before others, then the largest rank, then the newest."""
    chosen: dict[str, StoredAdapter] = {}
    for stored in found:
        held = chosen.get(stored.key.language)
        if held is None or _preference(stored) >= _preference(held):
            chosen[stored.key.language] = stored
    return [chosen[language] for language in sorted(chosen)]


def _preference(stored: "StoredAdapter") -> tuple:
    return (stored.key.variant == "default", stored.key.rank, stored.record.created, stored.version)
