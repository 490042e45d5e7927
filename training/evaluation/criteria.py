"""The study's success criteria, judged from score files: pass, fail, or not measured.

Nothing passes by omission, nothing by unlike comparison: a relative criterion needs two scores with the same key
(test set, normaliser, decoding), and WER counts under the Indic normaliser (else raw), never under Whisper's, which
strips vowel signs and so lowers WER (facts.md). Human speech is judged where it was measured, else synthetic, and the
result says which. Of several adapters (ranks, seeds) for a language the best counts, and the result says of how many.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.evaluation.measurements import Measurement, parse

Status = Literal["pass", "fail", "not measured"]
STUDY_LANGUAGES = ("hi", "pa", "te", "it")
NORMALISERS = ("indic", "raw")  # in order of preference


@dataclass(frozen=True)
class CriterionResult:
    """One criterion and what the scores say of it."""

    name: str
    goal: str
    status: Status
    value: float | None = None
    low: float | None = None
    high: float | None = None
    """The 95 % interval of the value, where the measurement had one."""
    detail: str = ""
    """On which scores it rests, or what is missing."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Criterion:
    """A question to the scores."""

    name: str
    goal: str
    judge: Callable[[Sequence[Measurement]], tuple[Status, Measurement | None, str]]
    """Measurements -> status, the deciding one (value and interval), detail."""


def check(scores: Sequence[dict[str, Any]]) -> list[CriterionResult]:
    """Judge every criterion.

    scores: contents of score files (`{"measurements": [...]}`) or single measurements, see measurements.py.
    Raises DataError for content that is neither.
    """
    measured = [m for number, content in enumerate(scores, 1) for m in parse(content, f"score {number}")]
    measured = [m for m in measured if m.value is not None]
    results = []
    for criterion in CRITERIA:
        status, decisive, detail = criterion.judge(measured)
        value, low, high = (decisive.value, decisive.low, decisive.high) if decisive else (None, None, None)
        results.append(CriterionResult(criterion.name, criterion.goal, status, value, low, high, detail))
    return results


def wer_below(language: str, limit: float):
    """The best adapter's WER of a language is below `limit`."""

    def judge(measured: Sequence[Measurement]):
        found = _preferred(_select(measured, "wer", language=language, systems=("adapter", "routed")))
        if not found:
            return "not measured", None, f"no adapter WER of {language}: boli evaluate adapters --json OUT"
        best = min(found, key=_value)
        return _status(_value(best) < limit), best, _about(best, len(found), limit)

    return judge


def reduction(language: str, least: float):
    """The best adapter's WER is at least `least` (relative) below the base's, on the same key."""

    def judge(measured: Sequence[Measurement]):
        return _relative(
            measured, "wer", language, ("adapter", "routed"), ("base",),
            lambda own, base: (base - own) / base, lambda gain: gain >= least, max,
        )  # fmt: skip

    return judge


def excess(language: str, systems: tuple[str, ...], against: tuple[str, ...], most: float):
    """The WER of `systems` is at most `most` (relative) above that of `against`, on the same key."""

    def judge(measured: Sequence[Measurement]):
        return _relative(
            measured, "wer", language, systems, against,
            lambda own, other: (own - other) / other, lambda gap: gap <= most, min,
        )  # fmt: skip

    return judge


def bound(measure: str, limit: float, *, above: bool, strict: bool = False, command: str, **where: Any):
    """Every measurement of `measure` keeps the limit; `where` are conditions it must have."""

    def judge(measured: Sequence[Measurement]):
        found = [
            m for m in _select(measured, measure) if all(m.conditions.get(key) == value for key, value in where.items())
        ]
        whole = [m for m in found if not m.language]
        found = _human_first(whole or found)
        if not found:
            return "not measured", None, f"no {measure}: {command}"
        worst = (min if above else max)(found, key=_value)
        value = _value(worst)
        good = value > limit if above else value < limit
        return _status(good or (not strict and value == limit)), worst, _about(worst, len(found), limit, "worst")

    return judge


def few_shot(measured: Sequence[Measurement]):
    """Training on a share of the data from another language's adapter beats training on it from scratch."""
    pairs = []
    for own in _preferred(_select(measured, "wer", systems=("few-shot",))):
        for other in _select(measured, "wer", systems=("scratch",), language=own.language):
            same_share = own.conditions.get("share") == other.conditions.get("share")
            if other.key == own.key and same_share and other.value:
                pairs.append((own, (other.value - _value(own)) / other.value))
    if not pairs:
        missing = "no pair of few-shot and scratch WER on one test set and one share of the data"
        return "not measured", None, f"{missing}: boli analyze transfer"
    better = sum(gain > 0 for _, gain in pairs)
    own, gain = max(pairs, key=lambda pair: pair[1])
    detail = f"better in {better} of {len(pairs)}; most: {own.language}, {_conditions(own)} ({own.speech or 'speech'})"
    return _status(better > len(pairs) / 2), Measurement("gain", gain), detail


def _value(m: Measurement) -> float:
    """The value of a measurement that has one; `check` leaves the others out."""
    assert m.value is not None
    return m.value


def _select(
    measured: Sequence[Measurement], measure: str, *, language: str | None = None, systems: Sequence[str] = ()
) -> list[Measurement]:
    return [
        m
        for m in measured
        if m.measure == measure
        and (language is None or m.language == language)
        and (not systems or m.system in systems)
    ]


def _preferred(found: Sequence[Measurement]) -> list[Measurement]:
    """Human speech before synthetic; the Indic normaliser before raw; Whisper's never."""
    for normaliser in NORMALISERS:
        if chosen := [m for m in _human_first(found) if m.normaliser == normaliser]:
            return chosen
    return []


def _human_first(found: Sequence[Measurement]) -> list[Measurement]:
    return [m for m in found if m.speech == "human"] or list(found)


def _relative(measured, measure, language, systems, against, gain_of, good, best_of):
    own = _preferred(_select(measured, measure, language=language, systems=systems))
    others = _select(measured, measure, language=language, systems=against)
    pairs = [(m, o, gain_of(m.value, o.value)) for m in own for o in others if m.key and m.key == o.key and o.value]
    if not pairs:
        if own and others:
            return "not measured", None, f"{systems[0]} and {against[0]} were not scored under equal conditions"
        lacking = systems[0] if not own else against[0]
        return "not measured", None, f"no WER of {language or 'all languages'} by {lacking}"
    m, o, gain = best_of(pairs, key=lambda pair: pair[2])
    detail = f"{m.value:.1%} {m.system} against {o.value:.1%} {o.system}; {_about(m, len(pairs))}"
    return _status(good(gain)), Measurement("relative", gain), detail


def _status(good: bool) -> Status:
    return "pass" if good else "fail"


def _about(m: Measurement, of: int, limit: float | None = None, which: str = "best") -> str:
    parts = [f"{m.count} counted" if m.count else "", m.speech, m.normaliser, _conditions(m)]
    if of > 1:
        parts.append(f"{which} of {of}")
    if limit is not None and m.low is not None and m.high is not None and m.low <= limit <= m.high:
        parts.append("the interval holds the limit: not settled")
    return ", ".join(part for part in parts if part)


def _conditions(m: Measurement) -> str:
    return " ".join(f"{key}={value}" for key, value in m.conditions.items())


_SWITCH = "boli evaluate codeswitch --json OUT"
_ROUTING = "boli evaluate routing --json OUT"
CRITERIA: tuple[Criterion, ...] = (
    Criterion("WER Punjabi", "< 50 %", wer_below("pa", 0.5)),
    Criterion("WER Telugu", "< 50 %", wer_below("te", 0.5)),
    *(
        Criterion(f"WER reduction against base, {lang}", ">= 20 % (20-50 % expected)", reduction(lang, 0.2))
        for lang in STUDY_LANGUAGES
    ),
    Criterion(
        "Routing accuracy", "> 95 %", bound("routing_accuracy", 0.95, above=True, strict=True, command=_ROUTING)
    ),
    *(
        Criterion(f"Routed WER against oracle, {lang}", "<= 5 % above", excess(lang, ("routed",), ("oracle",), 0.05))
        for lang in STUDY_LANGUAGES
    ),
    Criterion(
        "Switch delay, median", "<= 0.5 s",
        bound("switch_delay_median_s", 0.5, above=False, command=_SWITCH, mode="causal"),
    ),
    Criterion(
        "Switch delay, 90th percentile", "<= 1 s",
        bound("switch_delay_p90_s", 1.0, above=False, command=_SWITCH, mode="causal"),
    ),
    Criterion("Switches found", ">= 80 %", bound("switch_recall", 0.8, above=True, command=_SWITCH, mode="causal")),
    Criterion(
        "False alarms", "<= 2 a minute",
        bound("switch_false_alarms_per_minute", 2.0, above=False, command=_SWITCH, mode="causal"),
    ),
    Criterion("WER when switching", "<= 10 % above one by one", excess("", ("switched",), ("one-by-one",), 0.1)),
    Criterion("Few-shot from another language's adapter", "better than from scratch", few_shot),
)  # fmt: skip
