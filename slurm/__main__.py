"""`python -m slurm ...` is `boli slurm ...`."""

from slurm.commands import app

app(prog_name="python -m slurm")
