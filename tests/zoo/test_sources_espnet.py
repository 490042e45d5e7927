"""ESPnet's model zoo behind the manager, with packs that espnet2's own `pack` makes and a server on 127.0.0.1."""

import io
import json
import zipfile

import pytest

import zoo
from tests.zoo.conftest import ESPNET_NAME as NAME
from tests.zoo.conftest import ESPNET_PATH as PATH
from tests.zoo.conftest import with_member
from zoo import cache, lock, manager
from zoo.errors import ModelError
from zoo.manager import Options


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_name_of_the_table_is_pulled_whole_and_untouched(known, asr, packs, boli, kind):
    known.files[PATH] = packs[kind]
    code, out, err = boli("zoo", "pull", NAME)
    assert (code, out.split()[0]) == (0, NAME), err
    entry = manager.find(NAME)
    assert entry.manifest.source == f"espnet:{NAME}"
    for name in ("exp/asr/config.yaml", "exp/asr/valid.acc.best.pth", "data/stats.npz"):
        assert (entry.folder / name).read_bytes() == (asr / name).read_bytes(), "espnet_model_zoo rewrites configs"
    assert set(entry.manifest.files) == {
        "meta.yaml", "exp/asr/config.yaml", "exp/asr/valid.acc.best.pth", "data/stats.npz",
    }  # fmt: skip
    assert boli("zoo", "verify")[0] == 0
    (row,) = json.loads(boli("zoo", "list", "--source", "espnet", "--pulled", "--json")[1])
    assert row["pulled"] == [entry.version]
    assert boli("zoo", "list", "--source", "espnet", "mini_an4")[1].splitlines()[1].endswith("pulled")
    asked = len(known.asked(PATH))
    assert manager.pull(NAME).folder == entry.folder
    assert len(known.asked(PATH)) == asked, "what is here is not asked for again"


def test_other_tasks_are_kept_and_not_loaded(known):
    entry = manager.pull(NAME)
    assert entry.card.family == "espnet"
    with pytest.raises(ModelError, match=r"no speech-to-text model: boli keeps it .*--task s2t") as refusal:
        zoo.load(NAME)
    advice = str(refusal.value).partition("To mend it: ")[2]
    assert advice.startswith(f"cd {entry.folder}  (")
    for part in advice.partition("reads ")[2].rstrip(")").split(", "):
        assert (entry.folder / part.partition("=")[2]).is_file()


def test_a_damaged_copy_is_mended(known, advised):
    entry = manager.pull(NAME)
    (entry.folder / "exp/asr/valid.acc.best.pth").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"is damaged: exp/asr/valid\.acc\.best\.pth") as refusal:
        manager.resolve(NAME)
    assert advised(str(refusal.value))[0] == 0
    assert not manager.find(NAME).damages(full=True)


def test_titles_that_are_no_names_of_the_cache(hub, table, packs, boli):
    title, name = "Shinji Watanabe/gst+xvector_asr", "Shinji-Watanabe/gst-xvector_asr"
    hub.files["/x.zip"] = packs["zip"]
    table(title, f"{hub.url}/x.zip")
    for written in (title, name, f"espnet:{title}", f"espnet:{name}"):
        assert boli("zoo", "pull", written)[0] == 0
        assert manager.resolve(name)[0].source == f"espnet:{name}"
        assert manager.resolve(title)[1] == manager.resolve(name)[1]
        assert json.loads(boli("zoo", "show", title, "--json")[1])["folder"] == str(manager.resolve(name)[1])
        manager.remove(name)
    assert boli("zoo", "pull", "mine", "--from", f"espnet:{title}")[0] == 0
    assert manager.find("mine").manifest.source == f"espnet:{name}"


def test_what_is_known_of_a_model_that_was_not_pulled(known, boli):
    shown = json.loads(boli("zoo", "show", NAME, "--json")[1])
    assert (shown["task"], shown["corpus"], shown["languages"], shown["pulled"]) == ("asr", "mini_an4", ["en"], "no")
    assert shown["url"].endswith("?download=1")
    assert "mini_an4" in boli("zoo", "show", NAME)[1]
    manager.pull(NAME)
    assert "exp/asr/config.yaml" in json.loads(boli("zoo", "show", NAME, "--json")[1])["files"]


def test_unknown_names_are_answered_with_close_ones(known, advised):
    with pytest.raises(ModelError, match=rf"knows no model called 'mini_an4.*close: {NAME}") as refusal:
        manager.pull("mine", Options(origin="espnet:mini_an4_asr_train_raw_bpe_valid.acc.best"))
    assert advised(str(refusal.value))[0] == 0
    manager.remove(NAME)
    with pytest.raises(ModelError, match=rf"{NAME} is not in the cache .*boli zoo pull {NAME}") as refusal:
        manager.resolve(NAME)
    assert advised(str(refusal.value))[0] == 0
    with pytest.raises(ModelError, match=r"is an archive, which has no revision 'v2'") as refusal:
        manager.pull(NAME, Options(revision="v2"))
    assert advised(str(refusal.value))[0] == 0


def test_repositories_of_the_hub(hub, table, asr, packs):
    """Rows without an archive, and names that the table has not: espnet_model_zoo takes them from the hub too."""
    folder = {path.relative_to(asr).as_posix(): path.read_bytes() for path in asr.rglob("*") if path.is_file()}
    folder.pop("exp/asr/hostile.pth")
    with zipfile.ZipFile(io.BytesIO(packs["zip"])) as archive:
        folder["meta.yaml"] = archive.read("meta.yaml")
    commit = hub.add("byan/asr", folder)
    table("byan/asr", "https://huggingface.co/")
    entry = manager.pull("byan/asr")
    assert (entry.manifest.source, entry.manifest.revision) == ("espnet:byan/asr", commit)
    assert set(folder) == set(entry.manifest.files)
    hub.add("someone/asr", folder)
    with pytest.raises(ModelError, match="pickled weights only"):
        manager.pull("someone/asr")
    assert manager.pull("espnet:someone/asr").name == "someone/asr"
    hub.add("someone/hostile", folder | {"exp/asr/valid.acc.best.pth": (asr / "exp/asr/hostile.pth").read_bytes()})
    with pytest.raises(ModelError, match="cannot be read as tensors alone"):
        manager.pull("espnet:someone/hostile")


def test_offline(known, packs, boli, monkeypatch, advised):
    monkeypatch.setenv("BOLI_OFFLINE", "1")
    with pytest.raises(ModelError, match=rf"needs the network, and BOLI_OFFLINE=1 forbids it.*boli zoo pull {NAME}"):
        manager.pull(NAME)
    assert known.requests == []
    monkeypatch.setenv("BOLI_OFFLINE", "0")
    manager.pull(NAME)
    asked = len(known.requests)
    monkeypatch.setenv("BOLI_OFFLINE", "1")
    manager.pull(NAME)
    manager.resolve(NAME)
    for command in (["list", "--source", "espnet"], ["show", NAME], ["verify"], ["lock"], ["lock", "--check"]):
        assert boli("zoo", *command)[0] == 0, command
    assert len(known.requests) == asked


def test_the_lock_pins_an_archive(known, packs, boli):
    entry = manager.pull(NAME)
    assert boli("zoo", "lock")[0] == 0
    assert lock.read()[NAME].source == f"espnet:{NAME}"
    manager.remove(NAME)
    known.files[PATH] = with_member(packs["zip"], "one-more.txt")
    with pytest.raises(ModelError, match=r"no longer gives what .*zoo\.lock pins"):
        manager.pull(NAME)
    known.files[PATH] = packs["tar.gz"]  # other bytes, the same files but for meta.yaml, which says when it was packed
    with pytest.raises(ModelError, match=r"no longer gives what .*pins: meta\.yaml"):
        manager.pull(NAME)
    known.files[PATH] = packs["zip"]
    assert manager.pull(NAME).version == entry.version


def test_speech_to_text_packs_load_by_name_and_by_path(known, s2t, tmp_path, monkeypatch, boli):
    known.files[PATH] = (s2t / "s2t.tar.gz").read_bytes()
    assert manager.pull(NAME).card.family == "owsm"
    by_name = zoo.load(NAME)
    archive = tmp_path / "s2t.zip"
    archive.write_bytes((s2t / "s2t.zip").read_bytes())
    by_path = zoo.load(str(archive))
    by_folder = zoo.load(str(s2t))
    assert by_name.weights_sha256 == by_path.weights_sha256 == by_folder.weights_sha256
    assert by_path.card.name.startswith("s2t-")
    monkeypatch.setenv("BOLI_OFFLINE", "1")
    name, folder = by_path.card.name, manager.resolve(str(archive))[1]
    read = []
    monkeypatch.setattr("zoo.checksum.sha256", lambda path: read.append(path))
    assert manager.resolve(str(archive))[1] == folder
    assert read == [], "an archive that did not change is not read again"
    monkeypatch.undo()
    monkeypatch.setenv("BOLI_HOME", str(folder.parents[2]))
    moved = archive.rename(tmp_path / "work" / "s2t.zip")
    monkeypatch.chdir(moved.parent)
    assert manager.resolve("s2t.zip")[1] == folder, "the same content is the same model"
    assert manager.resolve("./s2t.zip")[1] == folder
    assert boli("zoo", "gc")[1] == "Nothing to remove.\n"
    (folder / "meta.yaml").write_text("files: {}")
    assert manager.resolve("s2t.zip")[0].name == name
    assert not manager.find(name).damages(full=True), "a damaged copy is unpacked anew"
    moved.write_bytes(with_member(moved.read_bytes(), "one-more.txt"))
    assert manager.resolve("s2t.zip")[1] != folder, "another content is another model"


def test_files_that_are_no_archives(home, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    with pytest.raises(ModelError, match=r"notes\.txt is no archive that can be read"):
        zoo.load(str(file))
    assert not list(cache.entries())
