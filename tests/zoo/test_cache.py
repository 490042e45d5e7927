"""The cache on disk: damage, interrupted and impossible writes, and who may read it."""

import os
import shutil

import pytest

import zoo
from tests.zoo.conftest import model_files
from zoo import manager
from zoo.errors import ModelError
from zoo.manager import Options

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


def test_content_that_is_already_there_is_left_alone(pulled, folder):
    inode = pulled.folder.stat().st_ino
    again = manager.pull("mine", Options(origin=str(folder), update=True))
    assert again.folder.stat().st_ino == inode


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
