"""The same tokenizer in other bytes has the same checksum; another one has another."""

import json
from types import SimpleNamespace

import pytest

from zoo import debug
from zoo.fingerprint import tokenizer_as_named, tokenizer_file_sha256, tokenizer_sha256


@pytest.fixture
def folder(tmp_path):
    debug.build(tmp_path / "model")
    return tmp_path / "model"


def rewritten(folder, change) -> str:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return tokenizer_sha256(folder)


def test_how_it_is_written_down_does_not_count(folder):
    def other_release(content):
        content["model"]["merges"] = [
            merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]
        ]
        content["model"]["ignore_merges"] = None
        content["added_tokens"].reverse()
        for token in content["added_tokens"]:
            token["normalized"] = not token["normalized"]

    of_file, of_content = tokenizer_file_sha256(folder), tokenizer_sha256(folder)
    assert rewritten(folder, other_release) == of_content
    assert tokenizer_file_sha256(folder) != of_file


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["model"]["vocab"].update({"new": 9_999}),
        lambda content: content["model"]["merges"].append(["a", "b"]),
        lambda content: content["added_tokens"].pop(),
    ],
)
def test_what_it_does_counts(folder, change):
    assert tokenizer_sha256(folder) != rewritten(folder, change)


def test_records_that_name_the_file_are_still_understood(folder):
    base = SimpleNamespace(folder=folder, tokenizer_sha256=tokenizer_sha256(folder))
    for named in (tokenizer_sha256(folder), tokenizer_file_sha256(folder)):
        assert tokenizer_as_named(base, named) == named
    assert tokenizer_as_named(base, "0" * 64) == tokenizer_sha256(folder)


def test_other_tokenizers_are_known_by_their_file(tmp_path):
    (tmp_path / "bpe.model").write_bytes(b"pieces")
    assert tokenizer_sha256(tmp_path) == tokenizer_file_sha256(tmp_path) != ""
    (tmp_path / "bpe.model").unlink()
    assert tokenizer_sha256(tmp_path) == ""
