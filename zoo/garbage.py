"""What lies in the cache and is needed by nothing, and removing it."""

import time
from dataclasses import dataclass
from pathlib import Path

import filelock

from zoo import cache
from zoo.manager import find


@dataclass(frozen=True)
class Garbage:
    """Something in the cache that nothing needs."""

    path: Path
    why: str
    size_bytes: int


STALE_S = 7 * 24 * 3600  # an interrupted pull is kept this long, to go on from


def garbage(everything: bool = False) -> list[Garbage]:
    """What `collect` would remove.

    That is: what is being removed already, interrupted pulls older than a week, folders without a record, versions
    that neither a lock, a card nor the newest pull points at, and notes about versions that are gone.

    everything: this host's interrupted pulls of any age too (never one that is under way).
    """
    home = cache.home()
    found = [Garbage(path, "was being removed", cache.size(path)) for path in sorted((home / "trash").glob("*"))]
    for staging in sorted((home / "staging").glob("*")):
        age_s = time.time() - max([p.lstat().st_mtime for p in [staging, *staging.rglob("*")]], default=0)
        slug, _, host = staging.name.partition("@")
        if (age_s > STALE_S or (everything and host in ("", cache.HOST))) and not _under_way(slug):
            found.append(Garbage(staging, f"interrupted pull, {age_s / 86400:.1f} days old", cache.size(staging)))
    found += [Garbage(path, "has no readable record", cache.size(path)) for path in cache.unreadable()]
    kept, named = set(), set()
    for entry in cache.entries():
        current = find(entry.name)
        if current is not None and current.folder == entry.folder:
            kept.add(entry.folder)
        elif current is None and entry.name not in named:
            named.add(entry.name)
            kept.add(entry.folder)  # the card moved on; the newest is kept until the new one is pulled
    needed = set()
    for entry in cache.entries():
        if entry.folder in kept:
            needed.add(cache.verified_file(entry.name, entry.version))
        else:
            found.append(Garbage(entry.folder, "superseded", entry.manifest.size_bytes))
    for seen in sorted((home / "verified").glob("*")):
        if seen not in needed and not seen.name.endswith(("--repository.json", "--archive.json")):
            found.append(Garbage(seen, "note about a version that is gone", cache.size(seen)))
    return found


def _under_way(slug: str) -> bool:
    probe = filelock.FileLock(cache.home() / "locks" / f"{slug}.lock")
    (cache.home() / "locks").mkdir(parents=True, exist_ok=True)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return True
    probe.release()
    return False


def collect(found: list[Garbage]) -> int:
    """Remove what `garbage` found. Returns the bytes freed."""
    freed = 0
    for item in found:
        cache.discard(item.path)
        freed += item.size_bytes
    return freed
