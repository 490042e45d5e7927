"""The C library's allocator, told to keep what one pass has freed for the next.

glibc gives large blocks back to the system at once, and every pass of a large batch has the same pages made anew: a
tenth of its time on the machine of docs/benchmarks.md. Where the user has set glibc's own variables, they rule.
"""

import ctypes
import os
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 1 << 30
CONTROLS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


@cache
def keep_freed() -> bool:
    """Once per process; does nothing on other C libraries. Says whether it took effect."""
    if any(name in os.environ for name in CONTROLS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return mallopt(M_MMAP_THRESHOLD, LARGEST) == 1 and mallopt(M_TRIM_THRESHOLD, LARGEST) == 1
