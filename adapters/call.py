"""One running call of the bank: its adapters, its mixture, and the sum that a site adds.

Three ways through a site, all exact:
- every row mixes the same adapters: two matrix products over their concatenated ranks;
- rows differ and the inputs are long: the same per group of rows that mix the same adapters;
- rows differ and the inputs are short (a decoding step): two products over all active ranks, with what a row does not
  mix masked out. Masked, not multiplied by zero: a slot's NaN must never reach another language.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import RoutingError

if TYPE_CHECKING:
    from adapters.bank import Resident

SHORT = 8  # inputs of up to this many steps take the masked way


@dataclass
class _Group:
    """Rows that mix the same adapters."""

    members: tuple[int, ...]
    """Indices of adapters in the call."""
    rows: torch.Tensor
    span: tuple[int, int] | None
    """(first row, count) where the rows are neighbours, so that they can be sliced without a copy."""


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
        self._packed: dict[
            tuple[int, tuple[int, ...]], tuple[torch.Tensor, torch.Tensor, tuple[int, ...], tuple[int, ...]] | None
        ] = {}
        self._arrange()

    # --- zoo.rows.Follower: the rows move by the index that moves the decoder's cache

    def select(self, index: torch.Tensor) -> None:
        index = index.to(self.weights.device)
        self.weights, self.used = self.weights[index], self.used[index]
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
        """Group the rows by what they mix."""
        self.n_rows = self.weights.shape[0]
        by_members: dict[tuple[int, ...], list[int]] = {}
        for row, flags in enumerate(self.used.tolist()):
            by_members.setdefault(tuple(k for k, flag in enumerate(flags) if flag), []).append(row)
        self.groups = []
        for members, rows in by_members.items():
            if members:
                span = (rows[0], len(rows)) if rows[-1] - rows[0] + 1 == len(rows) else None
                self.groups.append(_Group(members, torch.tensor(rows, device=self.weights.device), span))
        self._scales: dict[tuple, torch.Tensor] = {}

    # --- the sum

    def add(self, site: int, axis: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """y + sum_k m_k (x A_k^T) B_k^T at one site; x `[rows, T, in]`, y `[rows, T, out]`. Raises RoutingError where the
        mixture's rows or frames are not x's."""
        if x.shape[0] != self.n_rows:
            raise RoutingError(
                f"A site sees {x.shape[0]} rows, the mixture has {self.n_rows}", valid="one mixture row per batch row"
            )
        if not self.groups:
            return y
        by_frame = self.frame_weights if axis == "frames" else None
        per_frame = by_frame is not None
        if by_frame is not None and x.shape[1] != by_frame.shape[1]:
            raise RoutingError(
                f"A site sees {x.shape[1]} frames, the mixture has {by_frame.shape[1]}",
                valid="one weight per frame",
            )
        if len(self.groups) == 1 and self.groups[0].span == (0, self.n_rows):
            return self._add_group(self.groups[0], site, per_frame, x, y)
        if x.shape[1] <= SHORT:
            return self._add_masked(site, per_frame, x, y)
        for group in self.groups:
            if group.span is not None:
                start, count = group.span
                part = self._add_group(group, site, per_frame, x[start : start + count], y[start : start + count])
                if part.data_ptr() != y[start].data_ptr():
                    y[start : start + count] = part
            else:
                y[group.rows] = self._add_group(group, site, per_frame, x[group.rows], y[group.rows])
        return y

    def _add_group(self, group: _Group, site: int, per_frame: bool, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        packed = self._pack(site, group.members)
        if packed is None:
            return y
        A, B, members, ranks = packed
        u = x.to(A.dtype) @ A.T
        u = u * self._scale(group.rows, members, ranks, per_frame)
        if per_frame and len(members) > 1:
            u = torch.where(self._scale(group.rows, members, ranks, per_frame) != 0, u, 0.0)
        return _accumulate(y, u, B)

    def _add_masked(self, site: int, per_frame: bool, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        packed = self._pack(site, tuple(range(len(self.residents))))
        if packed is None:
            return y
        A, B, members, ranks = packed
        scale = self._scale(None, members, ranks, per_frame)
        u = torch.where(scale != 0, (x.to(A.dtype) @ A.T) * scale, 0.0)
        return _accumulate(y, u, B)

    def _pack(self, site: int, members: tuple[int, ...]):
        """A `[R, in]` and B `[R, out]` over the concatenated ranks of those members that adapt this site; None where none
        does. Kept for the call: a decode asks for them at every step."""
        key = (site, members)
        if key not in self._packed:
            here = tuple(k for k in members if site in self.residents[k].A)
            if not here:
                self._packed[key] = None
            else:
                parts = [(self.residents[k].A[site], self.residents[k].B[site]) for k in here]
                A = parts[0][0] if len(parts) == 1 else torch.cat([a for a, _ in parts])
                B = parts[0][1] if len(parts) == 1 else torch.cat([b for _, b in parts])
                self._packed[key] = (A, B, here, tuple(a.shape[0] for a, _ in parts))
        return self._packed[key]

    def _scale(
        self, rows: torch.Tensor | None, members: tuple[int, ...], ranks: tuple[int, ...], per_frame: bool
    ) -> torch.Tensor:
        """The mixture spread over ranks: `[rows, 1, R]`, or `[rows, T, R]` per frame. rows None: all."""
        key = (None if rows is None else id(rows), members, ranks, per_frame)
        scale = self._scales.get(key)
        if scale is None:
            weights = self.weights[:, None, :]
            if per_frame:
                assert self.frame_weights is not None
                weights = self.frame_weights
            if rows is not None:
                weights = weights[rows]
            spread = torch.tensor(
                [k for k, rank in zip(members, ranks, strict=True) for _ in range(rank)], device=weights.device
            )
            scale = self._scales[key] = weights[:, :, spread]
        return scale


def _accumulate(y: torch.Tensor, u: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """y + u B, in place where y is a fresh, gradient-free result of the same type."""
    if y.dtype == B.dtype and y.is_contiguous() and not (torch.is_grad_enabled() and y.requires_grad):
        y.view(-1, y.shape[-1]).addmm_(u.view(-1, u.shape[-1]), B)
        return y
    return y + (u @ B).to(y.dtype)
