"""`python -m router transcribe clip.wav`"""

import sys

from boli import main

if len(sys.argv) < 2 or sys.argv[1] not in ("transcribe", "serve"):
    print("usage: python -m router {transcribe,serve} ...", file=sys.stderr)
    sys.exit(2)
sys.exit(main(sys.argv[1:]))
