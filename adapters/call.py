"""One running call of the bank: its adapters, its mixture, and the sum that a site adds.

Three ways through a site, all exact:
- every row mixes the same adapters: two matrix products over their concatenated ranks;
- rows differ and the inputs are long: the same for each run of neighbouring rows that mix the same adapters, on slices
  of the batch, so that no row is ever copied, whatever order the clips come in;
- rows differ and the inputs are short (a decoding step): two products over all active ranks, with what a row does not
  mix masked out. Masked, not multiplied by zero: a slot's NaN must never reach another language.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from zoo.errors import RoutingError

if TYPE_CHECKING:
    from adapters.bank import Resident

SHORT = 8  # inputs of up to this many steps take the masked way


class _Run(NamedTuple):
    """Neighbouring rows that mix the same adapters."""

    start: int
    size: int
    members: tuple[int, ...]
    """Indices of adapters in the call."""


class _Update(NamedTuple):
    """What a run of rows adds at one site."""

    start: int
    size: int
    A: torch.Tensor
    """`[R, in]` over the concatenated ranks."""
    B: torch.Tensor
    """`[R, out]`"""
    scale: torch.Tensor | None
    """The mixture spread over ranks, `[size, 1, R]` or `[size, T, R]`; None where every share is 1."""
    unused: torch.Tensor | None
    """bool, like `scale`: ranks that a row does not mix; None where each row mixes all."""

    def onto(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """y + scale (x A^T) B, in place where y is a fresh, gradient-free result of the same type."""
        u = F.linear(x if x.dtype == self.A.dtype else x.to(self.A.dtype), self.A)
        if self.scale is not None:
            u.mul_(self.scale)
        if self.unused is not None:
            u.masked_fill_(self.unused, 0.0)
        if y.dtype == u.dtype and y.is_contiguous() and not (torch.is_grad_enabled() and y.requires_grad):
            y.view(-1, y.shape[-1]).addmm_(u.view(-1, u.shape[-1]), self.B)
            return y
        return y + (u @ self.B).to(y.dtype)


class Call:
    """residents: K leased adapters; weights `[B, K]`; frame_weights `[B, T, K]` or None; used: bool `[B, K]`, which
    adapters a row mixes at all."""

    def __init__(
        self,
        residents: "Sequence[Resident]",
        weights: torch.Tensor,
        frame_weights: torch.Tensor | None,
        used: torch.Tensor,
    ):
        self.residents = list(residents)
        self.weights, self.frame_weights, self.used = weights, frame_weights, used
        self._packed: dict[tuple[int, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor]] = {}
        self._arrange()

    # --- zoo.rows.Follower: the rows move by the index that moves the decoder's cache

    def select(self, index: torch.Tensor) -> None:
        index = index.to(self.weights.device)
        weights, used = self.weights[index], self.used[index]
        if self.frame_weights is None and torch.equal(weights, self.weights) and torch.equal(used, self.used):
            return  # beams of one clip changed places: they mix the same
        self.weights, self.used = weights, used
        if self.frame_weights is not None:
            self.frame_weights = self.frame_weights[index]
        self._arrange()

    def snapshot(self):
        return self.weights, self.frame_weights, self.used

    def restore(self, state) -> None:
        if state[0] is not self.weights:
            self.weights, self.frame_weights, self.used = state
            self._arrange()

    def _arrange(self) -> None:
        """Find the runs of rows that mix the same."""
        self.n_rows = self.weights.shape[0]
        members = [tuple(k for k, flag in enumerate(flags) if flag) for flags in self.used.tolist()]
        self.runs: list[_Run] = []
        start = 0
        for mixed, rows in groupby(members):
            count = len(list(rows))
            if mixed:
                self.runs.append(_Run(start, count, mixed))
            start += count
        self._everything = [_Run(0, self.n_rows, tuple(range(len(self.residents))))]
        self._updates: dict[tuple[int, bool], list[_Update]] = {}
        self._spreads: dict[tuple, tuple[torch.Tensor | None, torch.Tensor | None]] = {}

    # --- the sum

    def add(self, site: int, axis: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """y + sum_k m_k (x A_k^T) B_k^T at one site; x `[rows, T, in]`, y `[rows, T, out]`. Raises RoutingError where the
        mixture's rows or frames are not x's."""
        if x.shape[0] != self.n_rows:
            raise RoutingError(
                f"A site sees {x.shape[0]} rows, the mixture has {self.n_rows}", valid="one mixture row per batch row"
            )
        by_frame = self.frame_weights if axis == "frames" else None
        if by_frame is not None and x.shape[1] != by_frame.shape[1]:
            raise RoutingError(
                f"A site sees {x.shape[1]} frames, the mixture has {by_frame.shape[1]}",
                valid="one weight per frame",
            )
        masked = x.shape[1] <= SHORT and len(self.runs) > 1
        updates = self._updates.get((site, masked))
        if updates is None:
            updates = self._updates[site, masked] = self._plan(site, masked, by_frame)
        for update in updates:
            if update.size == self.n_rows:
                return update.onto(x, y)
            rows = slice(update.start, update.start + update.size)
            mine = y[rows]
            changed = update.onto(x[rows], mine)
            if changed is not mine:
                y[rows] = changed
        return y

    def _plan(self, site: int, masked: bool, by_frame: torch.Tensor | None) -> list[_Update]:
        """What to add at a site, until the rows move; nothing for rows whose adapters leave it alone."""
        updates = []
        for run in self._everything if masked else self.runs:
            here = tuple(k for k in run.members if site in self.residents[k].A)
            if here:
                updates.append(
                    _Update(run.start, run.size, *self._pack(site, here), *self._spread(run, here, site, by_frame))
                )
        return updates

    def _pack(self, site: int, members: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """A `[R, in]` and B `[R, out]` over the members' concatenated ranks. Kept for the call, also when rows move."""
        packed = self._packed.get((site, members))
        if packed is None:
            A = [self.residents[k].A[site] for k in members]
            B = [self.residents[k].B[site] for k in members]
            packed = (A[0], B[0]) if len(members) == 1 else (torch.cat(A), torch.cat(B))
            self._packed[site, members] = packed
        return packed

    def _spread(
        self, run: _Run, members: tuple[int, ...], site: int, by_frame: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The run's mixture spread over the members' ranks, and which of them a row leaves out; each None where it would
        change nothing."""
        ranks = tuple(self.residents[k].A[site].shape[0] for k in members)
        key = (run, members, ranks, by_frame is not None)
        if key not in self._spreads:
            weights = (self.weights[:, None, :] if by_frame is None else by_frame)[run.start : run.start + run.size]
            columns = torch.tensor(members, device=weights.device).repeat_interleave(
                torch.tensor(ranks, device=weights.device)
            )
            scale = weights[:, :, columns]
            unused = scale == 0
            self._spreads[key] = (
                None if bool(((scale == 1) | unused).all()) else scale,
                unused if bool(unused.any()) else None,
            )
        return self._spreads[key]
