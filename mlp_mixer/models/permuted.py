"""A model that sees every image with its pixels permuted, as in section 3.4 of the paper."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mlp_mixer.models.checks import as_pair, tile

ORDERS = ("patches", "pixels")


class Permuted(nn.Module):
    """Another model behind a fixed permutation of the pixels, the same for all images.

    The permutation comes after everything that is done to images on the host, such as crops and
    flips, and acts in training and evaluation alike. The parameters keep the model's own names.

    Attributes:
        model: the model; see `models.mixer.MlpMixer` for its interface.
        order: "patches" shuffles the patches, and the pixels inside all patches in one and the same
            way; "pixels" shuffles the pixels of the whole image.
        patch_size: (height, width) in pixels of the patches that are shuffled.
        seed: seed of the permutation.
    """

    model: Any
    order: str
    patch_size: tuple[int, int]
    seed: int = 0

    def setup(self):
        nn.share_scope(self, self.model)

    def __call__(self, images: jax.Array, **options: Any) -> Any:
        """Returns what the model returns for the permuted images [n, h, w, c]."""
        if images.shape[1:3] == self.image_size:  # otherwise the model refuses them
            images = permute(images, self.pixel_order())
        return self.model(images, **options)

    def pixel_order(self) -> np.ndarray:
        """Returns int [h * w]: which pixel goes to each place, both in raster order."""
        return make_order(self.order, self.image_size, self.patch_size, self.seed)

    def clone(self, **changes: Any) -> "Permuted":
        """Copies the module as nn.Module.clone does; num_classes and dtype change the model's."""
        inner = {name: changes.pop(name) for name in ("num_classes", "dtype") if name in changes}
        if inner:
            changes["model"] = self.model.clone(**inner)
        return super().clone(**changes)

    @property
    def num_classes(self) -> int:
        return self.model.num_classes

    @property
    def image_size(self) -> tuple[int, int]:
        return self.model.image_size

    @property
    def dtype(self) -> Any:
        return self.model.dtype

    @property
    def image_channels(self) -> int:
        return self.model.image_channels


def permute(images: jax.Array, order: np.ndarray) -> jax.Array:
    """Reorders the pixels of images [n, h, w, c]; for `order` see `Permuted.pixel_order`."""
    n, h, w, c = images.shape
    return images.reshape(n, h * w, c)[:, order].reshape(images.shape)


def make_order(
    order: str, image_size: tuple[int, int], patch_size: int | tuple[int, int], seed: int
) -> np.ndarray:
    """Makes the permutation int [h * w] that an order's name stands for; see `Permuted`.

    Raises:
        ValueError: the name is unknown, or the patches do not tile the image.
    """
    rng = np.random.default_rng(seed)
    h, w = image_size
    if order == "pixels":
        return rng.permutation(h * w)
    if order != "patches":
        raise ValueError(f"unknown order of pixels {order!r}; use {' or '.join(ORDERS)}")
    ph, pw = as_pair(patch_size)
    rows, columns = tile(image_size, (ph, pw))
    return patch_order(
        image_size, (ph, pw), rng.permutation(rows * columns), rng.permutation(ph * pw)
    )


def patch_order(
    image_size: tuple[int, int],
    patch_size: tuple[int, int],
    patches: np.ndarray,
    inside: np.ndarray,
) -> np.ndarray:
    """Returns the pixel order int [h * w] that moves patches, and the pixels inside each.

    Args:
        image_size: (height, width).
        patch_size: (height, width); patches must tile the image.
        patches: int [s], which patch goes to each place, in raster order.
        inside: int [p], which pixel of a patch goes to each place in it.
    """
    (h, w), (ph, pw) = image_size, patch_size
    pixels = np.arange(h * w).reshape(h // ph, ph, w // pw, pw).swapaxes(1, 2)  # patches first
    pixels = pixels.reshape(-1, ph * pw)[patches][:, inside]
    return pixels.reshape(h // ph, w // pw, ph, pw).swapaxes(1, 2).reshape(-1)
