"""Base models: cards, the families that load them, and the manager that pulls and verifies them.

`from zoo import load` costs next to nothing; torch and transformers are imported when a model is loaded.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.interface import BaseModel


def load(
    name: str,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    context: str | None = None,
    tap: int | None = None,
    quantize: str | None = None,
) -> "BaseModel":
    """Load a base model, frozen and in eval mode. No network is used.

    name: a card (`boli zoo list`), a local folder or archive, or whatever was pulled.
    device: `cpu`, `cuda`, `cuda:1`. dtype: `float32`, `float16`, `bfloat16`.
    context: `30s` or `dynamic`; None: the card's. tap: encoder layers below the tap; None: the card's.
    quantize: None, or what the family offers (`nf4`, `int8`).

    Raises ModelError when it is not there, not whole, or not what was recorded when it was pulled.
    """
    from zoo.manager import resolve
    from zoo.registry import family

    card, folder = resolve(name)
    return family(card.family).load(
        folder, card, device=device, dtype=dtype, context=context, tap=tap, quantize=quantize
    )
