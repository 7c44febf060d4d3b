"""From pixels, as images store them, to what a model makes of them."""

from typing import Any

import jax
import jax.numpy as jnp


def normalise(images: jax.Array) -> jax.Array:
    """Maps pixels uint8 [..., c] to float32 in [-1, 1], which the published weights expect."""
    return images.astype(jnp.float32) / 127.5 - 1


def forward(module: Any, params: Any, images: jax.Array, parts: int = 1) -> jax.Array:
    """Computes a model's float32 logits [n, k] for images uint8 [n, h, w, c], without dropout.

    A module without a head gives its pooled features [n, c] instead. The images are computed in so
    many equal parts, one after the other; see `models.parts`.
    """
    if parts > 1:
        split = images.reshape(parts, -1, *images.shape[1:])
        found = jax.lax.map(lambda part: forward(module, params, part), split)
        return found.reshape(-1, found.shape[-1])
    return module.apply({"params": params}, normalise(images))
