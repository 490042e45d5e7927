"""The site file: what is the same for all studies on one cluster (TOML; `slurm/site.toml` is an example)."""

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from slurm.errors import SlurmError
from slurm.reading import build
from slurm.resources import Resources


@dataclass(frozen=True)
class Mail:
    user: str = ""
    """Address that SLURM writes to; empty: no mail."""
    events: str = "END,FAIL"
    """Any of SLURM's events, joined by commas: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT, ALL ..."""


@dataclass(frozen=True)
class Environment:
    setup: list = field(default_factory=list)
    """Shell lines run at the start of each job: `module load cuda/12.4`, `source ~/venv/bin/activate`."""
    variables: dict = field(default_factory=dict)
    """Environment variables of each job, for example HF_HOME."""
    python: str = ""
    """Python that the jobs use; its folder is put first on PATH. Empty: the one that runs `boli slurm`."""


@dataclass(frozen=True)
class Limits:
    parallel: int = 0
    """Tasks of one array that may run at once (`--array=0-79%8`); 0: as many as the cluster gives."""
    max_array: int = 1000
    """Tasks in one array; the cluster's MaxArraySize must be larger. Longer phases become several arrays."""
    max_restarts: int = 20
    """A task that was requeued more often than this has failed."""
    grace_s: int = 120
    """Seconds before the time limit at which a task is told to checkpoint (SIGUSR1)."""
    min_free_gb: float = 1.0
    """A task does not start with less free space in its run folder."""
    silent_s: int = 1800
    """`status` marks a running task that has not written its status.json for this long."""


@dataclass(frozen=True)
class Site:
    partition: str = ""
    """Partition (queue); empty: the cluster's default."""
    cpu_partition: str = ""
    """Partition for tasks without GPU; empty: the same."""
    account: str = ""
    """Account that is charged; empty: your default."""
    qos: str = ""
    gres: str = "gpu"
    """Kind of GPU in SLURM's words, without the count: `gpu` or `gpu:a100`."""
    time: str = "12:00:00"
    """Time limit where a study names none."""
    memory: str = "32G"
    """Memory per node where a study names none."""
    gpus: int = 1
    """GPUs per task where a study names none."""
    cpus: int = 8
    """CPU cores per task where a study names none."""
    runs: str = "runs"
    """Folder that holds the studies' folders; relative to where `boli slurm` is called. All nodes must see it."""
    logs: str = "logs"
    """Folder of the jobs' output, relative to the study's folder."""
    directives: list = field(default_factory=list)
    """Further `#SBATCH` options, for example `--constraint=a100_80g`."""
    mail: Mail = field(default_factory=Mail)
    environment: Environment = field(default_factory=Environment)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        for name in ("parallel", "max_restarts", "grace_s", "silent_s", "min_free_gb"):
            if getattr(self.limits, name) < 0:
                raise SlurmError(f"Site limits.{name} is {getattr(self.limits, name)}", valid="0 or more")
        if self.limits.max_array < 1:
            raise SlurmError(f"Site limits.max_array is {self.limits.max_array}", valid="1 or more")
        for name in ("directives", "environment.setup"):
            lines = self.directives if name == "directives" else self.environment.setup
            if not all(isinstance(line, str) and "\n" not in line for line in lines):
                raise SlurmError(f"Site {name} is {lines!r}", valid="a list of single lines of text")
        for line in self.directives:
            if not line.startswith("-"):
                raise SlurmError(f"Site directive {line!r} is no option", valid="for example --constraint=a100_80g")
        self.resources({}, "Site")

    def resources(self, asked: Mapping, where: str) -> Resources:
        """What a task asks for, the site's own values filling what it leaves out."""
        known = {"time": self.time, "memory": self.memory, "gpus": self.gpus, "cpus": self.cpus}
        return build(Resources, known | dict(asked), where)

    @property
    def python(self) -> str:
        return self.environment.python or sys.executable


def load_site(path: Path | None = None) -> Site:
    """Read `path`; without one `$BOLI_SITE`, then `site.toml` in the working folder, then built-in values.

    Raises SlurmError for a missing file, broken TOML, an unknown key or an impossible value.
    """
    if path is None:
        found = os.environ.get("BOLI_SITE") or ("site.toml" if Path("site.toml").is_file() else "")
        if not found:
            return Site()
        path = Path(found)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SlurmError(f"Site file {str(path)!r} cannot be read: {error}",
                         remedy="copy slurm/site.toml, edit it, and give it as --site") from None  # fmt: skip
    except tomllib.TOMLDecodeError as error:
        raise SlurmError(f"Site file {str(path)!r} is not TOML: {error}") from None
    where = f"Site file {str(path)!r}"
    for name, kind in (("mail", Mail), ("environment", Environment), ("limits", Limits)):
        if name in data:
            data[name] = build(kind, data[name], f"{where} [{name}]")
    return build(Site, data, where)


def with_overrides(resources: Resources, *, time: str = "", memory: str = "") -> Resources:
    """The same request with more (or less) time or memory, as `boli slurm resubmit --memory 64G` asks."""
    changed = asdict(resources) | ({"time": time} if time else {}) | ({"memory": memory} if memory else {})
    return replace(resources, **changed)
