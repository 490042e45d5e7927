"""Where a store's folders are made and unmade, out of sight, and how leftovers of killed processes are told from work
under way.

`STORE/.staging/<host>+<pid namespace>+<pid>+<start>+<random>/`. Each publish and each removal is one rename out of or
into `.staging`, so its modification time changes with every change of the store: the index goes by that.
"""

import os
import shutil
import socket
import time
import uuid
from pathlib import Path

STAGING = ".staging"
FOREIGN_S = 24 * 3600  # of another machine nobody can say whether its process lives: kept for this long after a change


def new(store: Path) -> Path:
    """The path of a staging folder of this process; it does not exist yet, `.staging` does."""
    parent = store / STAGING
    parent.mkdir(exist_ok=True)
    pid = os.getpid()
    return parent / f"{_machine()}+{pid}+{_started(pid)}+{uuid.uuid4().hex}"


def leftovers(store: Path) -> list[Path]:
    """Staging folders whose process is gone. Never one that a live process on this machine still writes."""
    try:
        names = sorted(os.listdir(store / STAGING))
    except FileNotFoundError:
        return []
    return [store / STAGING / name for name in names if not _alive(store / STAGING / name)]


def discard(path: Path, store: Path) -> None:
    """Out of sight in one rename, then deleted: whoever publishes this very folder meanwhile has the whole of it, or
    nothing."""
    trash = new(store)
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink()


def _alive(path: Path) -> bool:
    try:
        machine, pid, started, _ = path.name.rsplit("+", 3)
        if machine == _machine():
            return _started(int(pid)) == started != ""
    except ValueError:
        pass  # not one of our names: by its age
    try:
        changed = max(entry.lstat().st_mtime for entry in [path, *path.rglob("*")])
    except FileNotFoundError:
        return True  # it was just published or removed
    return time.time() - changed < FOREIGN_S


def _machine() -> str:
    """Host and pid namespace: containers may share a host's name, and do not see each other's processes."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        namespace = ""
    return f"{socket.gethostname().replace(os.sep, '-')}+{namespace}"


def _started(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where it is gone. A pid alone may have been given again."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if status[0] in "ZX" else status[19]
    except (OSError, IndexError):
        pass
    if os.path.isdir("/proc/self"):
        return ""
    try:  # no /proc: any process of that number counts as the one
        os.kill(pid, 0)
        return "0"
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "0"
