"""A short digest of much data, such as the names and labels of a data set."""

import hashlib
from collections.abc import Iterable

import numpy as np


def fingerprint(*parts: str | np.ndarray | Iterable[str]) -> str:
    """Returns the SHA-256 of the parts in hex; it also depends on where each part ends."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            data = f"{part.dtype}{part.shape} ".encode() + part.tobytes()
        elif isinstance(part, str):
            data = part.encode(errors="surrogateescape")  # file names that are not UTF-8
        else:
            data = fingerprint(*part).encode()
        whole.update(f"{len(data)} ".encode())
        whole.update(data)
    return whole.hexdigest()
