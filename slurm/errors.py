"""The room's own error: slurm imports no other room, so it cannot use zoo's hierarchy."""


class SlurmError(Exception):
    """A study, a site file or a scheduler that cannot be used as asked.

    `what` names the thing and the value it had; `valid` says what would have been accepted; `remedy` is the
    command or step that mends it.
    """

    def __init__(self, what: str, *, valid: str = "", remedy: str = ""):
        parts = [what.rstrip(".") + "."]
        if valid:
            parts.append(f"Valid: {valid.rstrip('.')}.")
        if remedy:
            parts.append(f"To mend it: {remedy}")
        super().__init__(" ".join(parts))
