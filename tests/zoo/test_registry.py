"""Families register through one hook that third parties can use; a name is taken once."""

import os
import subprocess
import sys

import pytest

from zoo import manager, registry
from zoo.errors import ModelError

FAMILY = """
from zoo.card import Card


class Family:
    name = "parrot"
    verifies_pickles = True

    def matches(self, folder):
        return (folder / "parrot.txt").is_file()

    def card(self, folder, name):
        return Card(name=name, family="parrot")

    def load(self, folder, card, *, device, dtype, context, tap, quantize):
        return (folder / "parrot.txt").read_text(), card.name, device, dtype, context, tap, quantize


family = Family()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution that announces an entry point: what pip would leave behind."""

    def make(name: str, value: str, distribution: str = "parrots") -> None:
        site = tmp_path / f"site-{distribution}"
        information = site / f"{distribution}-1.0.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[boli.families]\n{name} = {value}\n")
        (site / "parrots.py").write_text(FAMILY)
        monkeypatch.syspath_prepend(str(site))

    yield make
    sys.modules.pop("parrots", None)


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "polly"
    found.mkdir()
    (found / "parrot.txt").write_text("hello")
    (found / "weights.pth").write_bytes(b"x")
    return found


def test_a_third_party_family_is_loaded_pulled_and_listed(home, install, folder, boli):
    install("parrot", "parrots:family")
    import zoo

    assert isinstance(registry.family("parrot"), registry.Family)
    expected = ("hello", str(folder), "cpu", "float32", None, None, None)
    assert zoo.load(str(folder)) == expected
    assert boli("zoo", "pull", "polly", "--from", str(folder))[0] == 0
    assert zoo.load("polly", context="dynamic", tap=2)[:2] == ("hello", "polly")
    assert set(manager.find("polly").manifest.files) == {"parrot.txt", "weights.pth"}, "it verifies pickles itself"
    assert "parrots:family" in boli("zoo", "list", "--families")[1]
    assert "No family is called" not in boli("zoo", "show", "polly")[1]


def test_pickles_come_from_a_hub_where_the_family_verifies_them(install, hub):
    install("parrot", "parrots:family")
    hub.add("someone/parrot", {"parrot.txt": b"hello", "weights.pth": b"x"})
    with pytest.raises(ModelError, match=r"pickled weights only .*`boli zoo pull --family`"):
        manager.pull("someone/parrot")
    entry = manager.pull("someone/parrot", manager.Options(family="parrot"))
    assert set(entry.manifest.files) == {"parrot.txt", "weights.pth"}


def test_one_name_and_two_objects_is_refused(install, boli):
    install("whisper", "parrots:family")
    with pytest.raises(
        ModelError, match=r"Family 'whisper' is registered twice: as zoo.whisper_family:family and as parrots:family"
    ) as r:
        registry.targets()
    assert str(r.value).endswith("To mend it: pip uninstall parrots")


def test_the_same_object_announced_twice_is_one_family(install):
    install("whisper", registry.BUILTIN["whisper"])
    assert registry.targets()["whisper"] == registry.BUILTIN["whisper"]


def test_an_unknown_family_names_the_known(advised):
    with pytest.raises(ModelError, match=r"No family is called 'wav2vec'. Valid: .*whisper") as refusal:
        registry.family("wav2vec")
    code, out, _ = advised(str(refusal.value))
    assert code == 0
    assert "zoo.whisper_family:family" in out


@pytest.mark.parametrize("value", ["no_such_module:family", "parrots:nothing"])
def test_a_family_that_cannot_be_imported_shows_why_by_the_advice(install, value, tmp_path):
    install("parrot", value)
    with pytest.raises(ModelError, match=rf"registered as {value}, which cannot be imported") as refusal:
        registry.family("parrot")
    advice = str(refusal.value).partition("To mend it: ")[2].partition("  (")[0].replace("python", sys.executable, 1)
    shown = subprocess.run(advice, shell=True, capture_output=True, text=True, cwd=tmp_path)
    if "no_such" in value:
        assert "ModuleNotFoundError" in shown.stderr


def test_a_folder_that_two_families_claim(install, folder, advised, home):
    install("parrot", "parrots:family")
    (folder / "config.json").write_text('{"model_type": "whisper", "encoder_layers": 2}')
    with pytest.raises(
        ModelError, match=r"is claimed by several families: parrot, whisper.*--family parrot"
    ) as refusal:
        manager.resolve(str(folder))
    assert advised(str(refusal.value))[0] == 0
    assert manager.resolve("polly")[0].family == "parrot"


def test_the_built_in_families_are_announced_in_the_project_file_too():
    import tomllib

    project = tomllib.loads((manager.CARDS.parent.parent / "pyproject.toml").read_text())
    announced = project["project"]["entry-points"][registry.GROUP]
    assert announced == registry.BUILTIN


def test_the_rooms_run_from_a_clone_that_was_never_installed(home):
    root = str(manager.CARDS.parent.parent)
    call = [sys.executable, "-m", "zoo", "list", "--families"]
    shown = subprocess.run(call, cwd=root, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "whisper" in shown.stdout


def test_a_card_is_not_given_to_files_of_another_family(home, install, folder, advised):
    install("parrot", "parrots:family")
    (folder / "weights.pth").unlink()
    with pytest.raises(ModelError, match=r"is no model of the family 'whisper'. Valid: .*parrot") as refusal:
        manager.pull("openai/whisper-tiny", manager.Options(origin=str(folder)))
    assert advised(str(refusal.value))[0] == 0
    assert manager.resolve("polly-copy")[0].family == "parrot"
