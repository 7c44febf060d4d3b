"""Dropout and stochastic depth of which an image's share does not depend on its batch.

What is dropped of an image follows from the rng and from the image's row, its number in the batch
of all devices. So a batch can be cut into parts in any way, and every layer still works on all
images of a part at once; jax.vmap over images with a key each would do the same, but leads XLA to a
slower program for TPUs (docs/tpu_plans.md).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def training_rows(train: bool, rows: jax.Array | None, images: jax.Array) -> jax.Array | None:
    """What the layers of a model get as `rows`: None when nothing is to be dropped."""
    if not train:
        return None
    return jnp.arange(len(images), dtype=jnp.int32) if rows is None else rows


def keep(
    key: jax.Array, rows: jax.Array, rate: float | jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """bool [n, *shape], False with probability `rate`.

    Args:
        key: a jax.random key.
        rows: int [n].
        rate: probability of each element.
        shape: of an image's part.
    """

    def draw(row: jax.Array) -> jax.Array:
        share = jnp.float32(1 - rate)  # with jax_enable_x64, a float would be drawn in float64
        return jax.random.bernoulli(jax.random.fold_in(key, row), share, shape)

    return jax.vmap(draw)(rows)


class Dropout(nn.Module):
    """nn.Dropout with `rows` int [n] in place of `deterministic`; None drops nothing."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, rows: jax.Array | None) -> jax.Array:
        if rows is None or self.rate == 0.0:
            return x
        kept = keep(self.make_rng("dropout"), rows, self.rate, x.shape[1:])
        return jnp.where(kept, x / (1 - self.rate), 0)
