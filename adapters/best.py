"""Which adapter is best. Only scores of one test set, normaliser and decoding are ever compared."""

from collections.abc import Iterable
from dataclasses import dataclass

from adapters.record import Score
from adapters.store import StoredAdapter

HIGHER_IS_BETTER = {"accuracy", "f1", "bleu", "chrf"}


@dataclass(frozen=True)
class Ranking:
    """Adapters of one language that were measured in one and the same way."""

    language: str
    metric: str
    test_set: str
    """Hash of the test set."""
    normaliser: str
    decoding: str
    count: int
    """Reference words (characters) of the test set under this normaliser."""
    rows: tuple[tuple[StoredAdapter, Score], ...]
    """Best first."""

    @property
    def name(self) -> str:
        """What people call the test set: names do not decide what is compared."""
        return next((score.name for _, score in self.rows if score.name), self.test_set[:12])


def rankings(
    adapters: Iterable[StoredAdapter], metric: str, *, test_set: str = "", normaliser: str = "", decoding: str = ""
) -> tuple[list[Ranking], list[StoredAdapter]]:
    """One Ranking per language and way of measuring, the largest first; and the adapters that no Ranking holds.

    test_set: name or beginning of the hash. Scores without a hash of their test set are compared with nothing.
    """
    groups: dict[tuple[str, str, str, str, str, int], list[tuple[StoredAdapter, Score]]] = {}
    left = []
    for stored in adapters:
        placed = False
        for score in stored.record.scores:
            wanted = score.metric == metric and score.test_set and test_set in ("", score.name, score.test_set)
            wanted = wanted or (score.metric == metric and test_set and score.test_set.startswith(test_set))
            if wanted and normaliser in ("", score.normaliser) and decoding in ("", score.decoding):
                groups.setdefault((stored.key.language, *score.comparable, score.count), []).append((stored, score))
                placed = True
        if not placed:
            left.append(stored)
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    found = []
    for (language, measure, hashed, norm, way, count), rows in groups.items():
        rows.sort(key=lambda row: (sign * row[1].value, row[0].key.rank, str(row[0].key), row[0].version))
        found.append(Ranking(language, measure, hashed, norm, way, count, tuple(rows)))
    return sorted(found, key=lambda r: (r.language, -len(r.rows), r.name, r.normaliser, r.decoding)), left
