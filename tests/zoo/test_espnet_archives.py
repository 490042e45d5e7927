"""Archives of ESPnet packs from a server that breaks off, lies or is hostile."""

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.zoo.conftest import ESPNET_NAME as NAME
from tests.zoo.conftest import ESPNET_PATH as PATH
from tests.zoo.conftest import Runs, with_member
from zoo import cache, manager, pickles
from zoo.errors import ModelError
from zoo.local_hub import Behaviour
from zoo.manager import Options
from zoo.sources import download, espnet, espnet_table

RECORD = "/api/records/3957940"


def record(content: bytes, **changes) -> bytes:
    """What Zenodo tells of the record."""
    file = {"key": Path(PATH).name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
    return json.dumps({"id": 3957940, "files": [{"key": "README", "size": 3}, file | changes]}).encode()


def test_the_record_of_the_archive_tells_size_and_checksum(known, packs, advised):
    content = packs["zip"]
    known.files[RECORD] = record(content, checksum=f"md5:{'0' * 32}")
    with pytest.raises(ModelError, match=rf"downloaded twice and its MD5 is .*Valid: {'0' * 32}, as its server") as bad:
        manager.pull(NAME)
    assert len(known.asked(PATH)) == 2
    assert manager.find(NAME) is None
    known.files[RECORD] = record(content, size=len(content) + 1)
    with pytest.raises(ModelError, match=rf"has {len(content):,} bytes; {len(content) + 1:,} were announced"):
        manager.pull(NAME)
    known.files[RECORD] = record(content)
    assert advised(str(bad.value))[0] == 0
    assert manager.find(NAME) is not None


def test_a_checksum_in_the_head_of_the_answer_and_in_the_table(hub, table, packs, monkeypatch):
    content = packs["zip"]
    md5, sha256 = hashlib.md5(content), hashlib.sha256(content).hexdigest()
    hub.files["/x.zip"] = content
    for header in (base64.b64encode(md5.digest()).decode(), md5.hexdigest(), "nonsense", ""):
        hub.behaviours["/x.zip"] = Behaviour(headers=(("Content-MD5", header),))
        table("a/b", f"{hub.url}/x.zip")
        manager.pull("a/b")
        manager.remove("a/b")
    hub.behaviours["/x.zip"] = Behaviour(headers=(("Content-MD5", "0" * 32),))
    with pytest.raises(ModelError, match=r"downloaded twice and its MD5"):
        manager.pull("a/b")
    assert espnet._content_md5("AAAA") == ""
    for column, right in (("md5", md5.hexdigest()), ("sha256", sha256)):
        own = cache.home().parent / f"{column}.csv"
        for digest in (right, right[:-1] + ("0" if right[-1] != "0" else "1")):
            own.write_text(f"corpus,task,name,url,fs,lang,{column}\n,asr,a/b,{hub.url}/x.zip,,,{digest}\n")
            monkeypatch.setenv(espnet_table.VARIABLE, str(own))
            hub.behaviours["/x.zip"] = Behaviour()
            os.utime(own, ns=(ord(digest[-1]),) * 2)
            if digest == right:
                manager.pull("a/b")
                manager.remove("a/b")
            else:
                with pytest.raises(ModelError, match=right[:-1]):
                    manager.pull("a/b")


def test_what_a_record_may_look_like():
    named = {"filename": "m.zip", "filesize": 7, "checksum": "ab" * 16}
    assert espnet._listed({"files": [named]}, "m.zip") == espnet.Announced("ab" * 16, 7)
    assert espnet._listed({"files": [{"key": "m.zip", "checksum": "sha512:x"}]}, "m.zip") == espnet.Announced()
    for answer in ([], None, {"files": None}, {"files": [1]}, {"files": [{"key": "other"}]}):
        assert espnet._listed(answer, "m.zip") is None


def test_a_transfer_that_is_cut_goes_on_within_the_file(known, packs):
    known.files[RECORD] = record(packs["zip"])
    known.behaviours[PATH] = Behaviour(cut_bytes=60_000)
    entry = manager.pull(NAME)
    assert not entry.damages(full=True)
    ranges = known.asked(PATH)
    assert ranges[:3] == ["", "bytes=60000-", "bytes=120000-"]


def test_a_pull_that_was_given_up_goes_on_in_the_next(known, monkeypatch, advised):
    """The connection is cut, and then the server is gone."""
    known.behaviours[PATH] = Behaviour(cut_bytes=100_000, cuts=1)
    attempt, attempts = download._attempt, []

    def then_gone(*arguments):
        attempts.append(1)
        if len(attempts) > 1:
            raise download._Retry("the server is gone")
        attempt(*arguments)

    with monkeypatch.context() as gone:
        gone.setattr(download, "_attempt", then_gone)
        with pytest.raises(
            ModelError, match=r"the server is gone, 5 times in a row; 100,000 bytes are kept"
        ) as refusal:
            manager.pull(NAME)
    assert advised(str(refusal.value))[0] == 0
    assert known.asked(PATH)[-1] == "bytes=100000-"
    assert not manager.find(NAME).damages(full=True)


@pytest.mark.parametrize("told", [True, False])
def test_an_end_that_comes_too_soon_is_noticed(known, packs, told):
    """The server closes without having said how long the answer is."""
    if told:
        known.files[RECORD] = record(packs["zip"])
    known.behaviours[PATH] = Behaviour(length=False, cut_bytes=150_000, cuts=1)
    if told:
        assert not manager.pull(NAME).damages(full=True)
        return
    with pytest.raises(ModelError, match=r"is no archive that can be read, or it is damaged"):
        manager.pull(NAME)
    assert manager.find(NAME) is None
    assert not manager.pull(NAME).damages(full=True), "nothing is left of the damaged one"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_damaged_archive_is_not_kept(known, packs, kind):
    content = bytearray(packs[kind])
    content[len(content) // 2] ^= 255
    known.files[PATH] = bytes(content)
    with pytest.raises(ModelError, match=r"damaged|cannot be read as tensors"):
        manager.pull(NAME)
    assert manager.find(NAME) is None
    known.files[PATH] = packs[kind]
    assert not manager.pull(NAME).damages(full=True)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(("name", "link"), [("../../escaped", ""), ("exp/../../escaped", ""), ("exp/x", "/etc/passwd")])
def test_members_that_leave_the_folder_are_refused(known, packs, tmp_path, kind, name, link):
    known.files[PATH] = with_member(packs[kind], name, link)
    with pytest.raises(ModelError, match=r"is refused: it holds .*(lies outside|which is a link)"):
        manager.pull(NAME)
    assert manager.find(NAME) is None
    assert not [path for path in tmp_path.rglob("*") if path.name in ("escaped", "x")]


def test_a_checkpoint_that_runs_code_is_refused_and_not_run(known, packs, tmp_path):
    known.files[PATH] = packs["hostile"]
    for options in (Options(), Options(origin=str(tmp_path / "hostile.zip"))):
        (tmp_path / "hostile.zip").write_bytes(packs["hostile"])
        with pytest.raises(ModelError, match=r"hostile\.pth of .* cannot be read as tensors alone: .*mkdir"):
            manager.pull(NAME, options)
    assert manager.find(NAME) is None
    assert not Path("was-run").exists()


def test_checkpoints_of_older_torch(tmp_path, asr):
    """Until 1.5 torch wrote no zip; most archives at Zenodo are of that time."""
    import torch

    right, hostile = tmp_path / "right.pth", tmp_path / "hostile.pth"
    torch.save(torch.load(asr / "exp/asr/valid.acc.best.pth"), right, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(right)
    pickles.check_tensors(right, "mine")
    torch.save({"w": Runs()}, hostile, _use_new_zipfile_serialization=False)
    (tmp_path / "noise.pth").write_bytes(b"noise")
    for path in (hostile, tmp_path / "noise.pth"):
        with pytest.raises(ModelError, match=rf"{path.name} of mine cannot be read as tensors alone"):
            pickles.check_tensors(path, "mine")
    assert not Path("was-run").exists()


def test_a_file_that_the_pack_names_is_missing(known, asr, tmp_path):
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        meta = b"files: {asr_model_file: exp/gone.pth}\nyaml_files: {asr_train_config: exp/asr/config.yaml}\n"
        member = tarfile.TarInfo("meta.yaml")
        member.size = len(meta)
        archive.addfile(member, io.BytesIO(meta))
        archive.add(asr / "exp/asr/config.yaml", "exp/asr/config.yaml")
    known.files[PATH] = (tmp_path / "m.tar").read_bytes()
    with pytest.raises(ModelError, match=r"needs exp/gone\.pth, which is not in"):
        manager.pull(NAME)
    assert manager.find(NAME) is None


def test_processes_that_pull_at_once_download_once(known, packs):
    known.behaviours[PATH] = Behaviour(wait_s=0.3)
    environment = os.environ | {"PYTHONPATH": str(manager.CARDS.parent.parent)}
    call = [sys.executable, "-m", "zoo", "pull", NAME, "--json"]
    running = [subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert known.asked(PATH).count("") - known.requests.count(("HEAD", PATH, "")) == 1, "downloaded once"
    assert not manager.find(NAME).damages(full=True)
