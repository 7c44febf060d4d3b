"""Pixels as images store them, and as the models see them."""

import jax
import jax.numpy as jnp


def normalise(images: jax.Array) -> jax.Array:
    """Maps pixels uint8 [..., c] to float32 in [-1, 1], which the published weights expect."""
    return images.astype(jnp.float32) / 127.5 - 1
