"""What is known about one adapter beside its weights: provenance, scores, checksums."""

import json
import shlex
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin

from adapters.key import AdapterKey
from zoo.errors import AdapterError


@dataclass(frozen=True)
class Score:
    """One measured number. Only scores whose test set, normaliser and decoding are equal may be compared."""

    metric: str
    """`wer`, `cer`, ... as a fraction."""
    value: float
    count: int
    """Reference words (characters) it was counted over."""
    test_set: str
    """Hash of the test set."""
    normaliser: str
    decoding: str
    """How it was decoded: `greedy`, `beam5`, ..."""
    name: str = ""
    """What people call the test set."""

    @property
    def comparable(self) -> tuple[str, str, str, str]:
        return (self.metric, self.test_set, self.normaliser, self.decoding)


@dataclass(frozen=True)
class Record:
    """`record.json` of an adapter in the store."""

    base: str
    language: str
    rank: int
    variant: str = "default"
    version: str = ""
    """Derived from the content by the store."""
    weights_sha256: str = ""
    config_sha256: str = ""
    base_sha256: str = ""
    """Of the base model's weights it was trained on; empty for an adapter made elsewhere."""
    base_verified: bool = False
    """True where `base_sha256` was known and equal to the base's."""
    base_quantization: str = ""
    """`8bit` or `nf4` where it was trained on a quantised base."""
    tokenizer_sha256: str = ""
    context: str = "30s"
    """Context it was trained in."""
    lowest_adapted_layer: int = 0
    """First encoder layer it changes; the number of encoder layers where it changes none."""
    parameters: int = 0
    normaliser: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    scores: tuple[Score, ...] = ()
    update_norms: dict[str, float] = field(default_factory=dict)
    """Site -> Frobenius norm of alpha/r BA."""
    logit_change: float | None = None
    """Largest change of the base's logits on the proof clip, measured at import."""
    proved_base_sha256: str = ""
    """Of the base model's weights that `logit_change` was measured on."""
    licence: str = ""
    author: str = ""
    created: str = ""
    """ISO 8601, UTC."""
    source: str = ""
    """Where an imported adapter came from."""
    notes: str = ""

    @property
    def key(self) -> AdapterKey:
        return AdapterKey(self.base, self.language, self.rank, self.variant)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "record.json") -> "Record":
        """Raises AdapterError, beginning with `where`, for anything but what `to_json` writes."""
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise TypeError(f"it holds a {type(data).__name__}, no object")
            if unknown := sorted(set(data) - {f.name for f in fields(cls)}):
                raise TypeError(f"it has unknown keys {', '.join(map(repr, unknown))}")
            for name, kinds in _TYPES.items():
                if name in data and not isinstance(data[name], kinds):
                    raise TypeError(f"{name} is {data[name]!r}")
            data["scores"] = tuple(Score(**score) for score in data.get("scores", ()))
            record = cls(**data)
            AdapterKey(record.base, record.language, record.rank, record.variant)
            return record
        except (ValueError, TypeError, RecursionError) as error:
            reason = str(error)
        except AdapterError as error:
            reason = error.what
        raise AdapterError(
            f"{where} cannot be read: {reason}",
            valid="the record that was published with the adapter",
            remedy=f"boli adapters rm {shlex.quote(str(Path(where).parent))}, then publish or add the adapter again",
        )


_TYPES: dict[str, Any] = {
    f.name: get_origin(f.type) or f.type
    for f in fields(Record)
    if (get_origin(f.type) or f.type) in (str, bool, int, dict)
} | {"scores": (list, tuple), "seed": (int, type(None)), "logit_change": (int, float, type(None))}
