"""The name of an adapter: (base model, language, rank, variant), and where that lies in a store."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from zoo.errors import AdapterError

_LANGUAGE = re.compile(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")
_VARIANT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
_BASE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")


@dataclass(frozen=True, order=True)
class AdapterKey:
    """Four parts that tell adapters of one store apart."""

    base: str
    """Card name of the base model: `openai/whisper-small`."""
    language: str
    """BCP-47 tag: `hi`, `pa`, `pt-BR`."""
    rank: int
    variant: str = "default"
    """Keeps seeds, mixing ratios, target sets and tap classes apart."""

    def __post_init__(self):
        if not _BASE.match(self.base):
            raise AdapterError(
                f"Base model name {self.base!r} cannot be used", valid="name or owner/name of letters, digits, . _ -"
            )
        if not _LANGUAGE.match(self.language):
            raise AdapterError(f"Language {self.language!r} is no BCP-47 tag", valid="hi, pa, te, it, pt-BR, ...")
        if not isinstance(self.rank, int) or not 1 <= self.rank <= 4096:
            raise AdapterError(f"Rank {self.rank!r} cannot be used", valid="1 to 4096")
        if not _VARIANT.match(self.variant):
            raise AdapterError(
                f"Variant {self.variant!r} cannot be used",
                valid="up to 64 letters, digits and . _ + -, not starting with a sign",
            )

    @property
    def path(self) -> PurePosixPath:
        """`<base>/<language>/r<rank>/<variant>`, with `/` in the base's name written `--`."""
        return PurePosixPath(self.base.replace("/", "--"), self.language, f"r{self.rank}", self.variant)

    @classmethod
    def from_path(cls, path: PurePosixPath) -> "AdapterKey":
        base, language, rank, variant = path.parts[:4]
        return cls(base.replace("--", "/", 1), language, int(rank.removeprefix("r")), variant)

    def __str__(self) -> str:
        return f"{self.base}:{self.language}:r{self.rank}:{self.variant}"
