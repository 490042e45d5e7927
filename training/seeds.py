"""Seeds derived from several numbers."""

import numpy as np


def mixed_seed(*parts: int) -> int:
    """One 32-bit seed from (seed, epoch, place, ...): neighbours share nothing."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
