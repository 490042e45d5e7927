"""Removing: what `rm` and `gc` take, and what they leave."""

import os
import time

import pytest

from tests.zoo.conftest import model_files
from zoo import cache, manager
from zoo.errors import ModelError
from zoo.garbage import STALE_S, collect, garbage
from zoo.manager import Options

NAME = "someone/whisper-odd"


def test_rm_frees_and_then_there_is_nothing(pulled, boli, home):
    code, out, _ = boli("zoo", "rm", "mine")
    assert code == 0
    assert out == "mine: removed, 201 kB freed\n"
    code, _, err = boli("zoo", "rm", "mine")
    assert code == 1
    assert "mine is not in the cache" in err
    assert "Valid: nothing is pulled. To mend it: boli zoo list --pulled" in err
    assert cache.size(home / "models") == 0


def test_gc_takes_what_nothing_needs_and_nothing_else(hub, boli, home):
    first = hub.add(NAME, model_files(0))
    manager.pull(NAME)
    second = hub.add(NAME, model_files(1))
    kept = manager.pull(NAME, Options(update=True))
    stale, recent = home / "staging" / "old", home / "staging" / f"new@{cache.HOST}"
    for folder in (stale, recent):
        folder.mkdir(parents=True)
        (folder / "x.part").write_bytes(b"x" * 1000)
    for path in (stale / "x.part", stale):
        os.utime(path, (time.time() - STALE_S - 60,) * 2)
    (home / "trash").mkdir(exist_ok=True)
    (home / "trash" / "abc").write_text("x")
    orphan = home / "models" / "a--b" / "v1"
    orphan.mkdir(parents=True)
    (orphan / "config.json").write_text("{}")
    (home / "verified" / "gone--v1.json").write_text("{}")
    why = {item.path.name: item.why for item in garbage()}
    assert why == {
        "abc": "was being removed",
        "old": "interrupted pull, 7.0 days old",
        "v1": "has no readable record",
        first: "superseded",
        "gone--v1.json": "note about a version that is gone",
        f"someone--whisper-odd--{first}.json": "note about a version that is gone",
    }
    code, out, _ = boli("zoo", "gc", "--dry-run")
    assert "would be freed" in out
    assert orphan.exists()
    code, out, _ = boli("zoo", "gc")
    assert code == 0
    assert not garbage()
    assert recent.exists()
    assert manager.resolve(NAME) == (manager.resolve(NAME)[0], kept.folder)
    assert kept.version == second
    assert boli("zoo", "gc", "--all")[0] == 0
    assert not recent.exists()
    assert boli("zoo", "gc")[1] == "Nothing to remove.\n"


def test_gc_leaves_a_pull_that_is_under_way(home):
    import filelock

    staging = cache.staging_folder("a/b")
    staging.mkdir(parents=True)
    cache.lock_file("a/b").parent.mkdir(parents=True)
    with filelock.FileLock(cache.lock_file("a/b")):
        assert garbage(everything=True) == []
    assert [item.path for item in garbage(everything=True)] == [staging]
    assert collect(garbage(everything=True)) == 0


def test_gc_keeps_what_the_lock_pins(hub, boli):
    first = hub.add(NAME, model_files(0))
    manager.pull(NAME)
    boli("zoo", "lock")
    hub.add(NAME, model_files(1))
    manager.pull(NAME, Options(update=True))
    boli("zoo", "gc")
    assert [entry.version for entry in cache.entries(NAME)] == [first]


def test_an_unreadable_record_is_reported_and_the_advice_removes_it(pulled, boli, advised):
    (pulled.folder / "boli.json").write_text("{")
    with pytest.raises(ModelError, match=r"No model is called 'mine'"):
        manager.resolve("mine")
    code, _, err = boli("zoo", "verify")
    assert code == 1
    assert "has no readable record" in err
    with pytest.raises(ModelError, match=r"has no readable boli\.json .*boli zoo gc") as refusal:
        cache.Manifest.read(pulled.folder)
    assert advised(str(refusal.value))[0] == 0
    assert boli("zoo", "verify")[:2] == (0, "Nothing is pulled.\n")


def test_another_host_stages_for_itself(home, folder, boli):
    """Its pull may be under way although its lock is not seen here."""
    other = home / "staging" / "mine@elsewhere"
    other.mkdir(parents=True)
    (other / "x.part").write_bytes(b"x")
    manager.pull("mine", Options(origin=str(folder)))
    boli("zoo", "gc", "--all")
    assert (other / "x.part").read_bytes() == b"x"
