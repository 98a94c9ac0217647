"""Contents of files that are the same in each run."""

from __future__ import annotations

import random


def octets(size: int, seed: object) -> bytes:
    """Return `size` octets, which depend on `size` and `seed` only."""
    return random.Random(f"{size} {seed}").randbytes(size)
