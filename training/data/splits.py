"""Train, dev and test sets that share no speaker and no text.

A corpus in which every speaker reads the same sentences (the Hindi set in facts.md: 5 speakers, 122 texts, all read by
all) cannot be cut both ways without loss: speakers and texts are each given to one set, and clips whose speaker and
text belong to different sets are left out, counted. Where speakers and texts fall into separate groups nothing is lost.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from training.data.manifest import Record
from training.evaluation.normalisers import indic
from zoo.errors import DataError

BY = ("speaker", "text")


@dataclass
class Split:
    """A division of records."""

    sets: dict[str, list[Record]]
    """Name -> records, `subset` set to the name."""
    left_out: list[Record] = field(default_factory=list)
    """Clips whose speaker and text belong to different sets."""
    unknown_speakers: int = 0
    """Clips without a speaker: each counts as a speaker of its own, so independence is not proved for them."""


def split(
    records: Sequence[Record],
    shares: Mapping[str, float],
    *,
    by: Sequence[str] = BY,
    seed: int = 0,
) -> Split:
    """Divide each language by `shares` (of its seconds), sets independent in `by` (`speaker`, `text` or both).

    Two texts are one if they are equal under the Indic normaliser. A speaker of several languages is in one set only.
    Raises DataError where a language has fewer speakers (or texts) than there are sets.
    """
    _check(records, shares, by)
    total = sum(shares.values())
    names = [name for name in shares if shares[name] > 0]
    goal = {name: shares[name] / total for name in names}
    random = np.random.default_rng(seed)
    by_language: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_language[record.lang].append(record)
    home: dict[tuple[str, str], str] = {}  # ("speaker" or "text", value) -> set
    result = Split({name: [] for name in names}, unknown_speakers=sum(not r.speaker for r in records))
    # languages with the fewest speakers first: they have the least choice
    for lang in sorted(by_language, key=lambda name: (len({r.speaker for r in by_language[name]}), name)):
        members = by_language[lang]
        _assign(members, goal, by, home, random)
        for record in members:
            sets = {home[kind, value] for kind, value in _values(record, by)}
            if len(sets) == 1:
                result.sets[sets.pop()].append(replace(record, subset=home[_values(record, by)[0]]))
            else:
                result.left_out.append(record)
        if empty := [n for n in names if not any(r.lang == lang for r in result.sets[n])]:
            raise DataError(
                f"Set {', '.join(empty)} got no clip in {lang}: {_count(members, by)}",
                remedy="use fewer sets (--shares train=0.8,test=0.2), or divide --by one of them only",
            )
    order = {record.id: i for i, record in enumerate(records)}
    for members in result.sets.values():
        members.sort(key=lambda record: order[record.id])
    return result


def text_key(text: str) -> str:
    """What two readings of the same sentence have in common."""
    return indic(text)


def _check(records: Sequence[Record], shares: Mapping[str, float], by: Sequence[str]) -> None:
    if not records:
        raise DataError("There are no clips to divide", remedy="boli data describe MANIFEST")
    if any(not value >= 0 for value in shares.values()) or sum(value > 0 for value in shares.values()) < 2:
        raise DataError(
            f"Shares are {dict(shares)}", valid="two or more sets with shares above 0, e.g. train=0.8,test=0.2"
        )
    if not by or any(kind not in BY for kind in by):
        raise DataError(f"Cannot divide by {', '.join(by) or 'nothing'}", valid="speaker, text, or both")
    sets = sum(value > 0 for value in shares.values())
    for lang in sorted({r.lang for r in records}):
        members = [r for r in records if r.lang == lang]
        for kind in by:
            found = len({dict(_values(r, by))[kind] for r in members})
            if found < sets:
                other = [k for k in BY if k != kind]
                raise DataError(
                    f"{lang} has {found} {kind}{'s' if found > 1 else ''}, too few for {sets} sets that share none",
                    remedy=f"--by {other[0]}, fewer sets in --shares, or leave the language out with --lang",
                )


def _values(record: Record, by: Sequence[str]) -> list[tuple[str, str]]:
    values = {"speaker": record.speaker or f"unknown {record.id}", "text": f"{record.lang} {text_key(record.text)}"}
    return [(kind, values[kind]) for kind in by]


def _seconds(record: Record) -> float:
    return record.duration or 1.0


def _assign(members: Sequence[Record], goal: Mapping[str, float], by, home, random) -> None:
    """Give every speaker and every text of one language to a set."""
    groups = _groups(members, by)
    total = sum(map(_seconds, members))
    biggest = max(sum(_seconds(members[i]) for i in group) for group in groups)
    if len(groups) >= len(goal) and biggest <= max(goal.values()) * total * 1.05:
        _fill(
            [[members[i] for i in group] for group in groups],
            goal, lambda group: {v for r in group for v in _values(r, by)}, home, random,
        )  # fmt: skip
        return
    first, *rest = by
    by_first: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in members:
        by_first[_values(record, (first,))[0]].append(record)
    _fill([by_first[v] for v in sorted(by_first)], goal, lambda g: set(_values(g[0], (first,))), home, random)
    if not rest:
        return
    # each text goes to the set that has kept least of its share, of those whose speakers read it
    by_text: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in members:
        by_text[_values(record, rest)[0]].append(record)
    kept: dict[str, float] = defaultdict(float)
    values = sorted(by_text)
    for value in (values[i] for i in random.permutation(len(values))):
        gained: dict[str, float] = defaultdict(float)
        for record in by_text[value]:
            gained[home[_values(record, (first,))[0]]] += _seconds(record)
        if value not in home:
            home[value] = min(sorted(gained), key=lambda name: kept[name] / goal[name])
            kept[home[value]] += gained[home[value]]


def _groups(members: Sequence[Record], by: Sequence[str]) -> list[list[int]]:
    """Connected components: clips that share a speaker or a text, directly or over others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ids: dict[tuple[str, str], int] = {}
    edges = [(i, len(members) + ids.setdefault(v, len(ids))) for i, r in enumerate(members) for v in _values(r, by)]
    rows, columns = zip(*edges, strict=True)
    size = len(members) + len(ids)
    _, labels = connected_components(
        coo_array((np.ones(len(edges)), (rows, columns)), shape=(size, size)), directed=False
    )
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(len(members)):
        groups[labels[index]].append(index)
    return list(groups.values())


def _fill(groups: list[list[Record]], goal: Mapping[str, float], values_of, home, random) -> None:
    """Longest group first, each to the set that is furthest behind its share; no set is left empty."""
    total = sum(_seconds(r) for group in groups for r in group)
    have: dict[str, float] = defaultdict(float)
    filled: set[str] = set()
    order = sorted(
        random.permutation(len(groups)), key=lambda i: -round(sum(_seconds(r) for r in groups[i]) / max(total, 1e-9), 2)
    )
    for position, index in enumerate(order):
        group = groups[index]
        known = {home[value] for value in values_of(group) if value in home}
        empty = [name for name in goal if name not in filled]
        if known:
            chosen = sorted(known)[0]
        elif len(empty) >= len(order) - position:
            chosen = empty[0]
        else:
            chosen = max(goal, key=lambda name: goal[name] * total - have[name])
        for value in values_of(group):
            home.setdefault(value, chosen)
        have[chosen] += sum(map(_seconds, group))
        filled.add(chosen)


def _count(members: Sequence[Record], by: Sequence[str]) -> str:
    found = ", ".join(f"{len({dict(_values(r, by))[kind] for r in members})} {kind}s" for kind in by)
    return f"{len(members)} clips, {found}"
