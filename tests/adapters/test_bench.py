import json
import math

import pytest
from typer.testing import CliRunner

from adapters.bench import app
from adapters.bench_page import put
from zoo.errors import BoliError


def test_every_contender_is_measured_and_written(tmp_path):
    written = tmp_path / "bench.json"
    options = "--shapes debug --batches 2 --residents 2 --active 1,2 --rank 4 --steps 2 --runs 1 --clip-s 1"
    result = CliRunner().invoke(app, [*options.split(), "--json", str(written)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads(written.read_text())
    assert {row["contender"] for row in content["passes"]} == {
        "base alone", "bank, no mixture", "bank hard, 1 active", "bank hard, 2 active", "bank soft over 2",
        "PEFT single", "merged weights", "PEFT adapter_names, 2 active",
        "generate, base alone", "generate, PEFT single", "generate, PEFT adapter_names, 2 active",
    }  # fmt: skip
    assert {row["contender"] for row in content["swaps"]} == {
        "bank, from memory", "bank, from disk, checked", "PEFT load_adapter", "PEFT hotswap_adapter",
    }  # fmt: skip
    rows = [*content["passes"], *content["swaps"]]
    assert all(math.isfinite(row["seconds"]) and row["seconds"] > 0 for row in rows)
    assert all(f"| {row['contender']} |" in result.output for row in rows)


def test_tables_are_put_between_their_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- /a -->\nafter\n")
    put("new", page, "a")
    put("new", page, "a")
    assert page.read_text() == "before\n<!-- a -->\nnew\n<!-- /a -->\nafter\n"
    with pytest.raises(BoliError, match="has no place for b"):
        put("new", page, "b")
    assert "new" in page.read_text()


def test_every_step_is_measured_and_put_into_the_page(tmp_path):
    from adapters.bench_steps import NAME, REFERENCE
    from adapters.bench_steps import app as steps

    written, page = tmp_path / "steps.json", tmp_path / "page.md"
    page.write_text(f"<!-- {NAME} -->\n<!-- /{NAME} -->\n")
    options = "--shapes debug --batches 2 --steps 2 --runs 1 --clip-s 1 --no-compiled"
    result = CliRunner().invoke(
        steps, [*options.split(), "--json", str(written), "--page", str(page)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(written.read_text())["rows"]
    names = [row["contender"] for row in rows]
    assert {REFERENCE, "bf16", "fp32, cache grown by concatenation"} <= set(names)
    assert all(row["encode_s"] > 0 and row["step_s"] > 0 for row in rows)
    assert all(f"| debug | 2 | {name} |" in page.read_text() for name in names)
