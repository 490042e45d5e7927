"""The manager: what is loaded, what is refused, and that two processes and a lock agree."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

import zoo
from tests.zoo.conftest import model_files
from zoo import cache, lock, manager
from zoo.errors import ModelError
from zoo.garbage import STALE_S, collect, garbage
from zoo.manager import Options

NAME = "someone/whisper-odd"


@pytest.fixture
def folder(tmp_path):
    """A local folder with a model."""
    for name, data in model_files().items():
        target = tmp_path / "my-whisper" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path / "my-whisper"


@pytest.fixture
def pulled(home, folder):
    return manager.pull("mine", Options(origin=str(folder)))


def test_import_costs_nothing():
    heavy = "{'torch', 'transformers', 'httpx', 'huggingface_hub'}"
    code = f"import sys, zoo, zoo.commands; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_load_debug_makes_it_once(home):
    model = zoo.load("debug")
    assert model.card.name == "debug"
    made = manager.find("debug")
    assert set(model.card.files) == set(made.manifest.files)
    before = made.folder.stat().st_mtime_ns
    zoo.load("debug")
    assert manager.find("debug").folder.stat().st_mtime_ns == before


def test_a_local_folder_is_loaded_where_it_lies(home, folder, monkeypatch):
    card, found = manager.resolve(str(folder))
    assert (card.family, found) == ("whisper", folder)
    monkeypatch.chdir(folder.parent)
    assert manager.resolve("my-whisper")[1] == folder
    assert manager.resolve("./my-whisper")[1] == folder
    assert not home.exists()


def test_the_copy_of_a_folder_outlives_it(pulled, folder):
    shutil.rmtree(folder)
    card, found = manager.resolve("mine")
    assert card.name == "mine"
    assert found == pulled.folder
    assert manager.resolve(f"mine@{pulled.version}")[1] == pulled.folder


def test_links_in_a_folder_are_copied_as_files(home, folder, tmp_path):
    """As in the hub's own cache, whose snapshots are links to blobs."""
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    entry = manager.pull("mine", Options(origin=str(folder)))
    (tmp_path / "blob").unlink()
    assert not (entry.folder / "model.safetensors").is_symlink()
    assert not entry.damages(full=True)


DAMAGE = {
    "changed": lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "missing": lambda path: path.unlink(),
    "changed, with the old time": lambda path: _keep_time(path, path.read_bytes()[:-1] + b"!!"),
}


def _keep_time(path, content):
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_not_loaded_and_the_advice_mends_it(pulled, advised, how):
    manager.resolve("mine")
    DAMAGE[how](pulled.folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"mine in .* is damaged: model\.safetensors") as refusal:
        manager.resolve("mine")
    assert advised(str(refusal.value))[0] == 0
    assert manager.resolve("mine")[1] == pulled.folder
    assert (pulled.folder / "model.safetensors").read_bytes() == model_files()["model.safetensors"]


def test_only_verify_sees_what_kept_size_time_and_inode(pulled, boli, advised):
    manager.resolve("mine")
    path = pulled.folder / "model.safetensors"
    content = path.read_bytes()
    status = path.stat()
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    manager.resolve("mine")  # a disk that rots under an unchanged inode: loading stays fast
    code, _, err = boli("zoo", "verify")
    assert code == 1
    assert "mine in" in err
    assert "is damaged: model.safetensors has sha256" in err
    with pytest.raises(ModelError, match=r"is damaged"):
        manager.resolve("mine")  # and now loading knows too
    assert advised(err)[0] == 0
    assert boli("zoo", "verify")[:2] == (0, "mine: 3 files, every sha256 is right\n")


def test_verify_names_files_that_nobody_recorded(pulled, boli):
    (pulled.folder / "adapter_config.json").write_text("{}")
    code, _, err = boli("zoo", "verify", "mine")
    assert code == 1
    assert "adapter_config.json was not there when it was pulled" in err
    assert boli("zoo", "pull", "mine")[0] == 0
    assert not (pulled.folder / "adapter_config.json").exists()


def test_what_was_pulled_is_not_read_again_when_it_is_loaded(pulled, monkeypatch):
    def never(path):
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr("zoo.checksum.sha256", never)
    manager.resolve("mine")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_still_loaded_from(pulled, home):
    for path in [home, *home.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert manager.resolve("mine")[1] == pulled.folder
    finally:
        for path in [home, *home.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_verification_note_that_cannot_be_written_is_no_error(pulled, home):
    shutil.rmtree(home / "verified")
    (home / "verified").write_text("in the way")
    assert manager.resolve("mine")[1] == pulled.folder


def test_unknown_names_are_answered_with_the_known_and_the_close_ones(home, boli):
    with pytest.raises(
        ModelError, match=r"No model is called 'openai/whisper-smal'; close: openai/whisper-small"
    ) as refusal:
        manager.resolve("openai/whisper-smal")
    assert "To mend it: boli zoo pull openai/whisper-small" in str(refusal.value)
    with pytest.raises(ModelError, match=r"Valid: boli-embedded, debug, distil-whisper/.*boli zoo list"):
        manager.resolve("xyz")
    with pytest.raises(ModelError, match=r"\./nothing is no folder"):
        manager.resolve("./nothing")
    with pytest.raises(ModelError, match=r"a,b is no folder"):
        manager.resolve("a,b")


def test_a_known_model_that_was_not_pulled_is_pulled_by_the_advice(hub, advised):
    hub.add(NAME, model_files())
    with pytest.raises(ModelError, match=rf"No model is called '{NAME}'.*boli zoo pull {NAME}") as refusal:
        manager.resolve(NAME)
    assert advised(str(refusal.value))[0] == 0
    manager.resolve(NAME)
    with pytest.raises(ModelError, match=r"is not in the cache .*Valid: pulled: openai|is not in the cache"):
        manager.resolve("openai/whisper-tiny")
    with pytest.raises(ModelError, match=rf"No model is called '{NAME[:-1]}'; close: {NAME}") as refusal:
        manager.resolve(NAME[:-1])
    assert advised(str(refusal.value))[0] == 0
    with pytest.raises(ModelError, match=rf"{NAME}@v2 is not in the cache .*boli zoo pull {NAME} --revision v2"):
        manager.resolve(f"{NAME}@v2")


@pytest.mark.parametrize("name", ["../evil", "a--b", "a/b/c", "", "a/../b", "x y", ".hidden"])
def test_names_that_are_no_names_are_refused(home, folder, name):
    with pytest.raises(ModelError, match=r"cannot be the name of a model.*--from SOURCE"):
        manager.pull(name, Options(origin=str(folder)))
    assert not list(home.rglob("config.json"))


def test_a_source_without_a_name_gets_one_by_the_advice(home, folder, advised):
    with pytest.raises(ModelError, match=r"is where a model comes from; it needs a name too") as refusal:
        manager.pull(str(folder))
    assert advised(str(refusal.value))[0] == 0
    assert manager.resolve("my-whisper")[1].is_dir()
    with pytest.raises(ModelError, match=r"boli zoo pull my-model-v1\.2 --from https://h/a/my-model-v1\.2\.tar\.gz"):
        manager.pull("https://h/a/my-model-v1.2.tar.gz")
    with pytest.raises(ModelError, match=r"'nothing-here' is no card, no hub id, no URL, and no folder.*boli zoo list"):
        manager.pull("nothing-here")
    with pytest.raises(ModelError, match=r"No source is called 'ftp'. Valid: hub:, folder:"):
        manager.pull("mine", Options(origin="ftp://x/y.tar"))


def test_a_folder_that_is_no_model(home, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"No family knows the files of .*empty \(it is empty\)"):
        manager.pull("mine", Options(origin=str(tmp_path / "empty")))
    with pytest.raises(ModelError, match=r"No family knows the files of .*empty"):
        manager.resolve(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"is no folder. Valid: a folder with a model's files"):
        manager.pull("mine", Options(origin="folder:/nowhere"))


def test_models_of_the_repository_are_not_pulled(home):
    with pytest.raises(ModelError, match=r"is used where it lies and is never pulled.*boli zoo verify boli-embedded"):
        manager.pull("boli-embedded")


def test_a_model_of_the_repository_that_is_damaged_or_gone(home, tmp_path, monkeypatch):
    from dataclasses import replace

    from zoo import checksum
    from zoo.sources import repository

    root = tmp_path / "clone"
    inside = root / "zoo/models/boli-embedded"
    inside.mkdir(parents=True)
    for name, data in model_files().items():
        (inside / name).parent.mkdir(exist_ok=True)
        (inside / name).write_bytes(data)
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    sums = {"config.json": checksum.sha256(inside / "config.json")}
    card = replace(manager.cards()["boli-embedded"], files=sums)
    monkeypatch.setattr(repository, "ROOT", root)
    monkeypatch.setattr(manager, "cards", lambda: {card.name: card})
    monkeypatch.chdir(root)
    assert manager.resolve("boli-embedded") == (card, inside)
    (inside / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"boli-embedded is damaged: config.json has sha256") as refusal:
        manager.resolve("boli-embedded")
    assert os.system(str(refusal.value).partition("To mend it: ")[2]) == 0
    assert manager.resolve("boli-embedded") == (card, inside)
    shutil.rmtree(inside)
    with pytest.raises(ModelError, match=r"is not there, so boli-embedded cannot be used") as refusal:
        manager.resolve("boli-embedded")
    assert os.system(str(refusal.value).partition("To mend it: ")[2]) == 0
    assert manager.resolve("boli-embedded") == (card, inside)


def test_offline_makes_no_network_call_at_all(hub, monkeypatch, boli):
    hub.add(NAME, model_files())
    manager.pull(NAME)
    zoo.load("debug")

    def forbidden(*arguments, **options):
        raise AssertionError("a socket was opened in offline mode")

    monkeypatch.setenv("BOLI_OFFLINE", "1")
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "create_connection", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    zoo.load("debug")
    manager.resolve(NAME)
    manager.pull(NAME)
    for command in (["list"], ["show", NAME], ["verify"], ["du"], ["lock"], ["lock", "--check"], ["gc"], ["rm", NAME]):
        assert boli("zoo", *command)[0] == 0, command
    for origin in ("", f"{hub.url}/x.tar"):
        with pytest.raises(ModelError, match=r"needs the network, and BOLI_OFFLINE=1 forbids it") as refusal:
            manager.pull(NAME if not origin else "other", Options(origin=origin))
    monkeypatch.undo()
    assert str(refusal.value).endswith("BOLI_OFFLINE=0 boli zoo pull other")


def test_the_advice_of_offline_mode_works(hub, tmp_path):
    hub.add(NAME, model_files())
    call = [sys.executable, "-m", "zoo", "pull", NAME]
    root = str(manager.CARDS.parent.parent)
    environment = os.environ | {"PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}
    refused = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.endswith(f"To mend it: HF_HUB_OFFLINE=0 boli zoo pull {NAME}\n")
    assert "Traceback" not in refused.stderr
    environment["HF_HUB_OFFLINE"] = "0"
    done = subprocess.run(call, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout
    assert "model.safetensors: 200,083 bytes" in done.stderr


def test_two_processes_pull_the_same_model(hub):
    from zoo.local_hub import Behaviour

    files = model_files()
    commit = hub.add(NAME, files)
    for path in list(hub.behaviours) or [f"/{NAME}/resolve/{commit}/model.safetensors"]:
        hub.behaviours[path] = Behaviour(wait_s=0.3)
    environment = os.environ | {"PYTHONPATH": str(manager.CARDS.parent.parent)}
    call = [sys.executable, "-m", "zoo", "pull", NAME, "--json"]
    running = [
        subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    outputs = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert len({output for output, _ in outputs}) == 1
    assert len(hub.asked(f"/{NAME}/resolve/{commit}/model.safetensors")) == 1, "downloaded once"
    assert not manager.find(NAME).damages(full=True)


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


def test_du_and_list_and_show(pulled, boli, home):
    code, out, _ = boli("zoo", "du")
    assert code == 0
    assert "mine" in out
    assert f"in {home}" in out
    assert json.loads(boli("zoo", "du", "--json")[1])["size_bytes"] > 200_000
    out = boli("zoo", "list")[1]
    assert "openai/whisper-large-v3-turbo" in out
    assert [line.split()[0] for line in boli("zoo", "list", "--pulled")[1].splitlines()] == ["NAME", "mine"]
    listed = {card["name"]: card for card in json.loads(boli("zoo", "list", "--json")[1])}
    assert listed["mine"]["pulled"] == [pulled.version]
    assert "zoo.whisper_family:family" in boli("zoo", "list", "--families")[1]
    shown = json.loads(boli("zoo", "show", "mine", "--json")[1])
    assert shown["files"] == pulled.manifest.files
    assert shown["folder"] == str(pulled.folder)
    assert "sha" not in boli("zoo", "show", "openai/whisper-tiny")[2]
    assert "169d4a4341b33bc18d8881c4b69c2e104e1cc0af" in boli("zoo", "show", "openai/whisper-tiny")[1]
    assert boli("zoo", "show", "xyz")[0] == 1
    assert boli("zoo", "verify", "xyz")[0] == 1


def test_a_family_that_files_do_not_tell_is_given(home, tmp_path, folder):
    entry = manager.pull("mine", Options(origin=str(folder), family="whisper"))
    assert entry.card.family == "whisper"
    with pytest.raises(ModelError, match=r"No family is called 'wisper'. Valid: .*whisper"):
        manager.pull("mine", Options(origin=str(folder), family="wisper"))


def test_an_interrupted_publish_leaves_the_old_or_the_new(pulled, folder, monkeypatch):
    """A damaged copy is being replaced and the rename fails: what was there is gone or whole, and pull mends it."""
    from pathlib import Path

    (pulled.folder / "config.json").write_text("{}")
    rename = Path.rename
    calls = []

    def third_fails(self, target):
        calls.append(self)
        if len(calls) == 3:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "rename", third_fails)
        with pytest.raises(ModelError, match=r"cannot be written to the cache .*Input/output"):
            manager.pull("mine")
    assert manager.find("mine") is None or not manager.find("mine").damages(full=True)
    assert not manager.pull("mine", Options(origin=str(folder))).damages(full=True)


def test_a_cache_that_cannot_be_written(home, folder, boli, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BOLI_HOME", str(tmp_path / "file" / "cache"))
    code, _, err = boli("zoo", "pull", "mine", "--from", str(folder))
    assert code == 1
    assert "mine cannot be written to the cache" in err
    assert "To mend it: BOLI_HOME=FOLDER boli zoo pull mine" in err
    monkeypatch.setenv("BOLI_HOME", str(tmp_path / "FOLDER"))
    assert boli("zoo", "pull", "mine", "--from", str(folder))[0] == 0


def test_a_rename_that_worked_and_reports_failure(home, folder, monkeypatch):
    """As network file systems do when they repeat a request whose answer was lost."""
    from pathlib import Path

    rename = Path.rename

    def repeated(self, target):
        rename(self, target)
        if "models" in Path(target).parts:
            raise FileNotFoundError(2, "No such file or directory")

    with monkeypatch.context() as network:
        network.setattr(Path, "rename", repeated)
        entry = manager.pull("mine", Options(origin=str(folder)))
    assert not entry.damages(full=True)
    assert manager.resolve("mine")[1] == entry.folder


def test_another_host_stages_for_itself(home, folder, boli):
    """Its pull may be under way although its lock is not seen here."""
    other = home / "staging" / "mine@elsewhere"
    other.mkdir(parents=True)
    (other / "x.part").write_bytes(b"x")
    manager.pull("mine", Options(origin=str(folder)))
    boli("zoo", "gc", "--all")
    assert (other / "x.part").read_bytes() == b"x"


def test_show_of_a_folder_takes_its_checksums(home, folder, boli):
    shown = json.loads(boli("zoo", "show", str(folder), "--json")[1])
    assert set(shown["files"]) == set(model_files())
    assert shown["folder"] == str(folder)
    assert shown["family"] == "whisper"


def test_content_that_is_already_there_is_left_alone(pulled, folder):
    inode = pulled.folder.stat().st_ino
    again = manager.pull("mine", Options(origin=str(folder), update=True))
    assert again.folder.stat().st_ino == inode


def test_progress_goes_to_stderr(home, folder, boli):
    code, out, err = boli("zoo", "pull", "mine", "--from", str(folder))
    assert code == 0
    assert out.startswith("mine sha256-")
    assert "model.safetensors: 200,083 bytes" in err


def test_bars_on_a_terminal_count_a_resumed_file_once(capsys, monkeypatch):
    from zoo.progress import Bars

    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bars() as bars:
        bars.start("model.safetensors", 1_000)
        bars.advance(300)
        bars.say("the server closed the connection; going on")
        bars.start("model.safetensors", 1_000, 300)
        bars.advance(700)
    out, err = capsys.readouterr()
    assert out == ""
    assert "going on" in err
    assert "1.0/1.0 kB" in err


def test_a_pulled_model_comes_before_a_folder_of_its_name(pulled, monkeypatch, tmp_path):
    (tmp_path / "work" / "mine").mkdir()
    assert manager.resolve("mine")[1] == pulled.folder
    with pytest.raises(ModelError, match=r"No family knows the files of \./mine"):
        manager.resolve("./mine")


def test_a_shared_cache_is_readable_by_those_the_umask_lets(home, folder):
    (folder / "model.safetensors").chmod(0o600)
    before = os.umask(0o022)
    try:
        entry = manager.pull("mine", Options(origin=str(folder)))
        zoo.load("debug")
    finally:
        os.umask(before)
    for found in (entry, manager.find("debug")):
        modes = {path.stat().st_mode & 0o777 for path in found.folder.rglob("*") if path.is_file()}
        assert modes == {0o644}
