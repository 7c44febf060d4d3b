"""Adapts weights that expect pixels in another range to pixels in [-1, 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np

RANGE = (-1.0, 1.0)  # the pixels that every model here sees

Bound = float | Sequence[float]  # one for all channels, or one for each


def of_mean_and_std(mean: Sequence[float], std: Sequence[float]) -> list[Bound]:
    """Computes the range of (x - mean) / std for pixels x in [0, 1], as (low, high)."""
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    bounds = ((pixel - means) / deviations for pixel in (0.0, 1.0))
    return [x.tolist()[0] if np.all(x == x.flat[0]) else x.tolist() for x in bounds]


def fold(stem: dict[str, Any], low: Bound, high: Bound) -> dict[str, Any]:
    """Makes a stem that gives for pixels in [-1, 1] what `stem` gives for pixels in [low, high].

    A pixel x in [-1, 1] is x * scale + shift in [low, high], and the stem is linear. So the kernel
    is multiplied by scale, and the sum of shift times the old kernel is added to the bias; the
    result is the same up to rounding.

    Args:
        stem: "kernel" [h, w, channels, c] and "bias" [c].
        low, high: the values of black and white that it expects.

    Raises:
        ValueError: a bound is neither one number nor one for each channel.
    """
    kernel = stem["kernel"].astype(np.float64)
    try:
        lows, highs = (
            np.broadcast_to(np.asarray(x, np.float64), kernel.shape[2]) for x in (low, high)
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"pixels from {low} to {high} are no range for {kernel.shape[2]} channels"
        ) from error
    if np.all(lows == RANGE[0]) and np.all(highs == RANGE[1]):
        return stem
    scale, shift = (highs - lows) / 2, (highs + lows) / 2
    bias = stem["bias"] + (kernel * shift[:, None]).sum((0, 1, 2))
    return {
        "kernel": (kernel * scale[:, None]).astype(np.float32),
        "bias": bias.astype(np.float32),
    }
