"""Many things in the plane: UMAP where there are enough of them, classical scaling where there are few."""

import warnings
from dataclasses import dataclass

import numpy as np

from zoo.threads import thread_count

FEWEST = 15  # UMAP's own default of neighbours: with fewer points its graph says nothing


@dataclass(frozen=True)
class Layout:
    """Points and how they came about."""

    points: np.ndarray
    """`[n, 2]`"""
    method: str
    """`umap`, `classical scaling`, or `none` with fewer than two points."""
    note: str = ""
    """What a reader has to know, where it is not UMAP."""


def of_distances(distances: np.ndarray, seed: int) -> Layout:
    """distances `[n, n]`, symmetric."""
    n = len(distances)
    if n < FEWEST:
        return _few(distances, n)
    return Layout(_umap(np.maximum(distances, 0), seed, "precomputed"), "umap")


def of_features(features: np.ndarray, seed: int) -> Layout:
    """features `[n, d]`, compared by cosine."""
    n = len(features)
    if n < FEWEST:
        length = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / np.where(length > 0, length, 1)
        return _few(1 - unit @ unit.T, n)
    return Layout(_umap(features, seed, "cosine"), "umap")


def _few(distances: np.ndarray, n: int) -> Layout:
    if n < 2:
        return Layout(np.zeros((n, 2)), "none", f"{n} point: there is nothing to lay out")
    note = f"{n} points are too few for UMAP (it wants {FEWEST}): laid out by classical scaling"
    return Layout(classical_scaling(distances), "classical scaling", note)


def classical_scaling(distances: np.ndarray) -> np.ndarray:
    """The two main axes of a distance matrix `[n, n]` (Torgerson 1952): `[n, 2]`."""
    n = len(distances)
    centre = np.eye(n) - 1 / n
    gram = -0.5 * centre @ (distances**2) @ centre
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    order = np.argsort(values)[::-1][:2]
    axes = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    axes = np.pad(axes, ((0, 0), (0, 2 - axes.shape[1])))
    turn = np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # an axis has no direction: the farthest point is positive
    return axes * np.where(turn == 0, 1, turn)


def _umap(values: np.ndarray, seed: int, metric: str) -> np.ndarray:
    with warnings.catch_warnings(), thread_count():  # numba, which it runs on, sets OpenMP's threads for the process
        warnings.simplefilter("ignore")  # it warns of its own dependencies, and that a seed costs parallelism
        import umap

        made = umap.UMAP(
            n_neighbors=min(15, len(values) - 1), metric=metric, random_state=seed, n_jobs=1,
            init="random" if metric == "precomputed" else "spectral",
        )  # fmt: skip
        return np.asarray(made.fit_transform(values), dtype=float)
