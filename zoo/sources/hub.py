"""Models of a Hugging Face hub (`HF_ENDPOINT`, by default the public one), at one commit.

huggingface_hub tells which commit a branch or tag means and what size and checksum each file has there (sha256 of
large files, git blob id of small ones); the bytes come through zoo.sources.download, which resumes.
"""

import fnmatch
import os
from pathlib import Path, PurePosixPath

from zoo import cache, checksum, network
from zoo.errors import ModelError
from zoo.pickles import PICKLED, refusal
from zoo.sources import Fetched, Request
from zoo.sources.download import download

IN_PLACE = False

# What repositories carry beside the model: the same weights for other frameworks, pictures, code (never run by boli).
_SKIPPED = (
    ".git*",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.onnx*",
    "*.tflite",
    "*.gguf",
    "*.mlmodel*",
    "*.py",
    "*.png",
    "*.jpg",
)
_SECOND_COPIES = ("*.fp32*", "*.fp16*", "original/*", "onnx/*", "coreml/*", "openvino/*", "runs/*", "logs/*")


def fetch(request: Request, staging: Path) -> Fetched:
    network.require(f"{request.source}", request.name)
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    information = _information(request, endpoint)
    wanted = [file for file in information.siblings if _is_wanted(file.rfilename, request.pickles)]
    if not any(file.rfilename.endswith(".safetensors") for file in wanted) and not request.pickles:
        names = [file.rfilename for file in information.siblings]
        if found := [name for name in names if PurePosixPath(name).suffix.lower() in PICKLED]:
            get = f"hf download {request.location} --revision {information.sha} --local-dir FOLDER && cd FOLDER"
            raise refusal(request.name, found, get)
    files = staging / "files"
    files.mkdir(exist_ok=True)
    wanted_names = {file.rfilename for file in wanted}
    for stale in [path for path in files.rglob("*") if path.is_file()]:
        if stale.relative_to(files).as_posix() not in wanted_names:
            stale.unlink()  # of another revision that was begun before
    sizes = sum(file.size or 0 for file in wanted)
    cache.require_space(sizes - cache.size(staging), staging, request.name)
    sha256 = {}
    for file in sorted(wanted, key=lambda file: file.size or 0):
        sha256[file.rfilename] = _file(request, endpoint, information.sha, file, staging)
    return Fetched(files, information.sha, sha256)


def _information(request: Request, endpoint: str):
    """What the hub says about the repository at the revision, files included."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # the HTTP library under huggingface_hub has changed its name between versions; its base error is known by it
    http_error: type[Exception] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    where = f"{endpoint}/{request.location}"
    failures = 0
    while True:
        try:
            return HfApi(endpoint=endpoint).model_info(
                request.location,
                revision=request.revision or None,
                files_metadata=True,
                timeout=network.read_timeout_s(),
            )
        except GatedRepoError as error:
            raise ModelError(
                f"{where} asks every user to accept its terms first",
                valid="a token with access",
                remedy=f"open {where}, accept, then `hf auth login` and `boli zoo pull {request.name}`",
            ) from error
        except RevisionNotFoundError as error:
            raise ModelError(
                f"{where} has no revision {request.revision!r}",
                valid="a branch, a tag or a full commit of that repository",
                remedy=f"boli zoo pull {request.name} --revision main",
            ) from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise ModelError(
                f"There is no model {request.location!r} at {endpoint}, or it is private",
                valid="ORGANISATION/MODEL as on the hub's page; a token for private ones",
                remedy="boli zoo list  (or `hf auth login` for a private model)",
            ) from error
        except OfflineModeIsEnabled as error:
            raise ModelError(
                f"{request.source} needs the network, and HF_HUB_OFFLINE was set when Python started",
                remedy=f"HF_HUB_OFFLINE=0 boli zoo pull {request.name}",
            ) from error
        except (http_error, HfHubHTTPError) as error:
            failures += 1
            status = getattr(getattr(error, "response", None), "status_code", 0)
            if failures > network.RETRIES or 400 <= status < 500:
                raise ModelError(
                    f"{where} cannot be asked: {f'HTTP {status}' if status else error}",
                    valid="a hub that answers (HF_ENDPOINT says which)",
                    remedy=f"boli zoo pull {request.name}  (later), or from a copy that you have: "
                    f"boli zoo pull {request.name} --from FOLDER",
                ) from error
            request.progress.say(f"{where}: {f'HTTP {status}' if status else error}; asking again")


def _is_wanted(name: str, pickles: bool) -> bool:
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\\" in name:
        raise ModelError(f"The hub lists a file called {name!r}", valid="names inside the repository")
    if not pickles and parts.suffix.lower() in PICKLED:
        return False
    return not any(fnmatch.fnmatch(parts.name, pattern) for pattern in _SKIPPED) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in _SECOND_COPIES
    )


def _file(request: Request, endpoint: str, commit: str, file, staging: Path) -> str:
    """One file, checked against the hub's own checksum. Returns its sha256."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    target = staging / "files" / file.rfilename
    expected = (file.lfs.sha256 if file.lfs else None) or file.blob_id
    if target.is_file():
        sha256, blob = checksum.sha256_and_git(target)
        if expected in (sha256, blob):
            return sha256
        target.unlink()
    parts = staging / "parts"
    parts.mkdir(exist_ok=True)
    part = parts / f"{expected or file.rfilename.replace('/', '--')}.part"
    url = hf_hub_url(request.location, file.rfilename, revision=commit, endpoint=endpoint)
    for last in (False, True):
        download(
            url,
            part,
            name=request.name,
            progress=request.progress,
            headers=build_hf_headers(),
            size=file.size,
            known_content=expected is not None,
        )
        sha256, blob = checksum.sha256_and_git(part)
        if expected is None or expected in (sha256, blob):
            break
        part.unlink()
        if last:
            raise ModelError(
                f"{url} was downloaded twice and its checksum is {sha256 if file.lfs else blob} both times",
                valid=f"{expected}, as the hub announces it",
                remedy=f"boli zoo pull {request.name}  (later; a proxy or mirror on the way may be damaging it)",
            )
        request.progress.say(f"{file.rfilename} came with a wrong checksum; downloading it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return sha256
