"""Pulling from a hub: pinned, resumed within a file, and refused where it is not what it should be."""

import hashlib
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.zoo.conftest import model_files
from zoo import cache, manager
from zoo.errors import ModelError
from zoo.local_hub import Behaviour
from zoo.manager import Options
from zoo.progress import Silent

NAME = "someone/whisper-odd"


def cdn(content: bytes) -> str:
    return f"/cdn/{hashlib.sha256(content).hexdigest()}"


def content_of(entry):
    return {name: (entry.folder / name).read_bytes() for name in entry.manifest.files}


def test_pull_brings_exactly_one_commit_and_records_every_sha256(hub):
    files = model_files()
    commit = hub.add(NAME, files)
    entry = manager.pull(NAME)
    assert entry.version == commit
    assert content_of(entry) == files
    assert entry.manifest.files == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert entry.card.family == "whisper"
    assert entry.card.n_layers == 2
    card, folder = manager.resolve(NAME)
    assert (card.revision, folder) == (commit, entry.folder)
    assert not list((cache.home() / "staging").iterdir())


def test_what_other_frameworks_need_and_pickles_are_not_fetched(hub):
    hub.add(NAME, model_files() | {"pytorch_model.bin": b"\x80\x02x", "flax_model.msgpack": b"x", "run.py": b"x"})
    assert set(manager.pull(NAME).manifest.files) == set(model_files())


def test_a_second_pull_asks_the_hub_nothing(hub):
    hub.add(NAME, model_files())
    manager.pull(NAME)
    hub.requests.clear()
    manager.pull(NAME)
    assert hub.requests == []


def test_update_brings_what_the_branch_points_at_now(hub):
    first = hub.add(NAME, model_files(0))
    manager.pull(NAME)
    second = hub.add(NAME, model_files(1))
    assert manager.pull(NAME).version == first
    assert manager.pull(NAME, Options(update=True)).version == second
    assert manager.resolve(NAME)[0].revision == second
    assert manager.resolve(f"{NAME}@{first[:10]}")[0].revision == first


def test_a_revision_is_pulled_and_loaded_by_its_name(hub):
    first = hub.add(NAME, model_files(0), branch="v1")
    hub.add(NAME, model_files(1))
    assert manager.pull(f"{NAME}@v1").version == first
    assert manager.resolve(f"{NAME}@v1")[0].revision == first


@pytest.mark.parametrize("validator", [True, False])
def test_a_broken_download_goes_on_within_the_file(hub, validator):
    files = model_files()
    weights = files["model.safetensors"]
    hub.add(NAME, files)
    hub.behaviours[cdn(weights)] = Behaviour(cut_bytes=60_000, validator=validator)
    entry = manager.pull(NAME)
    assert content_of(entry) == files
    starts = [int(ranges.removeprefix("bytes=").rstrip("-") or 0) for ranges in hub.asked(cdn(weights))]
    assert starts[0] == 0
    assert starts == sorted(set(starts)), "every request goes on where the last one stopped"
    assert len(starts) >= 3


def test_an_interrupted_pull_goes_on_in_the_next_one(hub):
    class Interrupted(Silent):
        left = 100_000

        def advance(self, n_bytes):
            self.left -= n_bytes
            if self.left < 0:
                raise KeyboardInterrupt

    files = model_files()
    hub.add(NAME, files)
    hub.behaviours[cdn(files["model.safetensors"])] = Behaviour(block_pause_s=0.001)
    with pytest.raises(KeyboardInterrupt):
        manager.pull(NAME, progress=Interrupted())
    assert manager.find(NAME) is None
    hub.requests.clear()
    assert content_of(manager.pull(NAME)) == files
    (ranges,) = hub.asked(cdn(files["model.safetensors"]))
    assert ranges.startswith("bytes=")
    assert not hub.asked(f"/{NAME}/resolve/{hub.repositories[NAME].branches['main']}/config.json")


def test_a_server_without_ranges_gives_the_whole_again(hub):
    files = model_files()
    hub.add(NAME, files)
    hub.behaviours[cdn(files["model.safetensors"])] = Behaviour(ranges=False, cut_bytes=60_000, cuts=2)
    assert content_of(manager.pull(NAME)) == files


def test_a_body_without_length_that_stops_short_is_noticed(hub):
    files = model_files()
    hub.add(NAME, files)
    hub.behaviours[cdn(files["model.safetensors"])] = Behaviour(length=False, cut_bytes=60_000, cuts=1)
    assert content_of(manager.pull(NAME)) == files


def test_a_server_that_never_finishes_is_given_up_and_the_advice_goes_on(hub, advised):
    files = model_files()
    weights = cdn(files["model.safetensors"])
    hub.add(NAME, files)
    hub.behaviours[weights] = Behaviour(statuses=(503,) * 20)
    with pytest.raises(ModelError, match=r"HTTP 503, 5 times in a row; 0 bytes are kept.*boli zoo pull") as refusal:
        manager.pull(NAME)
    hub.behaviours.clear()
    assert advised(str(refusal.value))[0] == 0
    assert manager.find(NAME) is not None


def test_a_few_errors_of_the_server_are_outlived(hub):
    files = model_files()
    hub.add(NAME, files)
    hub.behaviours[cdn(files["model.safetensors"])] = Behaviour(statuses=(500, 503, 429))
    hub.behaviours[f"/api/models/{NAME}"] = Behaviour(statuses=(502,))
    started = time.monotonic()
    assert content_of(manager.pull(NAME)) == files
    assert time.monotonic() - started >= 1.0, "Retry-After is kept to"


def test_a_server_that_stalls_in_the_middle_is_asked_for_the_rest(hub, monkeypatch):
    monkeypatch.setenv("BOLI_TIMEOUT_S", "0.2")
    files = model_files()
    weights = cdn(files["model.safetensors"])
    hub.add(NAME, files)
    hub.behaviours[weights] = Behaviour(stall_s=0.5)
    assert content_of(manager.pull(NAME)) == files
    assert len(hub.asked(weights)) == 2


def test_a_server_that_does_not_answer_is_given_up(hub, monkeypatch, advised):
    monkeypatch.setenv("BOLI_TIMEOUT_S", "0.1")
    monkeypatch.setattr("zoo.network.RETRIES", 1)
    files = model_files()
    hub.add(NAME, files)
    hub.behaviours[cdn(files["model.safetensors"])] = Behaviour(wait_s=0.4)
    with pytest.raises(ModelError, match=r"no answer for 0\.1 s, 2 times in a row") as refusal:
        manager.pull(NAME)
    hub.behaviours.clear()
    monkeypatch.setenv("BOLI_TIMEOUT_S", "30")
    assert advised(str(refusal.value))[0] == 0
    monkeypatch.setenv("BOLI_TIMEOUT_S", "soon")
    with pytest.raises(ModelError, match=r"BOLI_TIMEOUT_S is 'soon'.*export BOLI_TIMEOUT_S=30"):
        manager.pull(NAME, Options(update=True))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_wrong_content_is_tried_twice_and_never_kept(hub, name):
    files = model_files()
    commit = hub.add(NAME, files)
    wrong = bytes([files[name][0] ^ 1]) + files[name][1:]
    path = cdn(files[name]) if len(files[name]) > hub.large_bytes else f"/{NAME}/resolve/{commit}/{name}"
    hub.behaviours[path] = Behaviour(redirect="/wrong")
    hub.files["/wrong"] = wrong
    with pytest.raises(ModelError, match=r"downloaded twice and its checksum is .* Valid: [0-9a-f]{40,64}, as the hub"):
        manager.pull(NAME)
    assert len(hub.asked("/wrong")) == 2
    assert manager.find(NAME) is None
    hub.behaviours.clear()
    assert content_of(manager.pull(NAME)) == files


def test_a_file_of_another_length_is_refused(hub, advised):
    files = model_files()
    hub.add(NAME, files)
    weights = cdn(files["model.safetensors"])
    hub.behaviours[weights] = Behaviour(redirect="/longer")
    hub.files["/longer"] = files["model.safetensors"] + b"x"
    with pytest.raises(ModelError, match=r"has 200,[0-9]{3} bytes; 200,[0-9]{3} were announced") as refusal:
        manager.pull(NAME)
    hub.behaviours.clear()
    assert advised(str(refusal.value))[0] == 0


def test_unknown_model_revision_and_gated_model(hub, boli, advised):
    with pytest.raises(ModelError, match=r"There is no model 'someone/nothing' at .*boli zoo list") as refusal:
        manager.pull("someone/nothing")
    assert advised(str(refusal.value))[0] == 0
    commit = hub.add(NAME, model_files())
    with pytest.raises(ModelError, match=r"has no revision 'v9'") as refusal:
        manager.pull(NAME, Options(revision="v9"))
    code, out, _ = advised(str(refusal.value))
    assert code == 0
    assert commit in out
    hub.add("someone/gated", model_files())
    hub.repositories["someone/gated"].private = True
    with pytest.raises(ModelError, match=r"accept its terms first.*hf auth login"):
        manager.pull("someone/gated")


def test_a_hub_that_is_down_is_said_so_and_a_copy_is_taken_instead(hub, tmp_path, boli, monkeypatch):
    for name, data in model_files().items():
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    hub.behaviours[f"/api/models/{NAME}"] = Behaviour(statuses=(500,) * 50)
    with pytest.raises(ModelError, match=r"cannot be asked: HTTP 500.*--from FOLDER"):
        manager.pull(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ModelError, match=r"cannot be asked"):
        manager.pull(NAME)
    assert boli("zoo", "pull", NAME, "--from", str(tmp_path / "copy"))[0] == 0
    assert manager.resolve(NAME)[0].family == "whisper"


def test_pickled_weights_only_are_refused_and_the_advice_converts_them(hub, tmp_path, boli, monkeypatch):
    import torch

    torch.save({"weight": torch.arange(4.0)}, tmp_path / "x")
    pickled = (tmp_path / "x").read_bytes()
    commit = hub.add(NAME, {"config.json": model_files()["config.json"], "pytorch_model.bin": pickled})
    with pytest.raises(ModelError, match=r"pickled weights only \(pytorch_model.bin\): reading .* any code") as refusal:
        manager.pull(NAME)
    assert not hub.asked(f"/{NAME}/resolve/{commit}/pytorch_model.bin")
    fetch, pull = str(refusal.value).partition("if you trust it: ")[2].rsplit(" && ", 1)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(fetch, shell=True, check=True, env=environment, capture_output=True)
    monkeypatch.chdir("FOLDER")
    assert boli(*shlex.split(pull)[1:])[0] == 0
    assert set(manager.find(NAME).manifest.files) == {"config.json", "model.safetensors"}


def test_the_cards_checksums_hold_for_its_own_revision(hub, monkeypatch):
    from dataclasses import replace

    card = manager.cards()["openai/whisper-tiny"]
    commit = hub.add(card.name, model_files())
    mirror = {card.name: replace(card, revision=commit)}
    monkeypatch.setattr(manager, "cards", lambda: mirror)
    with pytest.raises(ModelError, match=r"config.json of hub:openai/whisper-tiny has sha256 .*unset HF_ENDPOINT"):
        manager.pull(card.name)
    assert manager.find(card.name) is None


def test_a_redirect_from_https_to_http_is_not_followed():
    import httpx

    from zoo.sources.download import _only_secure

    with pytest.raises(ModelError, match=r"not encrypted"):
        _only_secure("https://hub/x", NAME)(httpx.Request("GET", "http://hub/x"))


def test_the_token_stays_with_the_hub(hub, monkeypatch):
    """Large files lie on another host; the token must not follow the redirect there."""
    from zoo.local_hub import LocalHub

    seen = []
    with LocalHub().serving() as elsewhere:
        files = model_files()
        commit = hub.add(NAME, files)
        elsewhere.files["/x"] = files["model.safetensors"]
        monkeypatch.setenv("HF_TOKEN", "secret")
        path = f"/{NAME}/resolve/{commit}/model.safetensors"
        other = elsewhere.url.replace("127.0.0.1", "localhost")
        hub.behaviours[path] = Behaviour(redirect=f"{other}/x")
        monkeypatch.setattr("zoo.local_hub._Handler.do_GET", _recording(seen))
        manager.pull(NAME)
    assert any(authorization for host, authorization in seen if host.startswith("127.0.0.1"))
    assert [authorization for host, authorization in seen if host.startswith("localhost")] == [None]


def _recording(seen):
    from zoo.local_hub import _Handler

    original = _Handler.do_GET

    def do_get(self):
        seen.append((self.headers["Host"], self.headers.get("Authorization")))
        original(self)

    return do_get


def test_names_that_leave_the_repository_are_refused(hub):
    hub.add(NAME, model_files() | {"../evil.json": b"x"})
    with pytest.raises(ModelError, match=r"The hub lists a file called '\.\./evil\.json'"):
        manager.pull(NAME)
    assert not os.path.exists(cache.home() / "staging" / "evil.json")


def test_a_hub_library_that_was_imported_offline(hub, monkeypatch, advised):
    """It reads the variable once, when it is imported; setting it back later does not help."""
    import huggingface_hub.constants

    hub.add(NAME, model_files())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE was set when Python started") as refusal:
        manager.pull(NAME)
    variable, _, command = str(refusal.value).partition("To mend it: ")[2].partition(" ")
    root = str(manager.CARDS.parent.parent)
    environment = os.environ | {"PYTHONPATH": root} | dict([variable.split("=")])
    call = [sys.executable, "-m", "zoo", *shlex.split(command)[2:]]
    assert subprocess.run(call, env=environment, capture_output=True).returncode == 0
