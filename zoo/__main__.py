"""`python -m zoo ...`: the same as `boli zoo ...`."""

import sys

from boli import run

if __name__ == "__main__":
    sys.exit(run("zoo.commands", sys.argv[1:], "python -m zoo"))
