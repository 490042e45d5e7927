"""Which clip stands in which manifest of the embedded model's corpus."""

import random

from training.data.prompts import SPLITS
from training.data.synthesis_plan import BASE, TARGETS

Rows = list[dict]


def manifests(
    synthetic: dict[tuple[str, str], Rows], recorded: dict[tuple[str, str, str], Rows], seed: int
) -> dict[str, Rows]:
    """Rows of every manifest by file name.

    synthetic: rows by (part, split); recorded: rows by (`human` or `tts`, language, split).
    """
    rng = random.Random(seed)
    out: dict[str, Rows] = {}
    trained = {row["text_id"] for (_, split), rows in synthetic.items() if split == "train" for row in rows}
    for (part, split), rows in synthetic.items():
        if split == "test":  # a phrase that two paragraphs share leaves; single digits stay, they are in every split
            rows = [row for row in rows if row["text_id"] not in trained or row["subset"] == "digits"]
        out[f"{part}_{split}.jsonl"] = rows
    for (kind, language, split), rows in recorded.items():
        if split != "unused":
            out[f"{kind}_{language}_{split}.jsonl"] = [row for row in rows if row["text"]]
    known = [language for language in BASE if language not in TARGETS[1:]]
    for (_, language, split), rows in recorded.items():
        if split == "train" and language in known:
            out["base_train.jsonl"] = out["base_train.jsonl"] + [row for row in rows if row["text"]]
    rng.shuffle(out["base_train.jsonl"])
    for split in SPLITS:
        out[f"lid_{split}.jsonl"] = _languages(synthetic, recorded, split, rng)
    return {name: rows for name, rows in out.items() if rows}


def _languages(synthetic: dict, recorded: dict, split: str, rng: random.Random) -> Rows:
    """Clips to tell languages apart: as many synthetic ones of every target as unknown ones, and all recordings."""
    unknown = synthetic.get(("unknown", split), [])
    rows = list(unknown)
    for language in TARGETS:
        own = synthetic.get((language, split), [])
        rows += rng.sample(own, min(len(unknown), len(own)))
    rows += [row for (_, _, of), found in recorded.items() if of == split for row in found]
    rng.shuffle(rows)
    return [{**row, "label": row["lang"] if row["lang"] in TARGETS else "unknown"} for row in rows]
