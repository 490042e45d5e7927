"""`python -m adapters ...`: the same as `boli adapters ...`."""

import sys

from boli import run

if __name__ == "__main__":
    sys.exit(run("adapters.commands", sys.argv[1:], "python -m adapters"))
