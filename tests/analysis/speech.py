"""For tests that need espeak-ng."""

import pytest

from analysis.spoken import speaker
from zoo.errors import DataError


def _there() -> bool:
    try:
        speaker()
    except DataError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not _there(), reason="espeak-ng is not installed (sh tests/install_system.sh)")
