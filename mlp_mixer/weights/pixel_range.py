"""Weights that want other pixels than [-1, 1], made into weights that want [-1, 1]."""

from collections.abc import Sequence
from typing import Any

import numpy as np

RANGE = (-1.0, 1.0)  # of the pixels that every model here sees

Bound = float | Sequence[float]  # one for all channels, or one for each


def of_mean_and_std(mean: Sequence[float], std: Sequence[float]) -> list[Bound]:
    """The range in which pixels from [0, 1] lie after the mean is taken off and std divides."""
    means, deviations = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    bounds = ((pixel - means) / deviations for pixel in (0.0, 1.0))
    return [x.tolist()[0] if np.all(x == x.flat[0]) else x.tolist() for x in bounds]


def fold(stem: dict[str, Any], low: Bound, high: Bound) -> dict[str, Any]:
    """The stem that gives for pixels x in [-1, 1] what `stem` gives for them in [low, high].

    Those are x * scale + shift, and the stem is linear: with a kernel of scale times the old one
    and a bias larger by the sum of shift times it, the result is the same up to rounding.

    Args:
        stem: "kernel" [h, w, channels, c] and "bias" [c].
        low, high: what black and white are for it.

    Raises:
        ValueError: they are not numbers, one or as many as channels.
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
