"""Verifying a store: every record, every byte, every tensor."""

from pathlib import Path

from adapters.store import Store
from zoo.errors import AdapterError


def verify(store: Store) -> tuple[int, list[tuple[Path, str]]]:
    """How many adapters were looked at, and (folder, what is wrong) of those that cannot be used."""
    problems = store.problems()
    checked = len(problems)
    for stored in store.all():
        checked += 1
        try:
            store.weights(stored)
        except AdapterError as error:
            if stored.folder.is_dir():  # else it was removed while we looked
                problems.append((stored.folder, str(error)))
    return checked, sorted(problems)
