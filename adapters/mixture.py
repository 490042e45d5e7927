"""A mixture: a weight per adapter, per utterance or per frame."""

from dataclasses import dataclass

import torch

from zoo.errors import RoutingError


@dataclass(frozen=True)
class Mixture:
    """names: `K` adapters; weights: `[B, K]`; frame_weights: `[B, T, K]` or None.

    One-hot rows are hard routing; a row of zeros is the base alone. Where `frame_weights` are given they rule at the
    sites that see encoder frames, `weights` at the sites that see decoder tokens.
    """

    names: tuple[str, ...]
    weights: torch.Tensor
    frame_weights: torch.Tensor | None = None

    def __post_init__(self):
        K = len(self.names)
        if len(set(self.names)) != K:
            raise RoutingError(f"A mixture names an adapter twice: {list(self.names)}", valid="distinct names")
        if self.weights.ndim != 2 or self.weights.shape[1] != K:
            raise RoutingError(
                f"Mixture weights of shape {list(self.weights.shape)} for {K} adapters", valid=f"[B, {K}]"
            )
        frames = self.frame_weights
        if frames is not None and (
            frames.ndim != 3 or frames.shape[0] != self.weights.shape[0] or frames.shape[2] != K
        ):
            raise RoutingError(
                f"Frame weights of shape {list(frames.shape)}", valid=f"[{self.weights.shape[0]}, T, {K}]"
            )
        for tensor in (self.weights, frames):
            if tensor is not None and not bool(tensor.isfinite().all()):
                raise RoutingError("A mixture holds weights that are NaN or infinite", valid="finite weights")

    def rows(self, chosen: slice) -> "Mixture":
        """These rows, and of the adapters those that they mix."""
        weights, frames = self.weights[chosen], self.frame_weights
        frames = None if frames is None else frames[chosen]
        used = (weights != 0).any(dim=0)
        if frames is not None:
            used = used | (frames != 0).flatten(0, 1).any(dim=0)
        return Mixture(
            tuple(name for name, flag in zip(self.names, used.tolist(), strict=True) if flag),
            weights[:, used],
            None if frames is None else frames[:, :, used],
        )

    @classmethod
    def one_hot(cls, rows: list[str | None]) -> "Mixture":
        """One adapter per row; None is the base alone."""
        names = tuple(sorted({row for row in rows if row is not None}))
        return cls.from_rows([{row: 1.0} if row is not None else {} for row in rows], names)

    @classmethod
    def from_rows(cls, rows: list[dict[str, float]], names: tuple[str, ...] | None = None) -> "Mixture":
        """rows: one {adapter: weight} per utterance."""
        names = tuple(sorted({name for row in rows for name in row})) if names is None else names
        weights = torch.zeros(len(rows), len(names))
        for b, row in enumerate(rows):
            for name, weight in row.items():
                weights[b, names.index(name)] = weight
        return cls(names, weights)
