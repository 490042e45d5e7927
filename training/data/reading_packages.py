"""Texts to be read aloud, from Debian's packages: what the corpus's own texts lack is words.

    sh training/carry_speech.sh                                     downloads and unpacks the packages, then runs
    python -m training.data.reading_packages --root R --out O

Writes `LANGUAGE.txt`, one text a line: WordNet's glosses and examples (English), fortune's sayings (English, Italian,
German, Spanish), the help and the messages of LibreOffice (Italian, Hindi; Hindi, Punjabi, Telugu). They are free
(docs/synthesis.md), used at generation time alone, and stay out of git.
"""

import argparse
import gettext
import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import DataError

WORDNET = Path("usr/share/wordnet")
FORTUNES = {
    "en": "usr/share/games/fortunes", "it": "usr/share/games/fortunes/it", "de": "usr/share/games/fortunes/de",
    "es": "usr/share/games/fortunes/es",
}  # fmt: skip
FORTUNES_LEFT_OUT = ("ascii-art", "asciiart", "banner", "art", "definitions", "computers", "knghtbrd", "perl", "linux")
"""Files of pictures, code and mail headers."""
HELP = "usr/share/libreoffice/help"
MESSAGES = {"hi": "hi", "pa": "pa_IN", "te": "te"}
LONGEST = 400
"""Characters of a paragraph; longer ones are lists and tables."""

_PARAGRAPH = re.compile(r"<(?:p|h\d|td)\b[^>]*>(.*?)</(?:p|h\d|td)>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def wordnet(root: Path) -> Iterator[str]:
    """Glosses and example sentences, each alone."""
    for path in sorted((root / WORDNET).glob("data.*")):
        for line in path.read_text("utf-8").splitlines():
            yield from re.split(r'[;"]', line.partition(" | ")[2])


def fortunes(root: Path, language: str) -> Iterator[str]:
    """Sayings, without the names of who said them."""
    for path in sorted((root / FORTUNES[language]).glob("*")):
        known = path.suffix in ("", ".fortunes") and path.name not in FORTUNES_LEFT_OUT
        if not known or path.is_symlink() or not path.is_file():
            continue
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        for saying in re.split(r"^%.*$", text, flags=re.MULTILINE):
            yield " ".join(line for line in saying.splitlines() if not line.lstrip().startswith("--"))


def help_pages(root: Path, language: str) -> Iterator[str]:
    """Paragraphs of LibreOffice's help."""
    for path in sorted((root / HELP / language).rglob("*.html")):
        page = path.read_text("utf-8", errors="replace")
        for paragraph in _PARAGRAPH.findall(page):
            yield html.unescape(_TAG.sub(" ", paragraph))


def messages(root: Path, language: str) -> Iterator[str]:
    """Messages of LibreOffice, without their shortcuts' marks and placeholders."""
    folder = root / "usr/lib/libreoffice/program/resource" / MESSAGES[language] / "LC_MESSAGES"
    for path in sorted(folder.glob("*.mo")):
        with path.open("rb") as file:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # no public list of them
        for source, text in catalogue.items():
            if source and text:
                yield re.sub(r"%\w+|\$\([^)]*\)|[_~]", "", text)


def texts(root: Path) -> dict[str, list[str]]:
    """Texts of each language in one line each, every one once."""
    sources: dict[str, list[Iterator[str]]] = {
        "en": [wordnet(root), fortunes(root, "en")],
        "it": [fortunes(root, "it"), help_pages(root, "it")],
        "de": [fortunes(root, "de")],
        "es": [fortunes(root, "es")],
        "hi": [help_pages(root, "hi"), messages(root, "hi")],
        "pa": [messages(root, "pa")],
        "te": [messages(root, "te")],
    }
    found = {}
    for language, each in sources.items():
        lines = dict.fromkeys(" ".join(text.split()) for source in each for text in source)
        found[language] = [line for line in lines if 8 <= len(line) <= LONGEST]
        if not found[language]:
            raise DataError(f"no texts of {language} in {root}", remedy="sh training/carry_speech.sh TEXTS CLIPS")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.data.reading_packages", description="Texts to be read aloud, from unpacked packages."
    )
    parser.add_argument("--root", type=Path, required=True, help="folder the packages were unpacked into")
    parser.add_argument("--out", type=Path, required=True, help="folder to write LANGUAGE.txt into")
    options = parser.parse_args(argv)
    try:
        found = texts(options.root)
    except DataError as error:
        print(f"boli: {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for language, lines in found.items():
        (options.out / f"{language}.txt").write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{language}: {len(lines)} texts, {len({word for line in lines for word in line.lower().split()})} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
