"""Archives from servers and disks that nobody vouches for."""

import gzip
import hashlib
import io
import os
import resource
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.zoo.conftest import model_files
from zoo import cache, manager
from zoo.errors import ModelError
from zoo.local_hub import Behaviour
from zoo.manager import Options


def tar(files: dict[str, bytes], compression: str = "gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for member in extra:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


def pull(hub, content: bytes, **options):
    hub.files["/m.archive"] = content
    return manager.pull("mine", Options(origin=f"{hub.url}/m.archive", **options))


def outside(tmp_path) -> set[str]:
    """Everything under tmp_path that is not in the cache."""
    return {str(path) for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "home")}


@pytest.mark.parametrize("inside", ["", "some/folder/"])
@pytest.mark.parametrize("pack", [tar, zipped, lambda f: tar(f, "bz2"), lambda f: tar(f, "xz"), lambda f: tar(f, "")])
def test_every_kind_of_archive_is_unpacked(hub, pack, inside):
    files = model_files()
    entry = pull(hub, pack({inside + name: data for name, data in files.items()}))
    assert {name: (entry.folder / name).read_bytes() for name in entry.manifest.files} == files
    assert entry.version.startswith("sha256-")
    assert manager.resolve("mine")[0].source == f"{hub.url}/m.archive"


def test_the_same_content_twice_is_one_version(hub):
    first = pull(hub, tar(model_files()))
    second = pull(hub, tar(model_files(), "xz"), update=True)
    assert first.version == second.version
    third = pull(hub, tar(model_files(1)), update=True)
    assert third.version != first.version
    assert manager.resolve("mine")[1] == third.folder


@pytest.mark.parametrize("how", ["option", "fragment"])
def test_a_given_sha256_is_held_and_the_advice_accepts_the_other(hub, boli, advised, how):
    content = tar(model_files())
    hub.files["/m.archive"] = content
    wrong = "0" * 64
    origin = f"{hub.url}/m.archive" + (f"#sha256:{wrong}" if how == "fragment" else "")
    with pytest.raises(
        ModelError, match=rf"has sha256 {hashlib.sha256(content).hexdigest()}. Valid: {wrong}"
    ) as refusal:
        manager.pull("mine", Options(origin=origin, sha256=wrong if how == "option" else ""))
    assert manager.find("mine") is None
    assert advised(str(refusal.value))[0] == 0
    assert manager.find("mine") is not None
    with pytest.raises(ModelError, match=r"'12' is no sha256. Valid: 64 hexadecimal digits"):
        manager.pull("mine", Options(origin=f"{hub.url}/m.archive", sha256="12", update=True))


def test_a_broken_download_of_an_archive_goes_on(hub):
    content = tar(model_files(n_bytes=400_000))
    hub.behaviours["/m.archive"] = Behaviour(cut_bytes=150_000)
    pull(hub, content)
    assert [r for r in hub.asked("/m.archive")] == ["", "bytes=150000-", "bytes=300000-"]


def test_an_archive_that_changes_between_two_requests_is_not_joined(hub):
    """If-Range: the server sends the new one whole, and only that is kept."""
    old, new = tar(model_files(0), ""), tar(model_files(1), "")
    hub.files["/m.archive"] = old
    hub.behaviours["/m.archive"] = Behaviour(cut_bytes=90_000, cuts=1)

    class Swap:
        def start(self, label, total, done=0):
            pass

        def advance(self, n_bytes):
            pass

        def say(self, text):
            hub.files["/m.archive"] = new

    entry = manager.pull("mine", Options(origin=f"{hub.url}/m.archive"), Swap())
    assert (entry.folder / "model.safetensors").read_bytes() == model_files(1)["model.safetensors"]
    assert hub.asked("/m.archive") == ["", "bytes=90000-"]


def test_without_a_validator_and_without_sha256_nothing_is_joined(hub):
    content = tar(model_files())
    hub.behaviours["/m.archive"] = Behaviour(cut_bytes=90_000, cuts=1, validator=False)
    pull(hub, content)
    assert hub.asked("/m.archive") == ["", ""]
    manager.remove("mine")
    hub.requests.clear()
    hub.behaviours["/m.archive"] = Behaviour(cut_bytes=90_000, cuts=1, validator=False)
    pull(hub, content, sha256=hashlib.sha256(content).hexdigest())
    assert hub.asked("/m.archive") == ["", "bytes=90000-"]


def test_redirects_are_followed_and_circles_are_not(hub):
    hub.files["/real"] = tar(model_files())
    hub.behaviours["/m.archive"] = Behaviour(redirect="/real")
    assert pull(hub, b"").manifest.source.endswith("/m.archive")
    hub.behaviours["/a"], hub.behaviours["/b"] = Behaviour(redirect="/b"), Behaviour(redirect="/a")
    with pytest.raises(ModelError, match=r"redirects in a circle.*curl -IL"):
        manager.pull("other", Options(origin=f"{hub.url}/a"))


@pytest.mark.parametrize("address", ["http://[bad/x.tar", "http:/x.tar", "http://127.0.0.1:99999/x.tar"])
def test_an_address_that_is_none(home, online, address):
    with pytest.raises(ModelError, match=r"is no address|cannot be reached|missing an 'http|names no"):
        manager.pull("mine", Options(origin=address))


def test_a_redirect_to_what_is_no_address(hub):
    hub.behaviours["/m.archive"] = Behaviour(redirect="http://[bad/")
    with pytest.raises(ModelError, match=r"boli zoo pull mine"):
        pull(hub, b"")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "does not exist .HTTP 404.*curl -IL http"),
        (410, "does not exist .HTTP 410"),
        (403, "may not be read .HTTP 403.*hf auth login"),
        (418, "was answered with HTTP 418. Valid: HTTP 200"),
        (500, "HTTP 500, 5 times in a row.*it goes on where it stopped"),
    ],
)
def test_what_a_server_refuses_is_said(hub, status, message):
    hub.behaviours["/m.archive"] = Behaviour(statuses=(status,) * 9)
    with pytest.raises(ModelError, match=message):
        pull(hub, tar(model_files()))
    hub.behaviours.clear()
    pull(hub, tar(model_files()))


LINKS = {
    "symlink": member("model.safetensors", tarfile.SYMTYPE, "/etc/passwd"),
    "symlink inside": member("a", tarfile.SYMTYPE, "config.json"),
    "hard link": member("a", tarfile.LNKTYPE, "/etc/passwd"),
    "fifo": member("a", tarfile.FIFOTYPE),
    "device": member("a", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_and_devices_are_refused_and_the_advice_packs_plain_files(hub, tmp_path, kind):
    before = outside(tmp_path)
    with pytest.raises(ModelError, match=r"which is a link, a device or a sparse file.*tar -C FOLDER -czf") as refusal:
        pull(hub, tar(model_files(), extra=(LINKS[kind],)))
    assert outside(tmp_path) == before
    advice = str(refusal.value).partition("anew: ")[2].replace("FOLDER", str(tmp_path / "folder"))
    for name, data in model_files().items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    assert os.system(advice) == 0
    pull(hub, Path("model.tar.gz").read_bytes())


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/boli-evil", "..\\evil", "C:/evil", "a/.."])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_names_outside_are_refused(hub, tmp_path, pack, name):
    before = outside(tmp_path)
    with pytest.raises(ModelError, match=r"which lies outside the archive's own folder"):
        pull(hub, pack(model_files() | {name: b"x"}))
    assert outside(tmp_path) == before
    assert not os.path.exists("/tmp/boli-evil")


def test_a_link_in_a_zip_is_refused(hub):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("model.safetensors")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelError, match=r"'model.safetensors', which is a link or a device"):
        pull(hub, buffer.getvalue())


def test_two_files_of_one_name_are_refused(hub):
    files = model_files()
    with pytest.raises(ModelError, match=r"two files called"):
        pull(hub, tar(files, extra=(member("CONFIG.json", size=3),)))


def test_a_bomb_that_tells_its_size_is_refused_before_it_is_unpacked(hub, advised):
    huge = zipped({"model.safetensors": bytes(100 << 20)})
    assert len(huge) < 200_000
    with pytest.raises(
        ModelError, match=r"unpacks to 104,857,600 bytes or more, which is more than its own size allows"
    ):
        pull(hub, huge)
    assert cache.size(cache.home()) < 1 << 20
    with pytest.raises(ModelError, match=r"unpacks to 104,857,600 bytes"):
        pull(hub, tar({"model.safetensors": bytes(100 << 20)}))


def test_a_zip_that_lies_about_its_size_is_stopped(hub):
    content = bytearray(zipped({"config.json": bytes(1 << 20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        struct.pack_into("<I", content, at, 10)
    with pytest.raises(ModelError, match=r"more than the 10 bytes|damaged"):
        pull(hub, bytes(content))
    assert cache.size(cache.home()) < 100_000


def test_a_bomb_in_the_headers_of_a_tar_is_stopped(hub):
    """tarfile reads a pax header whole, before anyone sees a member: the stream under it has to count."""
    n_bytes = 300 << 20
    header = member("pax", tarfile.XHDTYPE, size=n_bytes).tobuf(tarfile.USTAR_FORMAT)
    compress = zlib.compressobj(9, wbits=31)
    content = compress.compress(header)
    for _ in range(n_bytes >> 20):
        content += compress.compress(bytes(1 << 20))
    content += compress.flush()
    assert len(content) < 1 << 20
    with pytest.raises(ModelError, match=r"which is more than its own size allows"):
        pull(hub, content)


def test_too_many_files_are_refused(hub, monkeypatch):
    monkeypatch.setattr("zoo.sources.unpack.MAX_FILES", 10)
    with pytest.raises(ModelError, match=r"more than 10 files"):
        pull(hub, tar({f"f{i}": b"" for i in range(11)}))


DAMAGED = {
    "no archive": b"<html>not found</html>",
    "empty": b"",
    "a truncated gzip": tar(model_files())[:-2000],
    "a truncated tar": tar(model_files(), "")[:120_000],
    "a tar cut between two members": tar(model_files(), "")[:1024],
    "a truncated zip": zipped(model_files())[:-2000],
    "a flipped bit": (lambda c: c[:9000] + bytes([c[9000] ^ 4]) + c[9001:])(gzip.compress(tar(model_files(), ""), 0)),
    "nothing inside": tar({}),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives_are_refused(hub, kind):
    with pytest.raises(ModelError, match=r"no archive that can be read, or it is damaged|it holds no files"):
        pull(hub, DAMAGED[kind])
    assert manager.find("mine") is None
    pull(hub, tar(model_files()))  # what was downloaded of the damaged one is not gone on with


def test_an_encrypted_zip_is_refused(hub):
    content = bytearray(zipped(model_files()))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(ModelError, match=r"which is encrypted. Valid: an archive without a password"):
        pull(hub, bytes(content))


def test_pickles_beside_safetensors_are_left_out_and_hidden_ones_found(hub, tmp_path):
    import pickle

    entry = pull(hub, tar(model_files() | {"pytorch_model.bin": b"x", "training_args": pickle.dumps([1])}))
    assert set(entry.manifest.files) == set(model_files())
    files = model_files()
    del files["model.safetensors"]
    with pytest.raises(ModelError, match=r"pickled weights only \(weights\): reading them can run any code"):
        pull(hub, tar(files | {"weights": pickle.dumps([1])}), update=True)


def test_a_truncated_safetensors_file_is_refused(hub):
    files = model_files()
    files["model.safetensors"] = files["model.safetensors"][:-1]
    with pytest.raises(ModelError, match=r"no whole safetensors file .* where its header announces"):
        pull(hub, tar(files))
    files["model.safetensors"] = b"\x80\x02}."
    with pytest.raises(ModelError, match=r"no whole safetensors file"):
        pull(hub, tar(files), update=True)


def test_files_that_no_family_knows_are_refused(hub):
    with pytest.raises(
        ModelError, match=r"No family knows the files of http.*\(readme\).*Valid: a model of espnet, owsm, whisper"
    ):
        pull(hub, tar({"folder/readme": b"x"}))


def test_a_local_archive(home, tmp_path, boli):
    (tmp_path / "my model.tar.gz").write_bytes(tar(model_files()))
    for origin in (str(tmp_path / "my model.tar.gz"), f"file://{tmp_path}/my%20model.tar.gz"):
        assert boli("zoo", "pull", "mine", "--from", origin, "--update")[0] == 0
    assert manager.resolve("mine")[0].family == "whisper"
    with pytest.raises(ModelError, match=r"does not exist. Valid: an archive on this machine"):
        manager.pull("other", Options(origin="file:/nowhere/x.tar"))
    with pytest.raises(
        ModelError, match=rf"is a folder. Valid: an archive. To mend it: boli zoo pull other --from {tmp_path}"
    ):
        manager.pull("other", Options(origin=f"file:{tmp_path}"))


@pytest.fixture
def file_limit():
    """No file may grow beyond this: what a full disk looks like to one process."""

    def limit(n_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_during_the_download_and_room_made_by_the_advice(hub, file_limit, advised):
    content = tar(model_files(n_bytes=400_000), "")
    file_limit(150_000)
    with pytest.raises(ModelError, match=r"The disk is too full for mine: .*boli zoo gc --all") as refusal:
        pull(hub, content)
    assert cache.size(cache.home() / "staging") >= 100_000, "what came is kept, to go on from"
    code, out, _ = advised(str(refusal.value))
    assert code == 0
    assert "freed" in out
    assert cache.size(cache.home() / "staging") == 0
    file_limit(resource.RLIM_INFINITY)
    pull(hub, content)


def test_a_full_disk_while_unpacking(hub, file_limit):
    content = tar(model_files(n_bytes=1_000) | {"zeros": bytes(900_000)})
    file_limit(100_000)
    with pytest.raises(ModelError, match=r"The disk is too full for mine: .*while unpacking"):
        pull(hub, content)
    file_limit(resource.RLIM_INFINITY)
    pull(hub, content)


def test_a_download_that_cannot_fit_is_not_begun(hub, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(ModelError, match=r"it needs [\d,]+ bytes more and .* has 1,000 free"):
        pull(hub, tar(model_files()))
    hub.add("a/b", model_files())
    with pytest.raises(ModelError, match=r"it needs [\d,]+ bytes more"):
        manager.pull("a/b")


def test_the_advice_for_a_folder_of_pickles(home, tmp_path, boli, monkeypatch):
    import shlex
    import subprocess
    import sys

    import torch

    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes(model_files()["config.json"])
    torch.save({"w": torch.arange(3.0)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"mine has pickled weights only \(pytorch_model.bin\)") as refusal:
        manager.pull("mine", Options(origin=str(folder)))
    convert, pull_again = str(refusal.value).partition("if you trust it: ")[2].rsplit(" && ", 1)
    convert = convert.replace("python -c", f"{sys.executable} -c")
    subprocess.run(convert, shell=True, check=True)
    monkeypatch.chdir(folder)
    assert boli(*shlex.split(pull_again)[1:])[0] == 0
    assert set(manager.find("mine").manifest.files) == {"config.json", "model.safetensors"}


def test_names_that_no_disk_takes_are_refused(hub):
    with pytest.raises(ModelError, match=r"a file name of 300 characters. Valid: at most 255 for each part"):
        pull(hub, tar(model_files() | {"a" * 300: b""}))
