"""What one task asks of the cluster: time, memory, GPUs, CPUs, nodes."""

import re
from dataclasses import dataclass

from slurm.errors import SlurmError

LAUNCHERS = ("plain", "torchrun")


@dataclass(frozen=True)
class Resources:
    time: str | int  # (a bare number is refused, with what is valid)
    """Time limit: `12h`, `90m`, `2d`, `12:00:00` or `2-00:00:00`. A job that reaches it checkpoints and is requeued."""
    memory: str | int
    """Main memory per node: `32G`, `500M`."""
    gpus: int = 1
    """GPUs per node; 0 for none."""
    cpus: int = 8
    """CPU cores per node."""
    nodes: int = 1
    """Machines for one task; above 1 needs `launch: torchrun`."""
    partition: str = ""
    """Instead of the site's partition."""
    launch: str = "plain"
    """`plain`: the command once. `torchrun`: one process per GPU on every node."""

    def __post_init__(self):
        seconds(self.time)
        megabytes(self.memory)
        for name, least in (("gpus", 0), ("cpus", 1), ("nodes", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SlurmError(f"Resource {name} is {value!r}", valid=f"a whole number from {least}")
        if self.launch not in LAUNCHERS:
            raise SlurmError(f"Resource launch is {self.launch!r}", valid=", ".join(LAUNCHERS))
        if self.nodes > 1 and self.launch == "plain":
            raise SlurmError(f"{self.nodes} nodes with launch 'plain' would run the command {self.nodes} times over",
                             remedy="set launch: torchrun, or nodes: 1")  # fmt: skip

    @property
    def gpu_hours(self) -> float:
        """GPU hours if the task uses its whole time limit once."""
        return self.gpus * self.nodes * seconds(self.time) / 3600

    @property
    def shape(self) -> tuple:
        """Tasks of one array may differ in time and memory (lowered after submission), in nothing else."""
        return (self.gpus, self.cpus, self.nodes, self.partition, self.launch)


def seconds(time: str | int) -> int:
    """`12h`, `90m`, `2d`, `HH:MM:SS`, `D-HH:MM:SS` in seconds."""
    time = str(time)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", time):
        result = float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", time):
        result = int(match[1] or 0) * 86400 + int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4])
    else:
        raise SlurmError(f"Time {time!r} is not understood", valid="12h, 90m, 2d, 12:00:00, 2-00:00:00")
    if result < 1:
        raise SlurmError(f"Time {time!r} is no time", valid="one second or more")
    return round(result)


def slurm_time(duration_s: int) -> str:
    """Seconds as SLURM writes them: `D-HH:MM:SS`, days left out where there are none."""
    days, rest = divmod(duration_s, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def megabytes(memory: str | int) -> int:
    """`32G`, `32GB`, `500M`, `1T` in binary megabytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MGT])i?B?", str(memory))
    if not match or float(match[1]) <= 0:
        raise SlurmError(f"Memory {memory!r} is not understood", valid="500M, 32G, 1T")
    return round(float(match[1]) * {"M": 1, "G": 1024, "T": 1024**2}[match[2]])


def slurm_memory(size_mb: int) -> str:
    return f"{size_mb // 1024}G" if size_mb % 1024 == 0 else f"{size_mb}M"
