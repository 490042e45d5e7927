"""Models that the repository itself carries, used where they lie."""

from pathlib import Path

import zoo
from zoo.errors import ModelError
from zoo.sources import Fetched, Request

IN_PLACE = True
ROOT = Path(zoo.__file__).resolve().parent.parent


def fetch(request: Request, staging: Path) -> Fetched:
    folder = ROOT / request.location
    if not folder.is_dir() or not any(folder.iterdir()):
        raise ModelError(
            f"{folder} is not there, so {request.name} cannot be used",
            valid="a whole clone of the repository",
            remedy=f"git -C {ROOT} checkout -- {request.location}",
        )
    return Fetched(folder)
