"""Puts a benchmark's tables into a page, between the marks that name it."""

from pathlib import Path

from zoo.errors import BoliError


def put(text: str, page: Path, name: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`. Raises BoliError where the marks are missing."""
    content = page.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if start not in content or end not in content.partition(start)[2]:
        raise BoliError(f"{page} has no place for {name}", valid=f"a line {start.strip()} and, below it, {end}")
    before, _, rest = content.partition(start)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{start}{text}\n{end}{after}", encoding="utf-8")
