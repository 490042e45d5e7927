"""`python -m analysis ...`: the same as `boli analyze ...`."""

import sys

from boli import run

if __name__ == "__main__":
    sys.exit(run("analysis.commands", sys.argv[1:], "python -m analysis"))
