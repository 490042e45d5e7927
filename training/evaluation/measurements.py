"""One measured number with all that is needed to judge it: what every `boli evaluate ... --json OUT` writes.

    {"kind": "boli.scores", "measurements": [{"measure": "wer", "value": 0.41, "low": 0.38, "high": 0.44, ...}, ...]}

Two measurements may be compared only where their `key` (test set, normaliser, decoding) is equal.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from training.data.files import written_whole
from training.evaluation.metrics import NormalisedScores
from zoo.errors import DataError

KIND = "boli.scores"
REMEDY = "write one: boli evaluate adapters --json OUT"


@dataclass(frozen=True)
class Measurement:
    """A number, of what, under which conditions."""

    measure: str
    """`wer`, `cer`, `mer`, `dropped_runs`, `loops`, `routing_accuracy`, `switch_delay_median_s`,
    `switch_delay_p90_s`, `switch_recall`, `switch_false_alarms_per_minute`, ..."""
    value: float | None
    """Rates as fractions; None where there was nothing to measure on."""
    low: float | None = None
    high: float | None = None
    """Bounds of the 95 % interval."""
    count: int = 0
    """Reference words, characters, clips or switches it is over."""
    language: str = ""
    """Empty: over all."""
    system: str = ""
    """base, adapter, full (fine-tuning), oracle, routed, detected (Whisper's own), scratch, few-shot, one-by-one
    (the clips of a switched one each alone), switched."""
    normaliser: str = ""
    key: str = ""
    """Hash of test set, normaliser and decoding."""
    speech: str = ""
    """`human` or `synthetic`."""
    conditions: dict[str, Any] = field(default_factory=dict)
    """What else tells it apart: model, rank, variant, policy, share of the data, source language, corpus, ..."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def of_scores(scores: NormalisedScores, normaliser: str, **about: Any) -> list[Measurement]:
    """Measurements of WER, CER, MER, dropped runs and loops; `about` gives language, system, speech, conditions."""
    rates = [("wer", scores.wer), ("cer", scores.cer), ("mer", scores.mer)]
    found = [
        Measurement(name, r.value, r.low, r.high, r.reference, normaliser=normaliser, key=scores.key, **about)
        for name, r in rates
    ]
    words = scores.wer.reference
    for name, value in (("dropped_runs", scores.dropped_runs), ("loops", scores.loops)):
        found.append(Measurement(name, value, count=words, normaliser=normaliser, key=scores.key, **about))
    return found


def write_scores(path: Path, measurements: Iterable[Measurement], **about: Any) -> Path:
    """Write a score file; `about` (model, manifest, command, seconds, ...) stands beside the measurements."""
    content = {"kind": KIND, **about, "measurements": [m.to_dict() for m in measurements]}
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    return path


def read_scores(path: Path) -> dict[str, Any]:
    """A score file as `criteria.check` takes it. Raises DataError where it is none."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path} is no score file: {error}", remedy="write one: boli evaluate adapters --json OUT"
        ) from None
    if not isinstance(content, dict) or "measurements" not in content:
        raise DataError(f"{path} holds no `measurements`", remedy=REMEDY)
    parse(content, str(path))
    return content


def parse(content: dict[str, Any], where: str = "scores") -> list[Measurement]:
    """The measurements of a score file's content, or of one bare measurement. Raises DataError for unknown keys."""
    rows = content.get("measurements", [content])
    known = {f.name for f in fields(Measurement)}
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or "measure" not in row or "value" not in row:
            raise DataError(
                f"{where}: measurement {number} has no `measure` or no `value`", valid=", ".join(sorted(known))
            )
        if unknown := sorted(set(row) - known):
            raise DataError(
                f"{where}: measurement {number} has unknown keys {', '.join(unknown)}", valid=", ".join(sorted(known))
            )
        found.append(Measurement(**row))
    return found
