"""The report of the toy store: a page that stands alone, numbers beside it, and what could not be measured said."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

import boli
from adapters.key import AdapterKey
from adapters.store import Store
from analysis.cache import Cache
from analysis.discussion import discuss
from analysis.inputs import Choice
from analysis.report import Chapter, build
from analysis.report_inputs import Inputs
from analysis.report_page import cell
from analysis.sections import ORDER, sections
from tests import toy
from tests.toy_router import ALL, name_toy
from tests.training.conftest import write_manifest
from zoo.errors import AdapterError, DataError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("speech") / "test.jsonl", ("en", "hi", "te"), 12, 8)


def inputs(store, manifest, cache, **options) -> Inputs:
    settings = {"bootstrap": 20, "latency_clips": 1, "layer_clips": 1, "scopes": ("part",), "sentences": 4}
    return Inputs(Choice(store), (manifest,), Cache(cache), **settings | options)


class Page(HTMLParser):
    """What a page loads, and whether its tags are closed."""

    def __init__(self, text: str):
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loaded += [found[name] for name in ("src", "data", "poster") if name in found]
        if tag in ("link", "script") and "href" in found:
            self.loaded.append(found["href"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.alts.append(found.get("alt", ""))
        if "id" in found:
            self.ids.append(found["id"])
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(toy_folder, toy_store, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        name_toy(toy_folder, patch)
        report = build(inputs(toy_store, manifest, folder / "cache"), folder / "out")
    return report


def test_every_section_is_there_or_says_why_not(made):
    assert [chapter.section.name for chapter in made.chapters] == [s.name for s in sections()]
    assert {"similarity", "spectrum", "layers", "transfer", "probes", "errors", "efficiency"} <= set(ORDER)
    missing = {c.section.name: c.missing for c in made.chapters if c.missing}
    assert set(missing) <= {"probes", "representations"}  # toy texts are single letters: too few phones to probe
    assert all(reason for reason in missing.values())


@pytest.mark.parametrize("name", ["index.html", "slides.html"])
def test_the_page_stands_alone(made, name):
    text = (made.folder / name).read_text(encoding="utf-8")
    page = Page(text)
    assert page.loaded
    assert all(source.startswith("data:image/") for source in page.loaded)
    assert not re.search(r"@import|url\(\s*['\"]?http", text)
    assert page.open == []
    assert all(page.alts)
    assert len(set(page.ids)) == len(page.ids)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert "None" not in re.sub(r"<[^>]*>", "", text)


def test_numbers_and_figures_lie_beside_it(made):
    for chapter in made.chapters:
        if not chapter.missing:
            assert (made.folder / "numbers" / f"{chapter.section.name}.json").is_file()
            assert chapter.figures
    for png in (made.folder / "figures").glob("*.png"):
        assert png.with_suffix(".svg").is_file()
    with open(made.folder / "numbers" / "transfer_zero_shot.csv", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    cells = next(c for c in made.chapters if c.section.name == "transfer").tables["zero_shot"]
    assert len(rows) == len(cells)
    summary = json.loads((made.folder / "report.json").read_text(encoding="utf-8"))
    assert summary["adapters"].keys() == made.about["adapters"].keys()
    assert summary["sections"][0]["provenance"]["seeds"]


def test_what_is_said_is_in_the_numbers(made):
    transfer = next(c for c in made.chapters if c.section.name == "transfer")
    own = next(
        r for r in transfer.tables["zero_shot"]
        if (r["source"], r["target"], r["metric"], r["normaliser"]) == ("hi", "hi", "cer", "indic")
    )  # fmt: skip
    line = next(line for line in transfer.says if line.startswith("hi:"))
    assert f"to {100 * own['value']:.1f} %" in line
    assert f"{100 * own['gain']:+.1f} %" in line
    row = next(row for row in made.overview if row["language"] == "hi")
    assert row["gain"] == f"{100 * own['gain']:+.1f} %"
    assert any("cannot be said" in line for line in made.discussion)  # two languages: no permutation test


def test_a_second_run_computes_nothing_again(toy_folder, toy_store, manifest, monkeypatch, made):
    name_toy(toy_folder, monkeypatch)
    again = inputs(toy_store, manifest, made.folder.parent / "cache")
    report = build(again, made.folder.parent / "again", only=["transfer", "errors", "layers", "similarity"])
    assert again.cache.made == 0
    first = {c.section.name: c.tables for c in made.chapters}
    assert all(c.tables == first[c.section.name] for c in report.chapters)


def test_one_adapter_gives_a_report_that_says_so(toy_folder, toy_store, manifest, monkeypatch, tmp_path):
    name_toy(toy_folder, monkeypatch)
    one = inputs(toy_store, manifest, None)
    one.choice = Choice(toy_store, languages=("hi",))
    report = build(one, tmp_path / "out", only=["similarity", "transfer"])
    assert report.page.is_file()
    text = report.page.read_text(encoding="utf-8")
    assert "nothing to compare it with" in text
    assert "One adapter for each language and rank" in text


def test_bad_input_is_refused_and_nothing_is_written(toy_folder, toy_store, manifest, monkeypatch, tmp_path):
    name_toy(toy_folder, monkeypatch)
    empty = tmp_path / "empty.jsonl"
    empty.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="has no clips"):
        build(inputs(toy_store, empty, None), tmp_path / "out")
    with pytest.raises(DataError, match="no section 'wrong'"):
        build(inputs(toy_store, manifest, None), tmp_path / "out", only=["wrong"])
    Store(tmp_path / "nothing", create=True)
    with pytest.raises(AdapterError, match="has no adapter"):
        build(inputs(tmp_path / "nothing", manifest, None), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapters_of_two_bases_are_not_compared(toy_folder, toy_store, manifest, monkeypatch, tmp_path):
    import shutil

    name_toy(toy_folder, monkeypatch)
    store = tmp_path / "store"
    shutil.copytree(toy_store, store)
    Store(store).publish(AdapterKey("other", "hi", 8), toy.trained_adapter("hi", 8, ALL))
    with pytest.raises(AdapterError, match="2 base models cannot be compared"):
        build(inputs(store, manifest, None), tmp_path / "out")
    from analysis.commands.report import bases_of

    assert bases_of(store, None) == ["other", "toy"]  # the command makes a report of each
    assert bases_of(store, "toy") == ["toy"]


def test_the_command(toy_folder, toy_store, manifest, monkeypatch, tmp_path, capsys):
    name_toy(toy_folder, monkeypatch)
    given = ["--store", str(toy_store), "-m", str(manifest), "--out", str(tmp_path / "out"), "--no-cache"]
    code = boli.main(["analyze", "report", *given, "--only", "transfer,errors", "--limit", "1", "--bootstrap", "20"])
    assert code == 0
    assert "written: " in capsys.readouterr().out
    assert (tmp_path / "out" / "index.html").is_file()
    assert boli.main(["analyze", "report", *given, "--only", "nonsense"]) == 1
    assert "There is no section 'nonsense'" in capsys.readouterr().err


def test_nothing_is_discussed_that_was_not_measured():
    missing = [Chapter(section, None, {}, (), (), "no clips") for section in sections()]
    assert discuss(missing) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.12345, "0.123"),
        (12345.6, "12,346"),
        ([], "–"),
        ("<b>", "<b>"),
    ],
)
def test_cells(value, shown):
    assert cell(value) == shown
