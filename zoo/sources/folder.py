"""A folder on this machine, copied into the cache; one that faster-whisper reads is converted.

`zoo.load` also takes a folder as it is, without a copy and without a record of its checksums.
"""

import shutil
from pathlib import Path

from zoo import cache, faster_whisper
from zoo.errors import ModelError
from zoo.sources import Fetched, Request

IN_PLACE = False


def fetch(request: Request, staging: Path) -> Fetched:
    origin = Path(request.location).expanduser()
    if not origin.is_dir():
        raise ModelError(
            f"{origin} is no folder", valid="a folder with a model's files", remedy=f"ls -l {origin.parent}"
        )
    copied = staging / "copied"
    shutil.rmtree(copied, ignore_errors=True)
    copied.mkdir()
    if faster_whisper.matches(origin):
        size = (origin / faster_whisper.WEIGHTS).stat().st_size
        cache.require_space(2 * size, staging, request.name)  # fp32 of fp16
        request.progress.start(faster_whisper.WEIGHTS, size)
        faster_whisper.convert(origin, copied)
        request.progress.advance(size)
        return Fetched(copied)
    files = [path for path in sorted(origin.rglob("*")) if path.is_file() and path.name != cache.MANIFEST]
    files = [path for path in files if not any(part.startswith(".") for part in path.relative_to(origin).parts)]
    cache.require_space(sum(path.stat().st_size for path in files), staging, request.name)
    for path in files:
        target = copied / path.relative_to(origin)
        target.parent.mkdir(parents=True, exist_ok=True)
        request.progress.start(path.name, path.stat().st_size)
        try:
            shutil.copyfile(path, target)  # follows links: a hub's own cache is made of them
        except OSError as error:
            if cache.is_full(error):
                raise cache.full_disk(request.name, f"{error.strerror} while copying {path}") from error
            raise
        request.progress.advance(path.stat().st_size)
    return Fetched(copied)
