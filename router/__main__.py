"""`python -m router transcribe clip.wav`"""

import sys

from boli import main

if len(sys.argv) < 2 or sys.argv[1] not in ("transcribe",):
    print("usage: python -m router {transcribe} ...", file=sys.stderr)
    sys.exit(2)
sys.exit(main(sys.argv[1:]))
