"""`python -m training train|data|evaluate ...`."""

import sys

import boli

ROOM = ("train", "data", "evaluate")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ROOM:
        print(f"usage: python -m training {{{','.join(ROOM)}}} ...", file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    sys.exit(boli.main(sys.argv[1:]))
