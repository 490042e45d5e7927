"""The numbers of a similarity as rows: adapters, pairs, layers, sites, languages, the ceiling."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from analysis.deltas import place
from analysis.overlap import normal_p
from analysis.result import Row

if TYPE_CHECKING:
    from analysis.similarity import Similarity

DETAILED = 64  # adapters up to which every pair and every layer of it is a row


def tables_of(found: "Similarity", twins: Sequence[tuple[int, int]]) -> dict[str, list[Row]]:
    """Name -> rows. twins: pairs that differ in their seed alone; with many adapters single pairs are left out."""
    adapters, K = found.adapters, len(found.adapters.stored)
    labels = [adapters.labels[name] for name in adapters.names]
    languages = adapters.languages
    about = [
        {
            "adapter": labels[i],
            "name": stored.name,
            "language": stored.key.language,
            "rank": stored.key.rank,
            "variant": stored.key.variant,
            "seed": stored.record.seed,
            "parameters": stored.record.parameters,
            "x": float(found.layout.points[i, 0]),
            "y": float(found.layout.points[i, 1]),
            "leaf": found.order.index(i),
        }
        for i, stored in enumerate(adapters.stored)
    ]
    matrix: list[Row] = [
        {"adapter": labels[i]} | {labels[j]: float(found.cosine[i, j]) for j in range(K)} for i in range(K)
    ]
    tables: dict[str, list[Row]] = {"adapters": about, "cosine": matrix}
    if K <= DETAILED:
        tables["pairs"] = [_pair_row(found, labels, i, j, (i, j) in set(twins)) for i, j in combinations(range(K), 2)]
        tables["layers"] = [
            {
                "adapter": labels[i],
                "other": labels[j],
                "layer": layer,
                "depth": found.depths[n],
                "cosine": float(found.layer_cosine[n, i, j]),
                "output_overlap": float(found.layer_left[n, i, j]),
                "input_overlap": float(found.layer_right[n, i, j]),
            }
            for i, j in combinations(range(K), 2)
            for n, layer in enumerate(found.layers)
        ]
    upper = np.triu_indices(K, 1)
    if K > 1:
        tables["sites"] = [
            {
                "site": site,
                "layer": place(site).layer_name,
                "module": place(site).module,
                "mean_cosine": float(np.nanmean(found.site_cosine[n][upper])),
                "largest_cosine": float(np.nanmax(found.site_cosine[n][upper])),
            }
            for n, site in enumerate(adapters.common)
            if np.isfinite(found.site_cosine[n][upper]).any()
        ]
    between: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for i, j in combinations(range(K), 2):
        first, second = sorted((languages[i], languages[j]))
        between[first, second].append((i, j))
    tables["languages"] = [
        {
            "language": first,
            "other": second,
            "pairs": len(members),
            "cosine": (mean := float(np.mean([found.cosine[i, j] for i, j in members]))),
            "share_of_ceiling": mean / found.ceiling if found.ceiling else None,
            "output_overlap": float(np.mean([found.left[i, j] for i, j in members])),
            "output_above_chance": float(np.mean([found.left_above[i, j] for i, j in members])),
            "input_overlap": float(np.mean([found.right[i, j] for i, j in members])),
            "input_above_chance": float(np.mean([found.right_above[i, j] for i, j in members])),
        }
        for (first, second), members in sorted(between.items())
    ]
    tables["ceiling"] = [_pair_row(found, labels, i, j, True) for i, j in twins]
    tables["angles"] = list(found.angles)
    return {name: rows for name, rows in tables.items() if rows}


def _pair_row(found: "Similarity", labels: Sequence[str], i: int, j: int, twins: bool) -> Row:
    stored = found.adapters.stored
    seeds = (stored[i].record.seed, stored[j].record.seed)
    return {
        "adapter": labels[i],
        "other": labels[j],
        "language": stored[i].key.language,
        "other_language": stored[j].key.language,
        "two_seeds": twins,
        "same_seed": None if None in seeds else seeds[0] == seeds[1],
        "cosine": float(found.cosine[i, j]),
        "output_overlap": float(found.left[i, j]),
        "output_above_chance": float(found.left_above[i, j]),
        "output_z": float(found.left_z[i, j]),
        "output_p": normal_p(float(found.left_z[i, j])),
        "input_overlap": float(found.right[i, j]),
        "input_above_chance": float(found.right_above[i, j]),
        "input_z": float(found.right_z[i, j]),
        "input_p": normal_p(float(found.right_z[i, j])),
    }
