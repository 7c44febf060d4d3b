"""From pixels, as images store them, to what a model makes of them."""

from typing import Any

import jax
import jax.numpy as jnp


def normalise(images: jax.Array) -> jax.Array:
    """Maps pixels uint8 [..., c] to float32 in [-1, 1], which the published weights expect."""
    return images.astype(jnp.float32) / 127.5 - 1


def forward(module: Any, params: Any, images: jax.Array) -> jax.Array:
    """Computes a model's float32 logits [n, k] for images uint8 [n, h, w, c], without dropout.

    A module without a head gives its pooled features [n, c] instead.
    """
    return module.apply({"params": params}, normalise(images))
