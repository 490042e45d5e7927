"""The bank: the adapters resident in memory on one base model, mixed exactly in one pass.

For a site with base layer f, inputs x `[B, T, d]`, active adapters k with A_k, B_k (alpha/r folded into B) and mixture m:

    y = f(x) + sum_k m_k (x A_k^T) B_k^T

Every site of the base is wrapped once. The mixture belongs to the call: it lives in a context variable of the bank, so
threads and requests cannot see each other's, and after an exception the next call is clean. An adapter keeps exactly
the memory of its own rank; swapping one in is a copy, whoever else is resident.
"""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import nn

from adapters.call import Call
from adapters.mixture import Mixture
from adapters.peft_files import LoraWeights, check_fits, lowest_adapted_layer
from zoo import rows
from zoo.errors import AdapterError, BoliError


class BankFull(BoliError):
    """A call needs more adapters at once than the bank may hold; a smaller batch may fit."""


@dataclass
class Resident:
    """One adapter in memory. A `[r, in]` and B `[r, out]` per site index, alpha/r folded into B."""

    name: str
    slot: int
    A: dict[int, torch.Tensor]
    B: dict[int, torch.Tensor]
    n_bytes: int
    lowest_adapted_layer: int


class BankedLinear(nn.Module):
    """A site: the frozen layer, called and never opened, and what the bank adds to it."""

    def __init__(self, base: nn.Module, bank: "Bank", index: int, axis: str):
        super().__init__()
        self.base, self.index, self.axis = base, index, axis
        self._call = bank._call

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        call = self._call.get()
        return y if call is None else call.add(self.index, self.axis, x, y)


class Bank:
    """Adapters on one base model.

    base: a `zoo` BaseModel; its sites are wrapped in place.
    source: name -> LoraWeights, asked when a mixture names an adapter that is not resident; None: only what was loaded.
    max_bytes, max_adapters: limits; the least recently used adapter that no running call leases goes first.
    dtype: of A, B and the mixture.
    """

    def __init__(
        self,
        base,
        source: Callable[[str], LoraWeights] | None = None,
        *,
        max_bytes: int | None = None,
        max_adapters: int | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        self.base, self.source, self.dtype = base, source, dtype
        self.max_bytes, self.max_adapters = max_bytes, max_adapters
        self._call: ContextVar[Call | None] = ContextVar("boli_mixture", default=None)
        self._residents: OrderedDict[str, Resident] = OrderedDict()
        self._leases: Counter[str] = Counter()
        self._lock = threading.RLock()  # guards the registry of residents only, never a forward pass
        self._loading: dict[str, threading.Lock] = {}
        self._index = {site.name: i for i, site in enumerate(base.sites)}
        self.device = base.device
        if any(isinstance(child, BankedLinear) for child in base.module.modules()):
            raise AdapterError(
                f"{base.card.name} already carries a bank",
                valid="one bank per loaded base model",
                remedy="zoo.load(...) it again",
            )
        for i, site in enumerate(base.sites):
            parent = base.module.get_submodule(site.name.rpartition(".")[0])
            setattr(parent, site.kind, BankedLinear(getattr(parent, site.kind), self, i, site.axis))

    # --- residents

    @property
    def residents(self) -> tuple[str, ...]:
        """Least recently used first."""
        with self._lock:
            return tuple(self._residents)

    @property
    def n_bytes(self) -> int:
        with self._lock:
            return sum(resident.n_bytes for resident in self._residents.values())

    def lowest_adapted_layer(self, name: str) -> int:
        return self._resident(name).lowest_adapted_layer

    def load(self, name: str, weights: LoraWeights) -> None:
        """Swap an adapter in (replacing one of the same name). Raises AdapterError where it does not fit the base, BankFull
        where no room can be made."""
        check_fits(weights, self.base.sites, self.base.card.name)
        A, B, n_bytes = self._copied(weights)
        lowest = lowest_adapted_layer(weights, self.base.sites, self.base.n_layers)
        with self._lock:
            old = self._residents.pop(name, None)
            try:
                self._make_room(n_bytes, name)
            except BankFull:
                if old is not None:
                    self._residents[name] = old
                raise
            taken = {resident.slot for resident in self._residents.values()}
            slot = next(i for i in range(len(taken) + 1) if i not in taken)
            self._residents[name] = Resident(name, slot, A, B, n_bytes, lowest)

    def evict(self, name: str) -> None:
        """Forget an adapter. A running call that leases it keeps its memory until it ends; raises AdapterError meanwhile."""
        with self._lock:
            if self._leases[name]:
                raise AdapterError(
                    f"Adapter {name} is leased by {self._leases[name]} running calls",
                    remedy="evict it when they have ended",
                )
            if self._residents.pop(name, None) is None:
                raise AdapterError(f"Adapter {name} is not resident", valid=", ".join(self._residents) or "none is")

    def _copied(self, weights: LoraWeights) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor], int]:
        """One flat block for the whole adapter, so that it reaches a device in one copy; A and B are views of it."""
        total = sum(site.A.numel() + site.B.numel() for site in weights.sites.values())
        block = torch.empty(total, dtype=self.dtype)
        spans, at = [], 0
        for name, site in weights.sites.items():
            for which, matrix in (("A", site.A), ("B", (site.B * site.scale).T)):
                block[at : at + matrix.numel()].view(matrix.shape).copy_(matrix)
                spans.append((which, self._index[name], at, matrix.shape))
                at += matrix.numel()
        if not bool(block.isfinite().all()):
            raise AdapterError(f"{weights.name} overflows {self.dtype}", remedy="load it into a bank of dtype float32")
        block = block.to(self.device)
        views: dict[str, dict[int, torch.Tensor]] = {"A": {}, "B": {}}
        for which, index, start, shape in spans:
            views[which][index] = block[start : start + shape.numel()].view(shape)
        return views["A"], views["B"], block.numel() * block.element_size()

    def _make_room(self, n_bytes: int, name: str) -> None:
        def fits() -> bool:
            held = sum(resident.n_bytes for resident in self._residents.values())
            return (self.max_bytes is None or held + n_bytes <= self.max_bytes) and (
                self.max_adapters is None or len(self._residents) < self.max_adapters
            )

        free = [resident for resident in self._residents if not self._leases[resident]]
        while not fits():
            if not free:
                limit = f"{self.max_bytes} bytes" if self.max_bytes is not None else f"{self.max_adapters} adapters"
                raise BankFull(
                    f"No room for adapter {name} ({n_bytes} bytes): all {len(self._residents)} residents are in use",
                    valid=f"{limit} at once",
                    remedy="use a smaller batch_size or a larger memory limit",
                )
            del self._residents[free.pop(0)]

    def _resident(self, name: str) -> Resident:
        """The adapter, asked of the source where it is not resident; used just now."""
        with self._lock:
            if name in self._residents:
                self._residents.move_to_end(name)
                return self._residents[name]
            if self.source is None:
                raise AdapterError(
                    f"Adapter {name} is not resident",
                    valid=", ".join(self._residents) or "none is",
                    remedy="bank.load(name, weights)",
                )
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:  # one thread reads the file, others that want the same adapter wait for it
            with self._lock:
                if name in self._residents:
                    return self._residents[name]
            weights = self.source(name)
            self.load(name, weights)
            with self._lock:
                self._loading.pop(name, None)
                return self._residents[name]

    def _lease(self, names: Sequence[str]) -> list[Resident]:
        leased: list[Resident] = []
        try:
            for name in names:
                while True:
                    resident = self._resident(name)
                    with self._lock:
                        if self._residents.get(name) is resident:  # else evicted in between: ask again
                            self._leases[name] += 1
                            leased.append(resident)
                            break
        except BaseException:
            self._release(leased)
            raise
        return leased

    def _release(self, residents: list[Resident]) -> None:
        with self._lock:
            for resident in residents:
                self._leases[resident.name] -= 1
                if self._leases[resident.name] <= 0:
                    del self._leases[resident.name]

    # --- calls

    @contextmanager
    def mixing(self, mixture: Mixture) -> Iterator[None]:
        """Inside this block, in this thread or task, the base model's sites add `mixture`.

        The adapters are leased for as long. Raises AdapterError for an unknown adapter, BankFull where they do not fit.
        """
        used = mixture.weights != 0
        if mixture.frame_weights is not None:
            used = used | (mixture.frame_weights != 0).any(dim=1)
        active = [k for k in range(len(mixture.names)) if bool(used[:, k].any())]
        residents = self._lease([mixture.names[k] for k in active])
        try:
            call = Call(
                residents,
                mixture.weights[:, active].to(self.device, self.dtype),
                None
                if mixture.frame_weights is None
                else mixture.frame_weights[:, :, active].to(self.device, self.dtype),
                used[:, active].to(self.device),
            )
            token = self._call.set(call)
            try:
                with rows.following(call):
                    yield
            finally:
                self._call.reset(token)
        finally:
            self._release(residents)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside this block the base model is alone, also within `mixing`."""
        token = self._call.set(None)
        try:
            yield
        finally:
            self._call.reset(token)
