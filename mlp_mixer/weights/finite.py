"""Numbers that are NaN or infinite."""

import numpy as np

CHUNK = 1 << 18  # numbers examined together, few enough to stay in the CPU's cache


def not_finite(array: np.ndarray) -> int:
    """Counts the numbers of an array that are NaN or infinite."""
    flat = array.ravel(order="K")  # in memory order, so nothing is copied
    chunks = (flat[i : i + CHUNK] for i in range(0, flat.size, CHUNK))
    return sum(chunk.size - int(np.count_nonzero(np.isfinite(chunk))) for chunk in chunks)
