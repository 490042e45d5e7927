"""The store: publishing, reading, removing, the index, and files that are damaged."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from adapters import staging
from adapters.index import INDEX, RECORD, StoreWarning
from adapters.key import AdapterKey
from adapters.peft_files import CONFIG, WEIGHTS
from adapters.record import Record
from adapters.store import Store
from tests.adapters.conftest import configure
from zoo.errors import AdapterError, StoreError

KEY = AdapterKey("openai/whisper-small", "hi", 4)
REPOSITORY = Path(__file__).parents[2]


def snapshot(store: Store) -> list[str]:
    return sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if INDEX not in p.name)


def test_what_is_published_is_found(store, lora):
    stored = store.publish(KEY, lora())
    other = store.publish(AdapterKey("toy", "pt-BR", 4, "v.2+x"), lora("other", 1))
    assert store.find(base="openai/whisper-small", language="hi", rank=4, variant="default") == [stored]
    assert store.find(language="pt-BR") == store.find(rank=4, variant="v.2+x") == [other]
    assert store.find(base="openai/whisper") == store.find(language="te") == []
    assert sorted(s.name for s in store.all()) == sorted([stored.name, other.name])
    assert store.get(KEY) == Store(store.folder).get(KEY, stored.version) == stored
    assert stored.folder == store.folder / "openai--whisper-small" / "hi" / "r4" / "default" / stored.version
    assert stored.record.version == stored.version
    assert stored.record.parameters == 2 * 4 * 128
    assert len(store.weights(stored).sites) == 2
    assert store.weights(stored).name == stored.name


def test_the_same_content_is_one_version(store, lora):
    first = store.publish(KEY, lora())
    again = configure(lora("again"), base_model_name_or_path="/elsewhere", target_modules=["x", "q_proj"])
    assert store.publish(KEY, again, Record(KEY.base, "hi", 4, notes="later")) == first
    assert store.find(language="hi") == [first]
    assert first.record.notes == ""
    assert store.publish(KEY, configure(lora("stronger"), lora_alpha=16)).version != first.version
    assert store.publish(KEY, lora("b"), Record(KEY.base, "hi", 4, base_sha256="b" * 64)).version != first.version


def test_the_newest_version_comes_last_and_is_meant(store, lora):
    made = [store.publish(KEY, lora(str(i), i)) for i in range(3)]
    assert store.find(language="hi") == made
    assert store.get(KEY) == store.select("hi") == store.select("hi:r4") == made[-1]
    assert store.select(f"openai/whisper-small:hi:r4:default@{made[0].version[:6]}") == made[0]


def test_other_processes_changes_are_seen(store, lora):
    reader = Store(store.folder)
    assert list(reader.all()) == []
    os.utime(store.folder / staging.STAGING, (0, 0))  # a quiet store, whose index has settled
    assert list(reader.all()) == list(reader.all()) == []
    stored = store.publish(KEY, lora())
    assert list(reader.all()) == [stored]
    store.remove(stored)
    assert list(reader.all()) == []
    assert snapshot(store) == [staging.STAGING]


def test_a_settled_index_is_used_without_walking(store, lora, monkeypatch):
    stored = store.publish(KEY, lora())
    os.utime(store.folder / staging.STAGING, (1, 1))
    list(store.all())
    monkeypatch.setattr("adapters.index.versions", lambda folder: pytest.fail("walked"))
    assert list(Store(store.folder).all()) == [stored]


def test_two_publishes_within_one_tick_are_both_seen(store, lora):
    reader, now = Store(store.folder), time.time_ns()
    for i in range(3):
        store.publish(KEY, lora(str(i), i))
        os.utime(store.folder / staging.STAGING, ns=(now, now))  # as a coarse clock would have it
        assert len(list(reader.all())) == i + 1


@pytest.mark.parametrize("content", ["", "null", "[]", '{"format": 1}', '{"format": 9, "entries": []}', "\x00"])
def test_a_damaged_index_is_only_a_cache(store, lora, content):
    stored = store.publish(KEY, lora())
    (store.folder / INDEX).write_text(content)
    assert list(Store(store.folder).all()) == [stored]
    assert Store(store.folder).reindex() == 1


def test_a_copied_store_needs_no_index(store, lora, tmp_path):
    stored = store.publish(KEY, lora())
    copy = tmp_path / "copy"
    shutil.copytree(store.folder / "openai--whisper-small", copy / "openai--whisper-small")
    copied = Store(copy)
    assert [s.name for s in copied.all()] == [stored.name]
    shutil.copytree(copy / "openai--whisper-small/hi", copy / "toy/hi")
    with pytest.warns(StoreWarning, match="belongs to openai/whisper-small"):
        assert len(list(copied.all())) == 1
    assert sorted(os.listdir(copy)) == ["openai--whisper-small", "toy"]


def test_copied_in_by_hand_is_seen_after_reindex(store, lora, tmp_path):
    elsewhere = Store(tmp_path / "elsewhere", create=True)
    stored = elsewhere.publish(KEY, lora())
    os.utime(store.folder / staging.STAGING, (1, 1))
    assert list(store.all()) == []
    shutil.copytree(elsewhere.folder / KEY.path, store.folder / KEY.path)
    assert store.get(KEY).version == stored.version  # the folders are the truth
    assert store.reindex() == 1
    assert len(store.find(language="hi")) == 1


def test_removed_by_hand_is_said_and_the_advice_mends_it(store, lora):
    one = store.publish(KEY, lora())
    two = store.publish(AdapterKey("toy", "te", 4), lora("other", 1))
    mark = os.stat(store.folder / ".staging")
    settled = mark.st_mtime_ns - 10_000_000_000
    os.utime(store.folder / ".staging", ns=(settled, settled))
    assert len(Store(store.folder).find()) == 2  # the index is settled
    shutil.rmtree(two.folder.parent)
    with pytest.raises(AdapterError, match="no longer in the store") as caught:
        _ = [stored.record for stored in Store(store.folder).find()]
    assert "boli adapters reindex --store" in caught.value.remedy
    assert Store(store.folder).reindex() == 1
    assert Store(store.folder).find() == [one]


@pytest.mark.parametrize("garbage", [b"", b"{", b"\xff\xfe\x00", b"null", b'{"base": 1}'])
def test_a_garbage_record_leaves_the_others_usable_and_the_advice_mends_it(store, lora, garbage):
    whole, broken = store.publish(KEY, lora()), store.publish(AdapterKey("toy", "te", 4), lora("b", 1))
    (broken.folder / RECORD).write_bytes(garbage)
    opened = Store(store.folder)
    opened.reindex()
    with pytest.warns(StoreWarning, match=f"{broken.version} is left out"):
        assert list(opened.all()) == [whole]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(opened.all()) == [whole]  # named once
    [(folder, why)] = opened.problems()
    assert folder == broken.folder
    assert "boli adapters rm" in why
    with pytest.raises(AdapterError):
        opened.get(broken.key)
    from boli import main

    command = why.partition("boli adapters ")[2].partition(", then")[0]
    import shlex

    assert main(["adapters", *shlex.split(command)]) == 0
    assert opened.problems() == []
    again = opened.publish(broken.key, lora("c", 1))
    assert {s.name for s in opened.all()} == {whole.name, again.name}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_changed_files_are_refused_and_publishing_again_mends_them(store, lora, file, damage):
    stored = store.publish(KEY, lora())
    path = stored.folder / file
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content) if damage == "flip" else path.unlink()
    with pytest.raises(AdapterError, match="is damaged") as caught:
        store.weights(store.get(KEY))
    assert "boli adapters rm" in caught.value.remedy
    assert "publish or add the adapter again" in caught.value.remedy
    again = store.publish(KEY, lora("again"))
    assert again == stored
    store.check(again)
    assert os.listdir(store.folder / staging.STAGING) == []


def test_a_folder_without_a_record_is_a_problem(store, lora):
    stored = store.publish(KEY, lora())
    (stored.folder / RECORD).unlink()
    assert "holds no record.json" in Store(store.folder).problems()[0][1]


def test_a_wrong_rank_is_refused_and_nothing_is_left(store, lora):
    before = snapshot(store)
    with pytest.raises(AdapterError, match="has rank 4") as caught:
        store.publish(AdapterKey("toy", "hi", 8), lora())
    assert caught.value.valid == "rank 4"
    assert snapshot(store) == before


def test_a_missing_adapter_names_what_there_is(store, lora):
    store.publish(KEY, lora())
    with pytest.raises(AdapterError, match="has no adapter openai/whisper-small:te:r4:default") as caught:
        store.get(AdapterKey("openai/whisper-small", "te", 4))
    assert "openai/whisper-small:hi:r4:default" in caught.value.valid
    assert "boli adapters list --store '" in caught.value.remedy
    with pytest.raises(AdapterError, match="nothing for toy yet"):
        store.get(AdapterKey("toy", "te", 4))


def test_names_that_mean_nothing_or_too_much(store, lora):
    store.publish(KEY, lora())
    store.publish(AdapterKey("toy", "hi", 4), lora("b", 1))
    with pytest.raises(AdapterError, match="2 adapters are meant by 'hi'") as caught:
        store.select("hi")
    assert "toy:hi:r4:default" in caught.value.valid
    assert store.select("toy:hi").key.base == "toy"  # a name from the list of valid ones
    for text in ("te", "hi@ffff", "hi:r9", "a:b:c:d:e", ""):
        with pytest.raises(AdapterError, match="boli adapters list"):
            store.select(text)


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(StoreError, match="There is no store") as caught:
        Store(tmp_path / "nix")
    assert "boli adapters add" in caught.value.remedy
    Store(tmp_path / "nix", create=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="could not be written"):
        Store(tmp_path / "file", create=True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("where", ["shutil.copyfile", "os.rename", "os.fsync", "pathlib.Path.mkdir"])
def test_a_disk_that_refuses_leaves_nothing(store, lora, monkeypatch, code, where):
    folder, before = lora(), snapshot(store)

    def refuse(*names, **_):
        raise OSError(code, os.strerror(code), str(names[0]))

    with monkeypatch.context() as patched:
        patched.setattr(where, refuse)
        with pytest.raises(StoreError, match=os.strerror(code)) as caught:
            store.publish(KEY, folder)
    advice = {errno.ENOSPC: "free space", errno.EDQUOT: "free space", errno.EIO: "ls -la"}.get(code, "chmod -R u+rwX")
    assert advice in caught.value.remedy
    assert str(store.folder) in str(caught.value)
    left = [name for name in snapshot(store) if name not in before]
    assert not any(name.endswith((WEIGHTS, RECORD, CONFIG)) for name in left)
    assert list(store.all()) == []
    assert store.publish(KEY, folder).record.rank == 4  # the same again, once the disk has room


def test_a_rename_that_worked_but_reported_failure(store, lora, monkeypatch):
    rename = os.rename

    def lie(*names):
        rename(*names)
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr("os.rename", lie)
    stored = store.publish(KEY, lora())
    monkeypatch.undo()
    store.check(stored)
    assert list(store.all()) == [stored]


def test_a_staging_folder_swept_away_is_made_again(store, lora, monkeypatch):
    rename, swept = os.rename, []

    def sweep(source, target):
        if not swept:
            swept.append(source)
            shutil.rmtree(source)
        rename(source, target)

    monkeypatch.setattr("os.rename", sweep)
    store.check(store.publish(KEY, lora()))
    assert swept


_READ_AS_NOBODY = """
import os, sys
import safetensors.torch  # before this process may read its own interpreter no more
import pytest
from adapters.key import AdapterKey
from adapters.store import Store
from zoo.errors import StoreError

folder, source = sys.argv[1:]
key = AdapterKey("openai/whisper-small", "hi", 4)
os.setuid(65534)
opened = Store(folder)
(stored,) = opened.all()
opened.weights(stored)
for write in (lambda: opened.publish(key, source), lambda: opened.remove(stored), opened.reindex):
    with pytest.raises(StoreError, match=r"chmod -R u\\+rwX"):
        write()
"""


_LEAVE_A_FOLDER = """
import sys
from pathlib import Path
from adapters import staging

staging.new(Path(sys.argv[1])).mkdir()
"""


def in_a_process(script: str, *arguments) -> None:
    """Not a fork of this process: after torch has used threads here, a fork's first parallel operation waits forever."""
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True, cwd=REPOSITORY, timeout=120)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_read_only_store_is_read_without_an_index_and_refuses_writing(store, lora):
    store.publish(KEY, lora())
    (store.folder / INDEX).unlink(missing_ok=True)
    source = lora("b", 1)
    for path in [store.folder, *store.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in [*store.folder.parents][:4]:
        path.chmod(0o755)
    in_a_process(_READ_AS_NOBODY, store.folder, source)
    for path in [store.folder, *store.folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)  # what the advice does
    store.publish(KEY, source)
    assert len(list(store.all())) == 2


def test_leftovers_are_told_from_work_under_way(store):
    mine = staging.new(store.folder)
    mine.mkdir()
    in_a_process(_LEAVE_A_FOLDER, store.folder)
    (store.folder / staging.STAGING / "of-another-machine+pid+1+2+abc").mkdir()
    old = store.folder / staging.STAGING / "of-another-machine+pid+1+2+old"
    old.mkdir()
    os.utime(old, (1, 1))
    found = store.clean()
    assert len(found) == 2
    assert old in found
    assert mine not in found
    assert mine.is_dir()
    assert len(os.listdir(store.folder / staging.STAGING)) == 2


def test_the_record_on_disk_is_plain_json(store, lora):
    stored = store.publish(KEY, lora())
    assert json.loads((stored.folder / RECORD).read_text())["weights_sha256"] == stored.record.weights_sha256
