"""zoo.lock: what a project pins is what it gets, or an error."""

import json
import os

import pytest

from tests.zoo.conftest import model_files
from zoo import lock, manager
from zoo.errors import ModelError
from zoo.manager import Options

NAME = "someone/whisper-odd"


def test_the_lock_pins_what_the_project_uses(hub, boli, advised):
    first = hub.add(NAME, model_files(0))
    assert boli("zoo", "pull", NAME)[0] == 0
    code, out, _ = boli("zoo", "lock")
    assert code == 0
    assert "zoo.lock: 1 models pinned" in out
    pins = json.loads((lock.path()).read_text())
    assert pins["models"][NAME]["revision"] == first
    second = hub.add(NAME, model_files(1))
    manager.pull(NAME, Options(update=True))
    assert manager.resolve(NAME)[0].revision == first, "the lock decides, not the newest pull"
    manager.remove(NAME)
    with pytest.raises(ModelError, match=r"is not in the cache .* at the revision that .*zoo.lock pins") as refusal:
        manager.resolve(NAME)
    assert advised(str(refusal.value))[0] == 0
    assert manager.resolve(NAME)[0].revision == first
    assert boli("zoo", "lock", "--check")[:2] == (0, f"{NAME}: as pinned ({first})\n")
    manager.pull(NAME, Options(update=True))
    assert boli("zoo", "lock", NAME)[0] == 0
    assert manager.resolve(NAME)[0].revision == second


def test_a_source_that_changed_under_the_lock_is_refused(home, folder, boli):
    manager.pull("mine", Options(origin=str(folder)))
    boli("zoo", "lock")
    manager.remove("mine")
    (folder / "config.json").write_bytes(model_files(1)["config.json"])
    with pytest.raises(ModelError, match=r"no longer gives what .*zoo.lock pins: config.json has sha256") as refusal:
        manager.pull("mine")
    assert manager.find("mine") is None
    first, second = str(refusal.value).partition("To mend it: ")[2].partition("  (")[0].split(" && ")
    # the cache has forgotten where it came from, but the lock has not
    for command in (first, second):
        assert boli(*command.split()[1:])[0] == 0
    manager.resolve("mine")


def test_a_cache_that_is_not_what_the_lock_pins(pulled, boli, advised):
    boli("zoo", "lock")
    content = json.loads(lock.path().read_text())
    content["models"]["mine"]["files"]["config.json"] = "0" * 64
    lock.path().write_text(json.dumps(content))
    with pytest.raises(
        ModelError, match=r"mine is not what .*zoo.lock pins: config.json has sha256 \w+, pinned is 000"
    ) as refusal:
        manager.resolve("mine")
    assert advised(str(refusal.value))[0] == 0
    manager.resolve("mine")


def test_a_damaged_lock_and_one_without_the_model(pulled, boli):
    code, _, err = boli("zoo", "lock", "--check")
    assert code == 1
    assert "pins nothing" in err
    lock.path().write_text("{")
    with pytest.raises(ModelError, match=r"cannot be read as a lock .*rm .* && boli zoo lock") as refusal:
        manager.resolve("mine")
    remove, write = str(refusal.value).partition("To mend it: ")[2].split(" && ")
    assert os.system(remove) == 0
    assert boli(*write.split()[1:])[0] == 0
    code, _, err = boli("zoo", "lock", "--check", "other")
    assert code == 1
    assert "does not pin other. Valid: mine. To mend it: boli zoo lock other" in err
    code, _, err = boli("zoo", "lock", "other")
    assert code == 1
    assert "other is not in the cache, so its files cannot be pinned. To mend it: boli zoo pull other" in err
    (pulled.folder / "config.json").write_text("{}")
    code, _, err = boli("zoo", "lock", "mine")
    assert code == 1
    assert "mine is damaged: config.json has sha256" in err
