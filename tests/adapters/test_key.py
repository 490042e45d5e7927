from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.key import AdapterKey
from zoo.errors import AdapterError

bases = st.from_regex(r"[A-Za-z0-9](-?[A-Za-z0-9._]){0,10}(/[A-Za-z0-9](-?[A-Za-z0-9._]){0,10})?", fullmatch=True)
variants = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,20}", fullmatch=True)


@given(bases, st.sampled_from(["hi", "pt-BR", "zh-Hant-TW", "sr-Latn", "es-419"]), st.integers(1, 4096), variants)
def test_a_path_gives_its_key_back(base, language, rank, variant):
    key = AdapterKey(base, language, rank, variant)
    assert AdapterKey.from_path(key.path / "0123456789ab") == key
    assert len(key.path.parts) == 4


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("a--b", "hi", 8), "single '-'"),
        (("../x", "hi", 8), "cannot be used"),
        (("a/b/c", "hi", 8), "OWNER/NAME"),
        (("a", "hindi language", 8), "no BCP-47 tag"),
        (("a", "HI", 8), "no BCP-47 tag"),
        (("a", "hi\n", 8), "no BCP-47 tag"),
        (("a", "pt-br", 8), "Valid: pt-BR"),
        (("a", "zh-hant", 8), "Valid: zh-Hant"),
        (("a", "hi", 0), "1 to 4096"),
        (("a", "hi", True), "1 to 4096"),
        (("a", "hi", "8"), "1 to 4096"),
        (("a", "hi", 8, ".hidden"), "up to 64 letters"),
        (("a", "hi", 8, "a/b"), "up to 64 letters"),
        (("a", "hi", 8, "x" * 65), "up to 64 letters"),
    ],
)
def test_what_cannot_be_a_key_is_named(parts, message):
    with pytest.raises(AdapterError) as caught:
        AdapterKey(*parts)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["a/hi", "a/hi/8/default/v", "a/hi/r08/default/v", "a/hi/rx/default/v"])
def test_other_folders_are_no_keys(path):
    with pytest.raises(AdapterError):
        AdapterKey.from_path(PurePosixPath(path))
