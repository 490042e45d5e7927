"""Which mistakes an adapter makes, and which it has cured: classes of errors, confused phones, unknown words, loops.

Every adapter on the clips of its own language, and the base alone on the same clips. The classes are those of
error_classes.py. Phones are those espeak-ng reads from the words, reference and hypothesis alike: what is compared is how
the texts sound, so a wrong spelling that sounds right is no phonetic error.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.error_classes import CLASSES, NO_PHONE, Pronounce, feature_confusions, judge, phone_pairs
from analysis.hearing import Listener
from analysis.inputs import checksums, manifest_checksums, test_set_hash
from analysis.progress import steps
from analysis.result import Provenance, Row
from zoo.errors import DataError

if TYPE_CHECKING:
    from training.clips import Clips
    from training.data.manifest import Record
    from training.evaluation.metrics import Alignment

MOST = 60  # rows of a table of confusions, per system


@dataclass(frozen=True)
class ErrorsResult:
    provenance: Provenance
    classes: tuple[Row, ...]
    """Per language and system (base, adapter): each class, its count and its rate per reference word."""
    vocabulary: tuple[Row, ...]
    """Error rate on words that were and were not in the training texts."""
    phones: tuple[Row, ...]
    """Phones said and written, the most frequent differences first."""
    features: tuple[Row, ...]
    words: tuple[Row, ...]
    """The most frequent wrong words, each with its class."""
    loops: tuple[Row, ...]

    def tables(self) -> dict[str, list[Row]]:
        return {
            "classes": list(self.classes),
            "vocabulary": list(self.vocabulary),
            "phones": list(self.phones),
            "features": list(self.features),
            "words": list(self.words),
            "loops": list(self.loops),
        }


def errors(
    listener: Listener,
    clips: "Clips",
    *,
    vocabulary: "Sequence[Record]" = (),
    manifests: Sequence[Any] = (),
    show: bool = False,
) -> ErrorsResult:
    """vocabulary: what the adapters were trained on; without it nothing is said of unknown words.

    Raises DataError where no clip is in the language of an adapter.
    """
    from training.evaluation.metrics import align
    from training.evaluation.normalisers import indic, normaliser
    from training.evaluation.routing import writes

    spoken = {record.lang for record in clips.records}
    adapters = [s for s in listener.adapters if s.key.language in spoken and writes(listener.base, s.key.language)]
    if not adapters:
        there = ", ".join(stored.key.language for stored in listener.adapters)
        raise DataError(f"The clips speak {', '.join(sorted(spoken))}; no adapter serves any of these", valid=there)
    known: dict[str, set[str]] = {}
    for record in vocabulary:
        known.setdefault(record.lang, set()).update(indic(record.text).split())
    notes = []
    tables: dict[str, list[Row]] = {
        name: [] for name in ("classes", "vocabulary", "phones", "features", "words", "loops")
    }
    jobs = [(stored, own) for stored in adapters for own in (None, stored)]
    total = 0
    for stored, own in steps("errors", jobs, show=show):
        language, name = stored.key.language, "adapter" if own else "base"
        system = listener.hear(own, clips, language, name)
        members = sorted(system.heard)
        records = [clips.records[i] for i in members]
        texts = [system.heard[i].text for i in members]
        aligned = align([r.text for r in records], texts, [r.lang for r in records], normaliser("indic"))
        pronounce, why = _pronouncing(language)
        if why and own:
            notes.append(f"{language}: sounds were not compared, {why}.")
        if own and not known.get(language):
            notes.append(f"{language}: unknown words were not looked for, no training texts were named (--train).")
        total += int(aligned.words[:, :3].sum())
        about = {"language": language, "system": name, "adapter": own.name if own else ""}
        found = _of(aligned, about, pronounce, known.get(language))
        for table, rows in found.items():
            tables[table] += rows
        tables["loops"] += _loops(aligned, records, about)
    provenance = Provenance(
        "errors",
        base=listener.base.card.name,
        base_sha256=listener.base.weights_sha256,
        adapters=checksums(adapters),
        manifests=manifest_checksums(manifests),
        test_set=test_set_hash(clips),
        counts={"adapters": len(adapters), "clips": len(clips), "reference_words": total // 2},
        options={"normaliser": "indic", "near": round(1 / 3, 3)},
        notes=tuple(notes),
    )
    return ErrorsResult(provenance, **{name: tuple(rows) for name, rows in tables.items()})


def _pronouncing(language: str) -> tuple[Pronounce | None, str]:
    """How the words of a language sound, or None and why not."""
    from analysis.spoken import speaker

    try:
        espeak = speaker()
    except DataError as error:
        return None, error.what
    if not espeak.speaks(language):
        return None, "espeak-ng has no voice for it"
    return lambda word: espeak.pronounce(word, language), ""


def _of(aligned: "Alignment", about: Row, pronounce: Pronounce | None, known: set[str] | None) -> dict[str, list[Row]]:
    counts: Counter[str] = Counter()
    words: Counter[tuple[str, str, str]] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    seen: Counter[bool] = Counter()
    wrong: Counter[bool] = Counter()
    for i, (reference, hypothesis) in enumerate(zip(aligned.references, aligned.hypotheses, strict=True)):
        chunks = aligned.chunks[i]
        for error in judge(reference, hypothesis, chunks, loop=bool(aligned.loops[i]), pronounce=pronounce):
            counts[error.kind] += 1
            words[error.reference, error.hypothesis, error.kind] += 1
        if known is not None:
            seen.update(word in known for word in reference)
            for c in chunks:
                if c.type in ("substitute", "delete"):
                    wrong.update(word in known for word in reference[c.ref_start_idx : c.ref_end_idx])
        if pronounce is not None:
            pairs.update(
                phone_pairs(*([p for word in said for p in pronounce(word)] for said in (reference, hypothesis)))
            )
    spoken = int(aligned.words[:, :3].sum())
    total = counts.total()
    tables: dict[str, list[Row]] = {
        "classes": [
            {**about, "class": kind, "count": counts[kind], "share": counts[kind] / total if total else None,
             "per_100_words": 100 * counts[kind] / spoken if spoken else None, "words": spoken}
            for kind in CLASSES
            if pronounce is not None or kind not in ("homophone", "near in sound")
        ],
        "vocabulary": [
            {**about, "known": is_known, "words": seen[is_known], "wrong": wrong[is_known],
             "error_rate": wrong[is_known] / seen[is_known] if seen[is_known] else None}
            for is_known in ((True, False) if known is not None else ())
        ],
        "words": [
            {**about, "said": a, "written": b, "class": kind, "count": n}
            for (a, b, kind), n in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:MOST]
        ],
        "phones": _phones(pairs, about),
        "features": [{**about, **row} for row in feature_confusions(pairs)],
    }  # fmt: skip
    return tables


def _phones(pairs: Counter[tuple[str, str]], about: Row) -> list[Row]:
    """The most frequent differences, and for each phone how often it was said; `∅` is none."""
    said: Counter[str] = Counter()
    for (a, _), number in pairs.items():
        said[a] += number
    different = [(pair, n) for pair, n in pairs.items() if pair[0] != pair[1]]
    different.sort(key=lambda item: (-item[1], item[0]))
    return [
        {**about, "said": a, "written": b, "count": n, "of": said[a] if a != NO_PHONE else None,
         "rate": n / said[a] if a != NO_PHONE else None}
        for (a, b), n in different[:MOST]
    ]  # fmt: skip


def _loops(aligned: "Alignment", records: "Sequence[Record]", about: Row) -> list[Row]:
    from training.evaluation.metrics import find_loop

    return [
        {**about, "id": records[i].id, "phrase": " ".join(find_loop(aligned.hypotheses[i])),
         "reference": " ".join(aligned.references[i]), "hypothesis_words": len(aligned.hypotheses[i])}
        for i in range(len(records))
        if aligned.loops[i]
    ]  # fmt: skip
