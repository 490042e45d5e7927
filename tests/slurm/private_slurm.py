"""A private SLURM on this machine (munged, slurmctld, two slurmd), all of it under one folder, bound to loopback.

    python tests/slurm/private_slurm.py start FOLDER     then: . FOLDER/env.sh
    python tests/slurm/private_slurm.py stop FOLDER

The folder's path must be short: it holds a unix socket, whose path may have 107 bytes.
"""

import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun", "munge")
PATH = f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}"
NODES = ("n1", "n2")

CONFIGURATION = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.own.pid
SlurmdPidFile={folder}/slurmd.%n.own.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,bf_window=60,requeue_delay=0
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=5
CompleteWait=0
MinJobAge=3600
MaxArraySize=1001
FirstJobId={first_job}
SlurmctldTimeout=30
SlurmdTimeout=30
MailProg={folder}/mail.sh
NodeName={nodes_line}
PartitionName=DEFAULT Nodes=ALL MaxTime=2-00:00:00 DefaultTime=10 OverSubscribe=NO
PartitionName=gpu Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
"""


def why_not() -> str:
    """Why no private SLURM can run here; empty where it can."""
    missing = [name for name in (*DAEMONS, *COMMANDS) if not shutil.which(name, path=PATH)]
    if missing:
        return f"SLURM is not installed ({', '.join(missing)} missing): slurm/install.sh installs it"
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = "nothing"
    if not address.startswith("127."):
        # the daemons bind to what the host name means, and must not be reachable from outside
        return f"the host name means {address}, not 127.x, so the daemons would not be private"
    return ""


def start(folder: Path, cpus: int = 16, gpus: int = 8) -> None:
    """Start the daemons and wait until both nodes take jobs. Raises RuntimeError with the logs' last lines."""
    if reason := why_not():
        raise RuntimeError(reason)
    folder = folder.resolve()
    for name in ("state", "spool", "dev", "key"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "key").chmod(0o700)
    key = folder / "key" / "munge.key"
    if not key.exists():
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
    write_configuration(folder, cpus, gpus)
    sock = folder / "munge.sock"
    _spawn(folder, "munged", ["munged", "--foreground", "--num-threads=2", f"--key-file={key}", f"--socket={sock}",
                              f"--pid-file={folder}/munged.own.pid", f"--log-file={folder}/munged.log",
                              f"--seed-file={folder}/key/seed", "--origin=127.0.0.1", "--force"])  # fmt: skip
    _until(folder, "munged", lambda: _works(folder, "munge", "-n", "-S", str(sock)))
    start_controller(folder)
    for node in NODES:
        start_node(folder, node)


def write_configuration(folder: Path, cpus: int, gpus: int) -> None:
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for s in (a, b, c):
            s.bind(("127.0.0.1", 0))
        ports = [s.getsockname()[1] for s in (a, b, c)]
    host = socket.gethostname().split(".")[0]
    # GPUs that are links to /dev/null: SLURM hands them out and sets CUDA_VISIBLE_DEVICES like for real ones
    for number in range(gpus):
        link = folder / "dev" / f"nvidia{number}"
        if not link.is_symlink():
            link.symlink_to("/dev/null")
    (folder / "gres.conf").write_text(f"Name=gpu Type=a100 File={folder}/dev/nvidia[0-{gpus - 1}]\n")
    (folder / "plugstack.conf").write_text("")
    (folder / "mail.sh").write_text(f"#!/bin/sh\necho \"$*\" >> '{folder}/mail.log'\n")
    (folder / "mail.sh").chmod(0o755)
    nodes = "\nNodeName=".join(
        f"{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} Boards=1 SocketsPerBoard=1 "
        f"CoresPerSocket={cpus} ThreadsPerCore=1 RealMemory=500000 Gres=gpu:a100:{gpus} State=UNKNOWN"
        for node, port in zip(NODES, ports[1:], strict=True)
    )
    (folder / "slurm.conf").write_text(CONFIGURATION.format(
        host=host, user=getpass.getuser(), controller_port=ports[0], folder=folder, nodes_line=nodes,
        first_job=random.randint(1000, 60_000_000),
    ))  # fmt: skip
    lines = "".join(f"export {name}={value}\n" for name, value in variables(folder).items() if name != "PATH")
    (folder / "env.sh").write_text(lines)


def variables(folder: Path) -> dict[str, str]:
    """What the client commands need in their environment."""
    folder = folder.resolve()
    return {"SLURM_CONF": f"{folder}/slurm.conf", "MUNGE_SOCKET": f"{folder}/munge.sock", "PATH": PATH}


def start_controller(folder: Path) -> None:
    _spawn(folder, "slurmctld", ["slurmctld", "-D", "-i", "-f", f"{folder}/slurm.conf"])
    _until(folder, "slurmctld", lambda: _works(folder, "scontrol", "ping"))


def start_node(folder: Path, node: str) -> None:
    _spawn(folder, f"slurmd.{node}", ["slurmd", "-D", "-f", f"{folder}/slurm.conf", "-N", node])
    _until(folder, f"slurmd.{node}", lambda: _node_state(folder, node) in ("idle", "mix", "alloc"))


def stop_daemon(folder: Path, name: str) -> None:
    """End one daemon by its recorded process id and wait for it."""
    path = folder / f"{name}.pid"
    if not path.exists():
        return
    number = int(path.read_text())
    path.unlink()
    if not _is(number, name.split(".")[0]):
        return
    os.kill(number, signal.SIGTERM)
    for _ in range(200):
        if not _is(number, name.split(".")[0]):
            return
        time.sleep(0.05)
    os.kill(number, signal.SIGKILL)


def stop(folder: Path) -> None:
    """Cancel all jobs, so that no script outlives its daemon, then end the daemons."""
    folder = folder.resolve()
    if (folder / "slurmctld.pid").exists() and _works(folder, "scontrol", "ping"):
        _works(folder, "scancel", "--user", getpass.getuser())
        for _ in range(150):
            if not _ask(folder, "squeue", "--noheader"):
                break
            time.sleep(0.1)
    for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munged"):
        stop_daemon(folder, name)


def _spawn(folder: Path, name: str, command: list[str]) -> None:
    with open(folder / f"{name}.out", "ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                                   env=os.environ | variables(folder))  # fmt: skip
    (folder / f"{name}.pid").write_text(str(process.pid))
    _spawned.append(process)  # kept, so that its end is noticed and warnings about forgotten processes stay away


_spawned: list[subprocess.Popen] = []


def _until(folder: Path, name: str, ready) -> None:
    number = int((folder / f"{name}.pid").read_text())
    for _ in range(400):
        if ready():
            return
        if not _is(number, name.split(".")[0]):
            break
        time.sleep(0.05)
    log = (folder / f"{name}.out").read_text(errors="replace").splitlines()[-15:]
    stop(folder)
    raise RuntimeError(f"{name} did not come up:\n" + "\n".join(log))


def _is(number: int, name: str) -> bool:
    """Whether process `number` lives and is `name` (ids are used again); a zombie does not live."""
    for process in _spawned:
        process.poll()
    try:
        command, _, rest = Path(f"/proc/{number}/stat").read_text().partition(") ")
    except OSError:
        return False
    return name[:15] in command and not rest.startswith("Z")


def _ask(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=os.environ | variables(folder))
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()


def _works(folder: Path, *command: str) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, env=os.environ | variables(folder))
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _node_state(folder: Path, node: str) -> str:
    return _ask(folder, "sinfo", "--noheader", f"--nodes={node}", "--format=%t").split("\n")[0]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        sys.exit(__doc__)
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]))
