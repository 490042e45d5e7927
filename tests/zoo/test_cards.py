"""The cards that ship with the zoo are true to themselves and reject typing errors."""

import json
import re

import pytest

from zoo import checksum, manager, registry
from zoo.card import Card
from zoo.errors import ModelError
from zoo.sources import SOURCES, parse, repository, source

CARDS = manager.cards()


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_every_card_is_complete(card):
    assert card.family in registry.targets()
    assert card.licence
    assert 0 <= card.tap <= card.n_layers
    assert card.n_layers > 0
    assert card.context in ("30s", "dynamic")
    assert card.targets
    assert card.languages
    assert all(re.fullmatch(r"[a-z]{2,3}", language) for language in card.languages)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in card.files.values())
    scheme, location = parse(card.source)
    assert source(scheme)
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    if scheme == "hub":
        assert location == card.name or f"On the hub it is called {location}." in card.notes
        bytes_per_weight = card.size_bytes / card.parameters
        width = min((2, 4), key=lambda width: abs(bytes_per_weight - width))
        assert abs(bytes_per_weight - width) < (0.003 if card.family == "owsm" else 0.001), "fp16 or fp32 weights"
        if "revision, checksums and exact size are not known" in card.notes:
            assert card.family == "owsm", "whoever could ask the hub pins to a commit"
            assert not card.revision
            assert not card.files
            return
        assert re.fullmatch(r"[0-9a-f]{40}", card.revision), "pinned to a commit"
        weights = ".pth" if card.family == "owsm" else "model.safetensors"
        known = any(name.endswith(weights) for name in card.files)
        assert known or "checksums are not known here" in card.notes


def test_the_known_sizes():
    assert {name for name in CARDS if name.startswith("openai/")} == {
        f"openai/whisper-{size}"
        for size in ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo")
    }
    assert CARDS["openai/whisper-small"].n_layers == 12
    assert len(CARDS["openai/whisper-small"].languages) == 99
    assert "yue" in CARDS["openai/whisper-large-v3"].languages
    assert {"debug", "debug-owsm", "boli-embedded"} <= set(CARDS)
    assert {name for name in CARDS if name.startswith("espnet/")} == {
        f"espnet/owsm_{model}"
        for model in ("v4_small_370M", "v4_medium_1B", "v3.1_ebf_base", "v3.1_ebf_small", "v3.1_ebf_medium")
    }


def test_a_typing_error_in_a_card_is_refused():
    with pytest.raises(ModelError, match=r"Card 'x' has unknown keys \['licens'\]. Valid: .*licence"):
        Card.from_dict({"name": "x", "family": "whisper", "licens": "MIT"})


def test_one_name_has_one_card(tmp_path, monkeypatch):
    for file in ("a.json", "b.json"):
        (tmp_path / file).write_text(json.dumps([{"name": "x", "family": "whisper"}]))
    monkeypatch.setattr(manager, "CARDS", tmp_path)
    manager.cards.cache_clear()
    try:
        with pytest.raises(ModelError, match=r"Two cards are called 'x'.*edit .*b\.json"):
            manager.cards()
    finally:
        manager.cards.cache_clear()


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_source_keeps_the_contract(scheme):
    module = source(scheme)
    assert isinstance(module.IN_PLACE, bool)
    assert callable(module.fetch)


def test_an_unknown_builtin_names_the_known(home):
    with pytest.raises(ModelError, match=r"boli makes no model called 'x'. Valid: builtin:debug.*boli zoo pull debug"):
        manager.pull("mine", manager.Options(origin="builtin:x"))


OWN = [card for card in CARDS.values() if card.source.startswith("repo:")]


@pytest.mark.parametrize("card", OWN, ids=[card.name for card in OWN])
def test_the_models_of_the_repository_are_recorded_file_by_file(card):
    """After a new training, take files and size from `boli zoo show ./FOLDER --json` into zoo/cards/boli.json."""
    folder = repository.ROOT / card.source.removeprefix("repo:")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert card.files == {path.relative_to(folder).as_posix(): checksum.sha256(path) for path in paths}
    assert card.size_bytes == sum(path.stat().st_size for path in paths)
