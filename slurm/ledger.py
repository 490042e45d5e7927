"""Which job was submitted for which task: one folder per submission, its scripts frozen, its ids written at once.

A running or requeued job reads the table of tasks beside its script, so a submission's files are never changed
afterwards, whatever happens to the study file.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm.attempt import read_json, write_atomically
from slurm.script import Array

NEVER_SENT = "-"  # instead of a job id: the submission was interrupted before SLURM had it


@dataclass
class Entry:
    """One job array of one submission."""

    mark: str
    """The job's comment, unique: finds a job whose id never arrived."""
    phase: str
    array: str
    """The array's job id; empty until sbatch has answered."""
    tasks: dict[str, list[str]]
    """Array index -> [task id, fingerprint]."""


class Ledger:
    """The submissions of one study, under `<study folder>/jobs/<time>/submission.json`."""

    def __init__(self, study_folder: Path):
        self.root = study_folder / "jobs"

    def new_submission(self) -> Path:
        folder = self.root / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        folder.mkdir(parents=True)
        return folder

    def intend(self, folder: Path, array: Array) -> Entry:
        """Write down that `array` is about to be submitted: if the answer is lost, its mark can still be found."""
        tasks = {str(array.element(task)): [task.id, task.fingerprint] for task in array.tasks}
        entry = Entry(f"boli-{uuid.uuid4().hex[:12]}", array.phase, "", tasks)
        self._write(folder, [*self._read(folder), entry])
        return entry

    def note(self, folder: Path, mark: str, array: str) -> None:
        """Write down the id that SLURM gave."""
        entries = self._read(folder)
        for entry in entries:
            if entry.mark == mark:
                entry.array = array
        self._write(folder, entries)

    def entries(self) -> Iterator[tuple[Path, Entry]]:
        """All of them, oldest first."""
        for path in sorted(self.root.glob("*/submission.json")):
            for entry in self._read(path.parent):
                yield path.parent, entry

    def jobs(self) -> dict[tuple[str, str], str]:
        """(task id, fingerprint) -> the newest job submitted for it, `123_4`."""
        found = {}
        for _, entry in self.entries():
            if entry.array not in ("", NEVER_SENT):
                for index, (task, fingerprint) in entry.tasks.items():
                    found[task, fingerprint] = f"{entry.array}_{index}"
        return found

    def _read(self, folder: Path) -> list[Entry]:
        return [Entry(**entry) for entry in read_json(folder / "submission.json").get("arrays", [])]

    def _write(self, folder: Path, entries: list[Entry]) -> None:
        write_atomically(folder / "submission.json", {"arrays": [asdict(entry) for entry in entries]})
