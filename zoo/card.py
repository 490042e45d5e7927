"""A card: what the zoo knows about one base model."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from zoo.errors import ModelError


@dataclass(frozen=True)
class Card:
    name: str
    """How users call it: `openai/whisper-small`, `debug`, `boli-embedded`."""
    family: str
    """Name under which its family is registered: `whisper`, `owsm`, ..."""
    source: str = ""
    """Where it comes from: `hub:openai/whisper-small`, `file:/path`, `https://...`, `builtin:debug`."""
    revision: str = ""
    """Pinned revision of the source."""
    licence: str = ""
    parameters: int = 0
    size_bytes: int = 0
    """Bytes to download."""
    languages: tuple[str, ...] = ()
    """BCP-47 tags it can write."""
    frame_rate: float = 50.0
    """Encoder frames per second."""
    n_layers: int = 0
    """Encoder layers."""
    tap: int = 0
    """Encoder layers below the tap (measured by the tap sweep; a default where it was not)."""
    context: str = "30s"
    """`30s` (Whisper's own padding) or `dynamic` (padded to the next point of the grid)."""
    grid_s: float = 1.0
    """Step of the grid of context `dynamic`, in seconds."""
    longest_s: float = 0.0
    """Longest clips it was taught on, in seconds: the router cuts recordings into pieces no longer. Its encoder may take
    more, but hears no better than it was taught. 0: as much as the encoder takes."""
    beam_size: int = 1
    """Beams of its search where no caller says otherwise; 1 is greedy."""
    ctc_weight: float = 0.0
    """Share of CTC in the scores of its search where no caller says otherwise; only with a CTC head (zoo/ctc.py)."""
    targets: tuple[str, ...] = ()
    """Kinds of module LoRA attaches to by default."""
    files: dict[str, str] = field(default_factory=dict)
    """File name -> sha256, where known."""
    notes: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Card":
        """Raises ModelError for an unknown key: a typo in a card must not pass silently."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ModelError(
                f"Card {data.get('name', '?')!r} has unknown keys {unknown}", valid=", ".join(sorted(known))
            )
        data = dict(data)
        for key in ("languages", "targets"):
            data[key] = tuple(data.get(key, ()))
        return cls(**data)
