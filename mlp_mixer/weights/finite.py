"""Numbers that are NaN or infinite."""

import numpy as np

CHUNK = 1 << 18  # numbers that are looked at together, so that they stay in the cache


def not_finite(array: np.ndarray) -> int:
    """How many numbers of an array are NaN or infinite."""
    flat = array.ravel(order="K")  # in the order of memory: no copy
    chunks = (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))
    return sum(chunk.size - int(np.count_nonzero(np.isfinite(chunk))) for chunk in chunks)
