"""Policies: from language probabilities to a mixture and a reason.

A new policy is a function and one line in `POLICIES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from router.classifier import UNKNOWN
from zoo.errors import RoutingError

FAMILIES = {
    "Indo-Aryan": ("hi", "pa", "ur", "mr", "bn", "gu", "ne", "or", "as", "sd"),
    "Dravidian": ("te", "ta", "kn", "ml"),
    "Romance": ("it", "es", "fr", "pt", "ro", "ca"),
    "Germanic": ("en", "de", "nl", "sv", "da", "no"),
}


@dataclass(frozen=True)
class Decision:
    """What is done with one utterance (or one segment of it)."""

    language: str
    """The most probable language: the decoder writes this one."""
    shares: dict[str, float]
    """Language -> share of the mixture. A language without an adapter keeps its share: the base serves it, and its
    share is simply no update."""
    reason: str


@dataclass(frozen=True)
class PolicyOptions:
    """Each field's text is the help of the option of the same name."""

    policy: str = "hard"
    """hard, soft, threshold or hierarchical."""
    top_k: int | None = None
    """soft: mix at most this many languages, renormalised."""
    threshold: float = 0.8
    """threshold: one language where it is more probable than this, else the best two."""
    languages: tuple[str, ...] | None = None
    """Only these languages can be spoken."""
    language: str | None = None
    """This language is spoken; nothing is detected."""

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise RoutingError(f"Policy {self.policy!r} is unknown", valid=", ".join(POLICIES))
        if not 0.0 <= self.threshold <= 1.0:
            raise RoutingError(f"threshold is {self.threshold}", valid="0 to 1")
        if self.top_k is not None and self.top_k < 1:
            raise RoutingError(f"top_k is {self.top_k}", valid="1 or more")
        if self.languages is not None and not self.languages:
            raise RoutingError("languages is empty", valid="at least one language tag, or None for all")
        if self.languages is not None and self.language is not None and self.language not in self.languages:
            raise RoutingError(
                f"language {self.language!r} is not among languages {list(self.languages)}", valid="one of them"
            )


def decide(probabilities: Mapping[str, float], options: PolicyOptions) -> Decision:
    """probabilities: language -> p. Raises RoutingError where no permitted language is known."""
    if options.language is not None:
        return Decision(options.language, {options.language: 1.0}, f"forced to {options.language}")
    permitted = dict(probabilities)
    if options.languages is not None:
        permitted = {language: p for language, p in probabilities.items() if language in options.languages}
        if not permitted:
            raise RoutingError(
                f"The classifier knows none of {list(options.languages)}",
                valid=", ".join(probabilities),
                remedy="language=... forces one",
            )
    permitted = normalised(permitted)
    best = max(permitted, key=lambda language: permitted[language])
    if best == UNKNOWN:
        return Decision(UNKNOWN, {}, f"{UNKNOWN} p={permitted[best]:.2f}: the base alone")
    decision = POLICIES[options.policy](permitted, options)
    shares = {language: share for language, share in decision.shares.items() if language != UNKNOWN}
    return Decision(decision.language, shares, decision.reason)


def normalised(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Summing to one, most probable first. All zero: uniform."""
    total = sum(probabilities.values())
    if total <= 0:
        return {language: 1 / len(probabilities) for language in probabilities}
    return dict(sorted(((language, p / total) for language, p in probabilities.items()), key=lambda item: -item[1]))


def hard(probabilities: dict[str, float], options: PolicyOptions) -> Decision:
    best = next(iter(probabilities))
    return Decision(best, {best: 1.0}, f"hard: {best} p={probabilities[best]:.2f}")


def soft(probabilities: dict[str, float], options: PolicyOptions) -> Decision:
    kept = probabilities if options.top_k is None else dict(list(probabilities.items())[: options.top_k])
    kept = normalised({language: p for language, p in kept.items() if p >= 1e-4} or kept)
    best = next(iter(kept))
    return Decision(best, kept, f"soft: {_shares(kept)}")


def threshold(probabilities: dict[str, float], options: PolicyOptions) -> Decision:
    best = next(iter(probabilities))
    p = probabilities[best]
    if p > options.threshold or len(probabilities) == 1:
        return Decision(best, {best: 1.0}, f"threshold: {best} p={p:.2f} > {options.threshold:g}")
    two = normalised(dict(list(probabilities.items())[:2]))
    return Decision(best, two, f"threshold: p={p:.2f} <= {options.threshold:g}, best two: {_shares(two)}")


def hierarchical(probabilities: dict[str, float], options: PolicyOptions) -> Decision:
    """Family first (the sum of its languages), then the language inside it."""
    families: dict[str, dict[str, float]] = {}
    for language, p in probabilities.items():
        families.setdefault(family_of(language), {})[language] = p
    family = max(families, key=lambda name: sum(families[name].values()))
    members = normalised(families[family])
    best = next(iter(members))
    mass = sum(families[family].values())
    return Decision(best, {best: 1.0}, f"hierarchical: {family} p={mass:.2f}, then {best} p={members[best]:.2f}")


def family_of(language: str) -> str:
    """The family of a tag; a language outside the table is a family of its own."""
    stem = language.split("-")[0]
    return next((family for family, members in FAMILIES.items() if stem in members), language)


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{language} {share:.2f}" for language, share in shares.items())


POLICIES: dict[str, Callable[[dict[str, float], PolicyOptions], Decision]] = {
    "hard": hard,
    "soft": soft,
    "threshold": threshold,
    "hierarchical": hierarchical,
}


def adapter_weights(decision: Decision, adapters: Mapping[str, str]) -> dict[str, float]:
    """The decision's shares as {adapter name: weight}. adapters: language -> adapter name."""
    return {
        adapters[language]: share for language, share in decision.shares.items() if language in adapters and share > 0
    }


def explained(decision: Decision, adapters: Mapping[str, str]) -> Decision:
    """The decision, whose reason also says which of its languages the base serves alone."""
    alone = [language for language in decision.shares if language not in adapters]
    if not alone:
        return decision
    share = "the base alone" if len(alone) == len(decision.shares) else "their share is the base's"
    return replace(decision, reason=f"{decision.reason}; no adapter for {', '.join(alone)}: {share}")
