"""The name of an adapter: (base model, language, rank, variant), and where that lies in a store."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from zoo.errors import AdapterError

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_BASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
MAX_RANK = 4096


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
        if not isinstance(self.base, str) or not _BASE.fullmatch(self.base) or "--" in self.base:
            raise AdapterError(
                f"Base model name {self.base!r} cannot be used",
                valid="NAME or OWNER/NAME of letters, digits, '.', '_', single '-'",
                remedy="boli zoo pull NAME --from FOLDER  (it gives a local model a name)",
            )
        if not isinstance(self.language, str) or not _LANGUAGE.fullmatch(self.language):
            raise AdapterError(f"Language {self.language!r} is no BCP-47 tag", valid="hi, pa, te, it, pt-BR, zh-Hant")
        if self.language != (written := _written(self.language)):
            raise AdapterError(f"Language {self.language!r} is written otherwise", valid=written)
        if type(self.rank) is not int or not 1 <= self.rank <= MAX_RANK:
            raise AdapterError(f"Rank {self.rank!r} cannot be used", valid=f"1 to {MAX_RANK}")
        if not isinstance(self.variant, str) or not _VARIANT.fullmatch(self.variant):
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
        """The key whose `path` this begins with. Raises AdapterError where there is none."""
        parts = path.parts[:4]
        if len(parts) < 4 or not re.fullmatch(r"r[1-9][0-9]{0,3}", parts[2]):
            raise AdapterError(f"{path} is no adapter's place in a store", valid="BASE/LANGUAGE/rRANK/VARIANT/VERSION")
        base, language, rank, variant = parts
        return cls(base.replace("--", "/", 1), language, int(rank[1:]), variant)

    def __str__(self) -> str:
        return f"{self.base}:{self.language}:r{self.rank}:{self.variant}"


def _written(tag: str) -> str:
    """BCP-47's own letter case (RFC 5646, 2.1.1), so that one language has one folder: scripts `Hant`, regions `BR`."""
    first, *rest = tag.split("-")
    cases = {4: str.title, 2: str.upper}
    return "-".join(
        [first, *(cases.get(len(part), str.lower)(part) if part.isalpha() else part.lower() for part in rest)]
    )
