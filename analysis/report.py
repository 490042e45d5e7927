"""One page of all analyses of a store: runs the sections, saves numbers and figures, writes page and slides.

    OUT/index.html     the page: figures and styles inside, nothing is loaded from elsewhere
    OUT/slides.html    the same as slides
    OUT/numbers/       every table as CSV, every analysis as JSON with its provenance
    OUT/figures/       every figure as PNG and SVG
    OUT/report.json    what was measured, what was not and why, checksums, seeds, counts

A section that cannot be measured (one adapter only, no espeak-ng) stands in the report with its reason. What was
computed is in the cache: a report that was interrupted goes on where it stopped.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.report_inputs import Inputs
from analysis.result import Provenance, Row, machine, plain, save
from analysis.sections import Section, Tables, sections
from zoo.errors import BoliError, DataError


@dataclass(frozen=True)
class Chapter:
    """What became of one section."""

    section: Section
    provenance: Provenance | None
    tables: Tables
    figures: tuple[Path, ...]
    says: tuple[str, ...]
    missing: str = ""
    """Why nothing was measured."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """A report as it was written."""

    folder: Path
    chapters: tuple[Chapter, ...]
    discussion: tuple[str, ...]
    limits: tuple[str, ...]
    overview: tuple[Row, ...] = ()
    """One row a language, for the page's head."""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def page(self) -> Path:
        return self.folder / "index.html"

    @property
    def slides(self) -> Path:
        return self.folder / "slides.html"


def build(
    inputs: Inputs,
    out: str | Path,
    *,
    only: Sequence[str] = (),
    runs: Path | None = None,
    title: str = "",
    say=lambda line: None,
) -> Report:
    """Run every section (or `only` these), and write the report into `out`.

    runs: folder of training runs, for curves. say: told one line a section. Raises DataError where the manifests are
    faulty or empty, or a section's name is unknown; AdapterError where the store has no adapter, or adapters of several
    bases and none was named. Nothing is written then.
    """
    from analysis.appendix import appendix
    from analysis.discussion import discuss, limits, overview
    from analysis.report_page import write_page, write_slides

    known = {section.name: section for section in sections()}
    if unknown := [name for name in only if name not in known]:
        raise DataError(f"There is no section {unknown[0]!r}", valid=", ".join(known))
    stored = inputs.adapters.stored  # so that a store without adapters, and an empty manifest, are told of at once
    clips = inputs.clips
    out = Path(out)
    chapters = []
    for section in known.values():
        if only and section.name not in only:
            continue
        chapter = write_chapter(section, inputs, out)
        chapters.append(chapter)
        say(f"{section.title}: {chapter.missing or f'{len(chapter.figures) // 2} figures, {chapter.seconds:.0f} s'}")
    about = {
        "title": title or f"What the adapters of {inputs.adapters.base} learned",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": inputs.adapters.base,
        "base_sha256": inputs.adapters.base_sha256,
        "adapters": inputs.adapters.checksums,
        "clips": len(clips),
        "hours": round(clips.hours, 3),
        "machine": machine(),
        "seconds": round(sum(chapter.seconds for chapter in chapters), 1),
    }
    report = Report(
        out,
        tuple(chapters),
        tuple(discuss(chapters)),
        tuple(limits(inputs, chapters)),
        tuple(overview(chapters)),
        about,
    )
    more = appendix(stored, runs, out)
    write_page(report, more)
    write_slides(report)
    _write_summary(report)
    return report


def write_chapter(section: Section, inputs: Inputs, out: Path) -> Chapter:
    """Run one section, save its numbers and figures."""
    began = time.monotonic()
    try:
        result = section.run(inputs)
        save(result, out / "numbers")
        figures = tuple(section.draw(result, out / "figures"))
        tables = plain(result.tables())
        return Chapter(
            section,
            result.provenance,
            tables,
            figures,
            tuple(section.says(tables)),
            seconds=time.monotonic() - began,
        )
    except BoliError as error:
        return Chapter(section, None, {}, (), (), str(error), time.monotonic() - began)


def _write_summary(report: Report) -> None:
    from training.data.files import written_whole

    content = {
        "kind": "boli.report",
        **report.about,
        "sections": [
            {
                "name": chapter.section.name,
                "missing": chapter.missing,
                "seconds": round(chapter.seconds, 1),
                "provenance": asdict(chapter.provenance) if chapter.provenance else None,
                "says": chapter.says,
                "figures": sorted({path.stem for path in chapter.figures}),
            }
            for chapter in report.chapters
        ],
        "discussion": report.discussion,
        "limits": report.limits,
    }
    with written_whole(report.folder / "report.json") as temporary:
        temporary.write_text(json.dumps(plain(content), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
