"""The report's sections: one file each, found by its being there.

A section runs one analysis, draws it and says what its numbers say. What it says is put together from the tables of the
result; nothing is claimed that is not in them.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.result import Result, Row

if TYPE_CHECKING:
    from analysis.report_inputs import Inputs

ORDER = ("similarity", "spectrum", "representations", "layers", "transfer", "probes", "errors", "efficiency")
Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Section:
    """One analysis as the report shows it."""

    name: str
    title: str
    question: str
    method: str
    """How it was measured, in a few sentences; HTML is escaped."""
    run: "Callable[[Inputs], Result]"
    draw: Callable[[Any, Path], list[Path]]
    says: Callable[[Tables], list[str]]
    """What the numbers say, one sentence each."""
    captions: dict[str, str]
    """Figure's name -> what it shows and how to read it."""
    shown: tuple[str, ...] = ()
    """Tables that the page shows; all are saved as CSV."""


@cache
def sections() -> tuple[Section, ...]:
    """All of them, in the order in which they are read."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    found = [importlib.import_module(f"{__name__}.{name}").SECTION for name in names]
    return tuple(sorted(found, key=lambda each: (ORDER.index(each.name) if each.name in ORDER else 99, each.name)))


def percent(value: float | None, digits: int = 0) -> str:
    """A fraction as people read it."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def signed(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{100 * value:+.{digits}f} %"


def named(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"
