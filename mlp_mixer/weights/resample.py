"""Resamples token-mixing weights to another grid of patches, and the stem to another patch size.

For each channel, token mixing sees a field over the image: one value for each of the S patches of
the grid. On another grid, of S' patches, the same field is sampled at other places. For the MLP to
do the same with it, each of its filters has to be the same function of the place in the image:

    Dense_0/kernel [S, D_S]  sums over places: k' = (S / S') R k      Dense_0/bias  unchanged
    Dense_1/kernel [D_S, S]  writes at places: k' = k R^T             Dense_1/bias  b' = R b

R [S', S] is the cubic resizing used for images and position embeddings. The hidden units stay the
same. The factor S / S' is that of a Riemann sum: with more patches, each covers a smaller part of
the image. docs/reference/input_size.md derives this and shows filters, docs/lab/input_size.md
compares it with other choices.
"""

from typing import Any

import numpy as np


def token_mixing(mlp: dict[str, Any], old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any]:
    """Resamples the parameters of a token-mixing MLP to another grid.

    Args:
        mlp: {"Dense_0": {"kernel", "bias"}, "Dense_1": ...}, with tokens in raster order.
        old: the parameters' grid, (rows, columns) of patches.
        new: the grid wanted, likewise.
    """
    resize = np.kron(cubic(old[0], new[0]), cubic(old[1], new[1]))
    per_patch = resize.shape[1] / resize.shape[0]
    d0, d1 = mlp["Dense_0"], mlp["Dense_1"]
    return {
        "Dense_0": {
            "kernel": _as(d0["kernel"], per_patch * resize @ d0["kernel"]),
            "bias": d0["bias"],
        },
        "Dense_1": {
            "kernel": _as(d1["kernel"], d1["kernel"] @ resize.T),
            "bias": _as(d1["bias"], resize @ d1["bias"]),
        },
    }


def cubic(old: int, new: int) -> np.ndarray:
    """Returns cubic resizing of a line as a float64 matrix [new, old] whose rows sum to 1.

    Samples lie at the centres of `old` and `new` equal cells of the same line. The kernel is Keys'
    with a = -1/2; to fewer samples it is widened by old / new, so that detail which the new samples
    cannot represent is averaged away. jax.image.resize does the same.
    """
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    x = np.abs(centres[:, None] - np.arange(old)) / max(old / new, 1)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


def linear(old: int, new: int) -> np.ndarray:
    """Returns linear interpolation along a line as a matrix [new, old]; samples as in `cubic`."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))


def stem(kernel: np.ndarray, patch_size: tuple[int, int]) -> np.ndarray:
    """Resizes a stem kernel [h, w, c_in, c_out] to another patch size, as FlexiViT does.

    With B the linear interpolation of a patch x to the new size, this is the kernel whose response
    to B x is closest to the old response to x, on average over white noise x: pinv(B)^T k. For
    larger patches the responses are equal. (Beyer et al. 2023, arXiv 2212.08013, section 3.4.)
    """
    rows, columns = (
        np.linalg.pinv(linear(old, new)) for old, new in zip(kernel.shape, patch_size, strict=False)
    )
    return _as(kernel, np.einsum("ip,jq,ijco->pqco", rows, columns, kernel))


def _as(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return new.astype(old.dtype)
