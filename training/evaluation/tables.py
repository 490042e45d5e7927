"""Tables for people: what was predicted clip by clip, and which errors are the most frequent, per language."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from training.data.files import written_whole
from training.data.manifest import Record
from training.evaluation.metrics import DROPPED_RUN, Alignment, find_loop
from zoo.errors import DataError

CONFUSIONS = 50  # most frequent errors of each kind that a table keeps


@dataclass(frozen=True)
class Prediction:
    """One line of predictions.csv."""

    id: str
    language: str
    subset: str
    speaker: str
    duration_s: float | None
    reference: str
    hypothesis: str
    reference_scored: str
    """After the normaliser."""
    hypothesis_scored: str
    words: int
    """In the reference."""
    substitutions: int
    deletions: int
    insertions: int
    wer: float | None
    cer: float | None
    dropped_runs: int
    """Runs of >= 3 deleted words."""
    loop: str
    """The phrase that is repeated on end, if one is."""
    aligned: str
    """Reference and hypothesis word by word: `word`, `ref>hyp`, `-deleted`, `+inserted`."""


@dataclass(frozen=True)
class ErrorRow:
    """How often one thing went wrong in one language."""

    language: str
    kind: str
    """substitution, deletion, insertion, character substitution, dropped run, loop."""
    reference: str
    hypothesis: str
    count: int
    share: float
    """Of all errors of this kind in this language."""


def predictions(records: Sequence[Record], hypotheses: Sequence[str], alignment: Alignment) -> list[Prediction]:
    """One row a clip, by language, the worst first. `alignment` is of the same clips in the same order."""
    if not len(records) == len(hypotheses) == len(alignment.words):
        raise DataError(
            f"{len(records)} clips, {len(hypotheses)} hypotheses and {len(alignment.words)} alignments do not match"
        )
    rows = []
    for i, (record, hypothesis) in enumerate(zip(records, hypotheses, strict=True)):
        hits, substitutions, deletions, insertions = (int(n) for n in alignment.words[i])
        words = hits + substitutions + deletions
        characters = alignment.characters[i]
        length = int(characters[:3].sum())
        rows.append(
            Prediction(
                id=record.id,
                language=record.lang,
                subset=record.subset,
                speaker=record.speaker,
                duration_s=record.duration,
                reference=record.text,
                hypothesis=hypothesis,
                reference_scored=" ".join(alignment.references[i]),
                hypothesis_scored=" ".join(alignment.hypotheses[i]),
                words=words,
                substitutions=substitutions,
                deletions=deletions,
                insertions=insertions,
                wer=round((substitutions + deletions + insertions) / words, 4) if words else None,
                cer=round(int(characters[1:].sum()) / length, 4) if length else None,
                dropped_runs=int(alignment.dropped_runs[i]),
                loop=" ".join(find_loop(alignment.hypotheses[i])) if alignment.loops[i] else "",
                aligned=aligned(alignment, i),
            )
        )
    return sorted(rows, key=lambda row: (row.language, -(row.wer if row.wer is not None else np.inf), row.id))


def aligned(alignment: Alignment, index: int) -> str:
    """One utterance word by word: `word`, `ref>hyp`, `-deleted`, `+inserted`."""
    reference, hypothesis = alignment.references[index], alignment.hypotheses[index]
    out: list[str] = []
    for c in alignment.chunks[index]:
        before, after = reference[c.ref_start_idx : c.ref_end_idx], hypothesis[c.hyp_start_idx : c.hyp_end_idx]
        if c.type == "equal":
            out += before
        elif c.type == "delete":
            out += [f"-{word}" for word in before]
        elif c.type == "insert":
            out += [f"+{word}" for word in after]
        else:
            out += [f"{a}>{b}" for a, b in zip(before, after, strict=True)]
    return " ".join(out)


def errors(alignment: Alignment, languages: Sequence[str]) -> list[ErrorRow]:
    """The most frequent errors of each kind and language."""
    from rapidfuzz.distance import Levenshtein

    rows: list[ErrorRow] = []
    for language in sorted(set(languages)):
        counts: dict[str, Counter[tuple[str, str]]] = {
            kind: Counter()
            for kind in ("substitution", "deletion", "insertion", "character substitution", "dropped run", "loop")
        }
        for i in (i for i, lang in enumerate(languages) if lang == language):
            reference, hypothesis = alignment.references[i], alignment.hypotheses[i]
            for c in alignment.chunks[i]:
                before, after = reference[c.ref_start_idx : c.ref_end_idx], hypothesis[c.hyp_start_idx : c.hyp_end_idx]
                if c.type == "substitute":
                    pairs = list(zip(before, after, strict=True))
                    counts["substitution"].update(pairs)
                    for a, b in pairs:
                        for op in Levenshtein.editops(a, b):
                            if op.tag == "replace":
                                counts["character substitution"][a[op.src_pos], b[op.dest_pos]] += 1
                elif c.type == "delete":
                    counts["deletion"].update((word, "") for word in before)
                    if len(before) >= DROPPED_RUN:
                        counts["dropped run"][" ".join(before), ""] += 1
                elif c.type == "insert":
                    counts["insertion"].update(("", word) for word in after)
            if alignment.loops[i]:
                counts["loop"]["", " ".join(find_loop(hypothesis))] += 1
        for kind, found in counts.items():
            total = found.total()
            ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
            rows += [ErrorRow(language, kind, a, b, n, round(n / total, 4)) for (a, b), n in ordered]
    return rows


def write_tables(
    folder: Path, records: Sequence[Record], hypotheses: Sequence[str], alignment: Alignment
) -> dict[str, Path]:
    """predictions.csv, and predictions_<lang>.csv and errors_<lang>.csv for each language. Name -> path.

    Written with a byte-order mark, so that spreadsheets show Devanagari, Gurmukhi and Telugu.
    """
    rows = predictions(records, hypotheses, alignment)
    wrong = errors(alignment, [record.lang for record in records])
    tables: dict[str, Sequence[Prediction | ErrorRow]] = {"predictions": rows}
    for language in sorted({row.language for row in rows}):
        tables[f"predictions_{language}"] = [row for row in rows if row.language == language]
        tables[f"errors_{language}"] = [row for row in wrong if row.language == language]
    written = {}
    for name, members in tables.items():
        kind = ErrorRow if name.startswith("errors") else Prediction
        written[name] = _write(Path(folder) / f"{name}.csv", [f.name for f in fields(kind)], map(asdict, members))
    return written


def _write(path: Path, columns: Sequence[str], rows: "map[Mapping]") -> Path:
    with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path
