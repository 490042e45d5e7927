"""Loops: a decoder that repeats itself until it is stopped.

A text that ended by itself is left alone, however often it says one thing. One that only the limit of tokens ended, in
the middle of a repetition, has lost its place in the audio: what it repeats was said once at most.
"""

from dataclasses import replace
from typing import TypeVar

from zoo.search import Found

ROUNDS = 3  # a repetition shorter than this, or than so many tokens, may have been said
TOKENS = 12

T = TypeVar("T")


def repeated(tokens: list[T]) -> int:
    """How many tokens at the end only repeat those before them: 0, or at least ROUNDS - 1 whole rounds."""
    for period in range(1, len(tokens) // ROUNDS + 1):
        same = 0
        while same < len(tokens) - period and tokens[-1 - same] == tokens[-1 - same - period]:
            same += 1
        if same >= (ROUNDS - 1) * period and same + period >= TOKENS:
            return same
    return 0


def without_loop(found: Found) -> Found:
    """`found`, cut after the first round where the limit ended it in a loop."""
    ended = len(found.token_log_probabilities) > len(found.tokens)  # the end of text has a probability and no token
    more = 0 if ended else repeated(found.tokens)
    if not more:
        return found
    kept = len(found.tokens) - more
    values = found.token_log_probabilities[:kept]
    return replace(found, tokens=found.tokens[:kept], log_probability=sum(values), token_log_probabilities=values)
