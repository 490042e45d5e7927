"""What each adapter adds to the base, site by site, as factors: never A or B alone, never the dense product.

    delta W = scale B A = U diag(s) V^T

A and B are defined only up to an invertible matrix between them (BG, G^-1 A); U, s and V are not. `compact` finds them
from r x r algebra: A and B are made orthonormal by the Cholesky factors of their Gram matrices in fp64 (CholeskyQR, see
Fukaya et al. 2014), or by QR where those are ill-conditioned; the singular values are those of the r x r core between.

Many adapters do not fit into memory at once: `Adapters.by_site` reads a few sites of all adapters at a time.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from adapters.peft_files import LoraSite, read_some
from analysis.inputs import Choice, adapter_labels, checksums, choose, one_base, open_store
from zoo.errors import AdapterError

if TYPE_CHECKING:
    import torch

    from adapters.store import StoredAdapter

BLOCK_BYTES = 200_000_000  # of factors held at a time by one reader
TOLERANCE = 1e-7  # singular values below this share of the largest are fp32's rounding
_ILL = 1e-3  # of the largest pivot: where Cholesky's smallest is below, QR is taken


@dataclass(frozen=True)
class Place:
    """Where a site lies, read from its name, so that no base has to be loaded."""

    part: str
    """`encoder` or `decoder`."""
    layer: int
    block: str
    """`self_attn`, `encoder_attn`, ...; empty for what stands in the layer itself (`fc1`)."""
    kind: str
    """`q_proj`, `fc1`, ..."""

    @property
    def module(self) -> str:
        """The module type: `self_attn.q_proj`, `fc1`."""
        return f"{self.block}.{self.kind}" if self.block else self.kind

    @property
    def layer_name(self) -> str:
        """`encoder 3`."""
        return f"{self.part} {self.layer}"


def place(site: str) -> Place:
    """The part is the decoder's where its path says so; the layer is the first number in the path."""
    parts = site.split(".")
    part = "decoder" if "decoder" in parts else "encoder"
    numbers = [i for i, each in enumerate(parts) if re.fullmatch(r"\d+", each)]
    at = numbers[0] if numbers else -1
    return Place(part, int(parts[at]) if numbers else 0, ".".join(parts[at + 1 : -1]) if numbers else "", parts[-1])


def layer_order(sites: Sequence[str]) -> list[str]:
    """Names of the layers that the sites lie in, encoder first, bottom up."""
    found = {(place(site).part == "decoder", place(site).layer): place(site).layer_name for site in sites}
    return [found[key] for key in sorted(found)]


def relative_depth(sites: Sequence[str]) -> dict[str, float]:
    """Layer's name -> its depth in its part, 0 for the lowest and 1 for the highest layer, so that bases compare."""
    top: dict[str, int] = {}
    for site in sites:
        where = place(site)
        top[where.part] = max(top.get(where.part, 0), where.layer)
    places = {place(site).layer_name: place(site) for site in sites}
    return {name: where.layer / top[where.part] if top[where.part] else 0.0 for name, where in places.items()}


@dataclass(frozen=True)
class Adapters:
    """Adapters of one base, and the sites at which they can be compared."""

    stored: "tuple[StoredAdapter, ...]"
    base: str
    base_sha256: str
    """Empty where no record names the weights it was trained on."""
    common: tuple[str, ...]
    """Sites that every adapter has, in the order of the base's layers."""
    notes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stored.name for stored in self.stored)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(stored.key.language for stored in self.stored)

    @cached_property
    def checksums(self) -> dict[str, str]:
        return checksums(self.stored)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """What each adapter is, for cache keys: its tensors and how they are scaled."""
        return tuple(f"{stored.record.weights_sha256} {stored.record.config_sha256}" for stored in self.stored)

    def read(self, sites: Sequence[str]) -> list[dict[str, LoraSite]]:
        """The pairs of `sites` of every adapter, in their order."""
        return [read_some(stored.folder, sites, stored.name) for stored in self.stored]

    def blocks(self) -> list[tuple[str, ...]]:
        """The common sites, in groups whose factors fit into BLOCK_BYTES."""
        total = sum(stored.record.parameters for stored in self.stored) * 4
        n = max((len(stored.record.update_norms) for stored in self.stored), default=1)
        size = max(1, int(BLOCK_BYTES / max(1.0, total / n)))
        return [self.common[i : i + size] for i in range(0, len(self.common), size)]

    def by_site(self, sites: Sequence[str] | None = None) -> Iterator[tuple[str, list[LoraSite]]]:
        """(site, each adapter's pair), reading a few sites at a time. Raises AdapterError where shapes differ."""
        wanted = None if sites is None else set(sites)
        for block in self.blocks():
            block = tuple(site for site in block if wanted is None or site in wanted)
            held = self.read(block) if block else []
            for site in block:
                pairs = [found.pop(site) for found in held]
                self.check_shapes(site, pairs)
                yield site, pairs

    def check_shapes(self, site: str, pairs: Sequence[LoraSite]) -> None:
        """Raises AdapterError where the pairs of one site differ in shape: then they are of different bases."""
        shapes = Counter((pair.B.shape[0], pair.A.shape[1]) for pair in pairs)
        if len(shapes) > 1:
            usual = shapes.most_common(1)[0][0]
            odd = next(i for i, p in enumerate(pairs) if (p.B.shape[0], p.A.shape[1]) != usual)
            raise AdapterError(
                f"{self.names[odd]} adapts {site} with another shape than the others "
                f"({pairs[odd].A.shape[1]} -> {pairs[odd].B.shape[0]}, theirs {usual[1]} -> {usual[0]}): "
                "it belongs to another base",
                valid="adapters of one base",
                remedy="name those that belong together: --language, --rank, --variant",
            )


def read_adapters(choice: Choice = Choice(), *, verify: bool = True) -> Adapters:
    """The adapters that are meant, their files checked against their records.

    Raises AdapterError where there is none, where they belong to different bases, or where they share no site.
    """
    store = open_store(choice.store)
    return of_stored(choose(store, choice), verify=verify)


def of_stored(stored: "Sequence[StoredAdapter]", *, verify: bool = True) -> Adapters:
    """As `read_adapters`, of adapters that were chosen already."""
    base, sha256 = one_base(stored)
    if verify:
        with ThreadPoolExecutor() as pool:  # sha256 releases the interpreter's lock
            list(pool.map(lambda each: each.check(), stored))
    counts = Counter(site for each in stored for site in each.record.update_norms)
    common = [site for site, count in counts.items() if count == len(stored)]
    if not common:
        raise AdapterError(
            f"The {len(stored)} adapters have no site in common",
            valid="adapters of overlapping targets",
            remedy="name those that belong together: --variant VARIANT",
        )
    common.sort(key=lambda site: (place(site).part == "decoder", place(site).layer, site))
    notes = []
    if left := len(counts) - len(common):
        notes.append(f"only the {len(common)} sites that all {len(stored)} adapters have are compared; {left} are not")
    if unknown := [each.name for each in stored if not each.record.base_sha256]:
        notes.append(f"taken on trust to be of {base}, whose weights they do not name: {', '.join(unknown[:5])}")
    return Adapters(tuple(stored), base, sha256, tuple(common), tuple(notes), adapter_labels(stored))


@dataclass(frozen=True)
class Compact:
    """Compact singular value decompositions of K updates of one rank r at one site."""

    U: "torch.Tensor"
    """fp32 `[K, out, r]`, orthonormal columns; zero where s is zero."""
    s: "torch.Tensor"
    """fp64 `[K, r]`, descending, scale included."""
    V: "torch.Tensor"
    """fp32 `[K, in, r]`."""


def singular_values(pairs: Sequence[LoraSite]) -> "torch.Tensor":
    """fp64 `[K, r]`, descending, of K updates of one rank."""
    import torch

    left, right = _triangle([pair.B.T for pair in pairs])[0], _triangle([pair.A for pair in pairs])[0]
    return torch.linalg.svdvals(left @ right.mT) * _scales(pairs).abs()


def compact(pairs: Sequence[LoraSite]) -> Compact:
    """The decompositions of K updates of one rank at one site."""
    import torch

    B, A = [pair.B.T for pair in pairs], [pair.A for pair in pairs]
    (Rb, Tb, ill_b), (Ra, Ta, ill_a) = _triangle(B), _triangle(A)
    P, s, Rt = torch.linalg.svd(Rb @ Ra.mT)
    scales = _scales(pairs)
    s = s * scales.abs()
    kept = (s > TOLERANCE * s[:, :1]) & (s > 0)
    keep = kept.unsqueeze(1)
    U = torch.where(keep, _apply(B, Tb @ P * scales.sign().unsqueeze(2), ill_b, P * scales.sign().unsqueeze(2)), 0.0)
    V = torch.where(keep, _apply(A, Ta @ Rt.mT, ill_a, Rt.mT), 0.0)
    return Compact(U, torch.where(kept, s, 0.0), V)


def _scales(pairs: Sequence[LoraSite]) -> "torch.Tensor":
    """fp64 `[K, 1]`"""
    import torch

    return torch.tensor([[pair.scale] for pair in pairs], dtype=torch.float64)


def _triangle(rows: "Sequence[torch.Tensor]") -> "tuple[torch.Tensor, torch.Tensor, dict[int, torch.Tensor]]":
    """For X_k = rows_k^T `[d, r]` = Q_k R_k: R `[K, r, r]`, T `[K, r, r]` with Q = X T, and {k: Q} of those that are
    too ill-conditioned for that. All fp64."""
    import torch

    stacked = torch.stack(list(rows)).double()
    gram = stacked @ stacked.mT
    lengths = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    lengths = torch.where(lengths > 0, lengths, 1.0)
    L, info = torch.linalg.cholesky_ex(gram / (lengths.unsqueeze(1) * lengths.unsqueeze(2)))
    good = (info == 0) & (L.diagonal(dim1=-2, dim2=-1).amin(-1) > _ILL)
    eye = torch.eye(L.shape[1], dtype=L.dtype).expand_as(L)
    L = torch.where(good[:, None, None], L, eye)
    R = L.mT * lengths.unsqueeze(1)
    T = torch.linalg.solve_triangular(L.mT, eye, upper=True) / lengths.unsqueeze(2)
    ill = {}
    for k in torch.nonzero(~good).flatten().tolist():
        ill[k], R[k] = torch.linalg.qr(stacked[k].T)
    return R, T, ill


def _apply(
    rows: "Sequence[torch.Tensor]", T: "torch.Tensor", ill: "dict[int, torch.Tensor]", turn: "torch.Tensor"
) -> "torch.Tensor":
    """fp32 `[K, d, r]`: X T, or Q turn where Q was found by QR."""
    import torch

    made = torch.stack(list(rows)).mT @ T.float()
    for k, Q in ill.items():
        made[k] = (Q @ turn[k]).float()
    return made
