"""The manager: which model a name means, what is loaded, and that two processes agree."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

import zoo
from tests.zoo.conftest import model_files
from zoo import manager
from zoo.errors import ModelError
from zoo.manager import Options

NAME = "someone/whisper-odd"


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


def test_unknown_names_are_answered_with_the_known_and_the_close_ones(home, boli):
    with pytest.raises(
        ModelError, match=r"No model is called 'openai/whisper-smal'; close: openai/whisper-small"
    ) as refusal:
        manager.resolve("openai/whisper-smal")
    assert "To mend it: boli zoo pull openai/whisper-small" in str(refusal.value)
    with pytest.raises(ModelError, match=r"Valid: boli-embedded, debug, debug-owsm, distil-whisper/.*boli zoo list"):
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
    with pytest.raises(ModelError, match=r"No source is called 'ftp'. Valid: hub:, espnet:, folder:"):
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


def test_show_of_a_folder_takes_its_checksums(home, folder, boli):
    shown = json.loads(boli("zoo", "show", str(folder), "--json")[1])
    assert set(shown["files"]) == set(model_files())
    assert shown["folder"] == str(folder)
    assert shown["family"] == "whisper"


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
