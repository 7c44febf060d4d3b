"""Dropout and stochastic depth that treat an image the same in whatever batch it is.

What is dropped of an image follows from the rng and from the image's row, its number in the global
batch. So a batch can be split in any way, and every layer still works on all images of a part at
once. jax.vmap over images with a key each would do the same, but XLA makes a slower program of it
for TPUs (docs/lab/tpu_compiler.md).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def training_rows(train: bool, rows: jax.Array | None, images: jax.Array) -> jax.Array | None:
    """Returns the `rows` for a model's layers, int32 [n]; None if nothing is to be dropped."""
    if not train:
        return None
    return jnp.arange(len(images), dtype=jnp.int32) if rows is None else rows


def keep(
    key: jax.Array, rows: jax.Array, rate: float | jax.Array, shape: tuple[int, ...]
) -> jax.Array:
    """Draws a mask bool [n, *shape] that is False with probability `rate`.

    Args:
        key: a jax.random key.
        rows: int [n], the images' numbers in the global batch.
        rate: probability that an element is dropped.
        shape: shape of one image's mask.
    """

    def draw(row: jax.Array) -> jax.Array:
        share = jnp.float32(1 - rate)  # a Python float would be drawn in float64 under x64
        return jax.random.bernoulli(jax.random.fold_in(key, row), share, shape)

    return jax.vmap(draw)(rows)


class Dropout(nn.Module):
    """The same as nn.Dropout, with `rows` int [n] for `deterministic`; None drops nothing.

    `scale`, float32, multiplies the rate; it may depend on the step.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: jax.Array, rows: jax.Array | None, scale: jax.Array | None = None
    ) -> jax.Array:
        if rows is None or self.rate == 0.0:
            return x
        rate = self.rate if scale is None else self.rate * scale
        kept = keep(self.make_rng("dropout"), rows, rate, x.shape[1:])
        return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
