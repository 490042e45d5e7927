"""What the figures allow to be said, and what they do not: put together from the numbers alone."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.result import Row
from analysis.sections import named, percent, signed
from analysis.sections.transfer import cells

if TYPE_CHECKING:
    from analysis.report import Chapter
    from analysis.report_inputs import Inputs

FEW_CLIPS = 100  # of a language, below which an interval is wide and its bootstrap coarse
ALPHA = 0.05


def discuss(chapters: "Sequence[Chapter]") -> list[str]:
    """Statements that join sections. What was not measured is not spoken of."""
    tables = {chapter.section.name: chapter.tables for chapter in chapters if not chapter.missing}
    return [*_did_they_learn(tables), *_do_they_help(tables), *_what_goes_with_it(tables), *_where(tables)]


def overview(chapters: "Sequence[Chapter]") -> list[Row]:
    """One row a language with an adapter: what the adapter does at home, what others do there, what it costs in
    English."""
    tables = {chapter.section.name: chapter.tables for chapter in chapters if not chapter.missing}
    rows = cells(tables.get("transfer", {}))
    of = {(r["source"], r["target"]): r for r in rows}
    found: list[Row] = []
    for source, target in of:
        if source != target or ("base", target) not in of:
            continue
        own, base, english = of[source, target], of["base", target], of.get((source, "en"))
        others = [r for r in rows if r["target"] == target and r["source"] not in ("base", target)]
        best = max((r for r in others if r["gain"] is not None), key=lambda r: r["gain"], default=None)
        found.append(
            {
                "language": target, "clips": own["clips"], "CER base": percent(base["value"], 1),
                "CER adapter": percent(own["value"], 1), "gain": signed(own["gain"], 1),
                "95 % interval": f"{signed(own['gain_low'], 1)} to {signed(own['gain_high'], 1)}" if own["gain_low"] is not None else None,
                "best foreign adapter": f"{best['source']} ({signed(best['gain'], 1)})" if best else None,
                "gain in English": signed(english["gain"], 1) if english and target != "en" else None,
            }
        )  # fmt: skip
    return found


def _did_they_learn(tables) -> list[str]:
    rows = [r for r in cells(tables.get("transfer", {})) if r["source"] == r["target"] and r["gain"] is not None]
    if not rows:
        return []
    sure = [r["target"] for r in rows if r["gain_low"] > 0]
    worse = [r["target"] for r in rows if r["gain_high"] < 0]
    open_ones = [r["target"] for r in rows if r["target"] not in (*sure, *worse)]
    said = (
        f"On these clips {len(sure)} of {len(rows)} adapters reduce the character errors of their own language beyond "
        f"their 95 % interval ({named(sure)})."
    )
    if worse:
        said += f" {named(worse).capitalize()} got worse."
    if open_ones:
        said += f" For {named(open_ones)} the interval holds zero: these clips do not tell."
    return [said]


def _do_they_help(tables) -> list[str]:
    rows = cells(tables.get("transfer", {}))
    own = {r["target"]: r["gain"] for r in rows if r["source"] == r["target"] and r["gain"] is not None}
    other = [
        r for r in rows if r["source"] not in ("base", r["target"]) and r["target"] in own and r["gain"] is not None
    ]
    said = []
    if other:
        ahead = [f"{r['source']}→{r['target']}" for r in other if r["gain"] > own[r["target"]]]
        mean = sum(r["gain"] for r in other) / len(other)
        mean_own = sum(own.values()) / len(own)
        said.append(
            f"Another language's adapter gains {signed(mean)} on average, the language's own {signed(mean_own)}. "
            + (
                f"In {len(ahead)} of {len(other)} pairs the foreign adapter does better than the own one"
                f"{f' ({named(ahead)})' if len(ahead) <= 6 else ''}; these are point values, the "
                "intervals stand in the table."
                if ahead
                else "In no pair does the foreign adapter do better than the own one: on these clips what an adapter learned "
                "is of its language."
            )
        )
    return said


def _what_goes_with_it(tables) -> list[str]:
    rows = tables.get("transfer", {}).get("correlations", [])
    tested = [r for r in rows if r["correlation"] is not None]
    if not tested:
        return [f"Why one adapter helps another language cannot be said: {rows[0]['reason']}."] if rows else []
    found = [r for r in tested if r["p"] < ALPHA / len(tested)]
    names = [f"{r['what']} with {r['against']} (ρ = {r['correlation']:+.2f}, p = {r['p']:.3f})" for r in found]
    least = max(r["least_p"] for r in tested)
    if least >= ALPHA / len(tested):
        return [
            f"The permutation tests cannot settle why one adapter helps another language: with {tested[0]['languages']} "
            f"languages the smallest p is {least:.3f}, above the {ALPHA / len(tested):.3f} that {len(tested)} tests call "
            f"for. The correlations are descriptions of these pairs, no more. It takes {_enough(len(tested))} languages or more."
        ]
    if found:
        return [f"After correction for {len(tested)} tests, {named(names)} go together. A correlation names no cause."]
    return [
        f"None of {len(tested)} permutation tests finds a relation (corrected for their number; smallest p "
        f"{min(r['p'] for r in tested):.3f}): neither distance nor similarity of updates explains these gains."
    ]


def _enough(tests: int) -> int:
    """Languages from which on an exact permutation test can reach the corrected level."""
    return next(n for n in range(3, 20) if 1 / math.factorial(n) < ALPHA / tests)


def _where(tables) -> list[str]:
    said = []
    changes = [r for r in tables.get("probes", {}).get("changes", []) if r["low"] is not None and r["layer"] > 0]
    if changes:
        beyond = [r for r in changes if r["low"] > 0 or r["high"] < 0]
        chance = ALPHA * len(changes)
        word = "hardly more than" if len(beyond) < 2 * chance else "more than"
        said.append(
            f"Probes: {len(beyond)} of {len(changes)} differences between adapter and base leave out zero, {word} the "
            f"{chance:.0f} that chance gives; the mean change is {100 * _mean(changes, 'change'):+.1f} points of accuracy. "
            + (
                "A linear probe on the encoder sees little of what the adapters change."
                if len(beyond) < 2 * chance
                else "The adapters change what the encoder makes linearly readable."
            )
        )
    classes = tables.get("errors", {}).get("classes", [])
    if classes:
        gone: Counter[str] = Counter()
        for r in classes:
            gone[r["class"]] += (1 if r["system"] == "base" else -1) * r["count"]
        most, count = gone.most_common(1)[0]
        worst, added = min(gone.items(), key=lambda item: item[1])
        said.append(
            f"Errors: over all languages the adapters take away most of class “{most}” ({count} fewer)"
            + (f"; “{worst}” grows by {-added}." if added < 0 else "; no class grows.")
        )
    vocabulary = [
        r for r in tables.get("errors", {}).get("vocabulary", []) if r["system"] == "adapter" and not r["known"]
    ]
    if words := sum(r["words"] for r in vocabulary):
        wrong = sum(r["wrong"] for r in vocabulary)
        said.append(f"Words that no training text held ({words}) are wrong in {percent(wrong / words)} of cases.")
    return said


def _mean(rows, field: str) -> float:
    return sum(r[field] for r in rows) / len(rows)


def limits(inputs: "Inputs", chapters: "Sequence[Chapter]") -> list[str]:
    """What a reader must keep in mind, from the clips and the records."""
    from training.evaluation.systems import speech_of

    records = inputs.clips.records
    clips = Counter(record.lang for record in records)
    speakers = {lang: len({r.speaker for r in records if r.lang == lang and r.speaker}) for lang in clips}
    kinds = Counter(speech_of(record) or "kind not stated" for record in records)
    found = [
        f"{len(records)} clips: "
        + ", ".join(f"{lang} {n} ({speakers[lang] or 'unknown'} speakers)" for lang, n in sorted(clips.items()))
        + f"; {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}."
    ]
    if few := [lang for lang, n in clips.items() if n < FEW_CLIPS]:
        found.append(f"Fewer than {FEW_CLIPS} clips in {named(sorted(few))}: read their intervals, not their values.")
    if len(kinds) > 1 or "synthetic" in kinds:
        found.append("Part of the speech is synthetic: error rates on it say little about people.")
    seeds: Counter[tuple] = Counter()
    for stored in inputs.adapters.stored:
        seeds[stored.key.language, stored.key.rank] += 1
    if seeds and max(seeds.values()) == 1:
        found.append(
            "One adapter for each language and rank: the intervals cover the choice of clips, not of the training's seed."
        )
    if missing := [chapter.section.title for chapter in chapters if chapter.missing]:
        found.append(f"Not measured: {named(missing)}; the reasons stand in their places.")
    return found
