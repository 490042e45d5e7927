"""Adapters on a Hugging Face hub (`HF_ENDPOINT`), at one commit, through huggingface_hub's own cache."""

import os
from pathlib import Path
from typing import Any

from adapters.peft_files import CONFIG, PICKLES, WEIGHTS, pickled
from zoo import network
from zoo.errors import AdapterError

_WANTED = [CONFIG, WEIGHTS, "record.json", "tokenizer.json", "vocab.json", "added_tokens.json"]


def fetch(repository: str, revision: str = "") -> tuple[Path, str]:
    """(folder, `hub:<repository>@<commit>`). Offline, what an earlier call brought is used. Raises AdapterError."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    options: dict[str, Any] = {"revision": revision or None, "allow_patterns": _WANTED, "endpoint": endpoint}
    # the HTTP library under huggingface_hub has changed its name between versions; its base error is known by it
    http_error: type[BaseException] = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    try:
        if network.offline():
            folder = Path(snapshot_download(repository, local_files_only=True, **options))
            return folder, f"hub:{repository}@{folder.name}"
        information = HfApi(endpoint=endpoint).model_info(
            repository, revision=revision or None, timeout=network.read_timeout_s()
        )
        names = [file.rfilename for file in information.siblings or []]
        if WEIGHTS not in names and (found := [name for name in names if Path(name).suffix in PICKLES]):
            raise pickled(f"{endpoint}/{repository}", found[0])
        if CONFIG not in names:
            below = sorted(name for name in names if name.endswith(f"/{CONFIG}"))
            raise AdapterError(
                f"{endpoint}/{repository} holds no {CONFIG}" + (f", but {', '.join(below[:5])}" if below else ""),
                valid="a repository with one LoRA adapter at its top",
                remedy=f"hf download {repository} --local-dir FOLDER, then boli adapters add FOLDER"
                + (f"/{Path(below[0]).parent}" if below else ""),
            )
        folder = Path(snapshot_download(repository, **options))  # by the branch's name, so that it is found offline
        return folder, f"hub:{repository}@{folder.name}"
    except (OfflineModeIsEnabled, LocalEntryNotFoundError):
        raise AdapterError(
            f"{repository} is no folder here and was not fetched before; fetching it needs the network"
            + (", which HF_HUB_OFFLINE or BOLI_OFFLINE forbids" if network.offline() else f" and {endpoint}"),
            valid="a folder, or a hub id with the network at hand",
            remedy=f"HF_HUB_OFFLINE=0 BOLI_OFFLINE=0 boli adapters add {repository}",
        ) from None
    except GatedRepoError:
        raise AdapterError(
            f"{endpoint}/{repository} asks every user to accept its terms first",
            valid="a token with access",
            remedy=f"open {endpoint}/{repository}, accept, then hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise AdapterError(
            f"{endpoint}/{repository} has no revision {revision!r}",
            valid="a branch, a tag or a full commit",
            remedy=f"boli adapters add {repository} --revision main",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise AdapterError(
            f"{repository!r} is no folder here, and no adapter at {endpoint} (or a private one)",
            valid="a LoRA folder, or ORGANISATION/NAME as on the hub's page",
            remedy="hf auth login  (for a private one)",
        ) from None
    except (http_error, HfHubHTTPError, OSError) as error:
        raise AdapterError(
            f"{endpoint}/{repository} cannot be fetched: {str(error).splitlines()[0]}",
            valid="a hub that answers (HF_ENDPOINT says which) and a disk with room",
            remedy=f"boli adapters add {repository}  (later)",
        ) from error
