"""The order in which filters are drawn: from low to high frequency, in pairs of opposites.

The paper orders its units this way (figures 5 and 6) without defining frequency or opposite. Here
they are defined by `frequencies` and `opposite_pairs`.
"""

import numpy as np
import scipy.fft


def frequencies(units: np.ndarray) -> np.ndarray:
    """Computes the frequency of each filter: the mean over its spectrum, weighted by power.

    The spectrum is the two-dimensional cosine transform (DCT-II), in which coefficient (k, l) of an
    h x w filter stands for sqrt((k / 2h)^2 + (l / 2w)^2) cycles per step of the grid: 0 for a
    constant filter, and always below 0.71, which a checkerboard approaches on a large grid. Unlike
    in the Fourier transform, a difference between opposite edges does not add high frequencies.

    Args:
        units: [n, h, w] or [n, h, w, c]; the power of the channels is summed.

    Returns:
        Float [n]. A filter that is zero everywhere has frequency 0.
    """
    h, w = units.shape[1:3]
    power = scipy.fft.dctn(units.astype(np.float64), axes=(1, 2), norm="ortho") ** 2
    power = power.reshape(len(units), h, w, -1).sum(-1)
    radius = np.hypot(np.arange(h)[:, None] / (2 * h), np.arange(w) / (2 * w))
    total = power.sum((1, 2))
    return (power * radius).sum((1, 2)) / np.where(total > 0, total, 1)


def opposite_pairs(units: np.ndarray, frequency: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts filters into pairs of opposites, from low to high frequency.

    The unpaired filter with the lowest frequency comes next, followed by the unpaired filter with
    the lowest cosine similarity to it. If their number is odd, the last one is alone.

    Args:
        units: [n, ...].
        frequency: [n].

    Returns:
        The indices of the filters in order, int [n]; and at each place, the cosine similarity of
        the filter to the other of its pair, float [n], or nan if it is alone.
    """
    flat = units.reshape(len(units), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = flat / np.where(norms > 0, norms, 1)
    similarity = flat @ flat.T
    left = list(np.argsort(frequency, kind="stable"))
    order, similarities = [], []
    while left:
        first = left.pop(0)
        if not left:
            order.append(first)
            similarities.append(np.nan)
            break
        second = left.pop(int(np.argmin(similarity[first, left])))
        order += [first, second]
        similarities += [similarity[first, second]] * 2
    return np.array(order, int), np.array(similarities)
