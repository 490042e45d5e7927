"""Which adapter of a store serves which language on one base model."""

from adapters.store import Store, StoredAdapter
from zoo.errors import AdapterError
from zoo.fingerprint import tokenizer_as_named


def choose(store: Store, base, *, variant: str | None = None, rank: int | None = None) -> dict[str, StoredAdapter]:
    """language -> adapter. Among several of one language: the given variant, else `default`, else what there is; then the
    given rank, else the largest; then the newest version.

    base: the loaded base model. Raises AdapterError for an adapter that names other weights, tokenizer or context.
    """
    chosen: dict[str, StoredAdapter] = {}
    for stored in store.find(base=base.card.name, variant=variant, rank=rank):
        held = chosen.get(stored.key.language)
        if held is None or _preference(stored) >= _preference(held):
            chosen[stored.key.language] = stored
    for stored in chosen.values():
        check_base(stored, base)
    if not chosen and (variant is not None or rank is not None):
        there = sorted({f"{stored.key.variant} r{stored.key.rank}" for stored in store.find(base=base.card.name)})
        raise AdapterError(
            f"The store {store.folder} has no adapter of variant {variant!r}, rank {rank} for {base.card.name}",
            valid=", ".join(there) or f"nothing for {base.card.name}",
            remedy=f"boli adapters list --store {store.folder}",
        )
    return chosen


def _preference(stored: StoredAdapter) -> tuple:
    return (stored.key.variant == "default", stored.key.rank, stored.record.created, stored.version)


def check_base(stored: StoredAdapter, base) -> None:
    """Raises AdapterError where the record says that the adapter was made for something else. What the record does not
    say (an adapter made elsewhere) is not held against it: shapes are checked when it is loaded."""
    record = stored.record
    facts = (
        ("weights", record.base_sha256, base.weights_sha256),
        ("tokenizer", record.tokenizer_sha256, tokenizer_as_named(base, record.tokenizer_sha256)),
    )
    for what, wanted, found in facts:
        if wanted and wanted != found:
            raise AdapterError(
                f"Adapter {stored.name} was trained on other {what} of {record.base} ({wanted[:12]}, loaded is {found[:12]})",
                valid="the base model it was trained on",
                remedy=f"boli zoo pull {record.base}, or boli adapters rm {stored.key}",
            )
    if record.base_quantization and record.base_quantization != base.quantization:
        raise AdapterError(
            f"Adapter {stored.name} was trained on {record.base} held in {record.base_quantization}, "
            f"the base is held in {base.quantization or base.dtype}",
            valid=f"quantize {record.base_quantization}",
            remedy=f"router.load(..., quantize={record.base_quantization!r})",
        )
    if record.context != base.context:
        raise AdapterError(
            f"Adapter {stored.name} was trained in context {record.context}, the base runs in {base.context}",
            valid=f"context {record.context}",
            remedy=f"router.load(..., context={record.context!r})",
        )
