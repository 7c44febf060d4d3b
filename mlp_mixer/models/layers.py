"""The layers that a Mixer is made of, each in the form that suits the platform.

They have the names, the parameters and the results of Flax's own. What is different is what XLA
makes of them and of their gradients (docs/speed.md for CPUs and GPUs, docs/tpu_plans.md for TPUs).

What a layer computes is a function of arrays under jax.jit, so that all layers of a shape are
traced and differentiated once, however deep the model is; XLA inlines them. The modules stay
outside, where interceptors, captures and whatever else Flax does with modules see every one.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def stored(x: jax.Array) -> jax.Array:
    """x; on a GPU read from and written to memory as it is.

    Left to itself, XLA rounds what it computed in float32 to bfloat16 and, because another fusion
    wants it too, writes the float32 array as well.
    """
    return jax.lax.platform_dependent(x, cuda=jax.lax.optimization_barrier, default=lambda x: x)


@jax.custom_jvp
def stored_gradient(x: jax.Array) -> jax.Array:
    """x, the gradient of which is `stored`."""
    return x


@stored_gradient.defjvp
def _stored_gradient_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return primals[0], stored(tangents[0])


@jax.custom_jvp
def plus(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [..., c] + bias [c] in the dtype of x; the bias has a gradient that suits the platform.

    That gradient is a sum over all rows, and is float32 until it gets the dtype of the bias.
    """
    return x + rows_of(bias.astype(x.dtype), x)


@plus.defjvp
def _plus_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x, bias), (dx, dbias) = primals, tangents
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    # Linear in dbias. JAX transposes it for the gradient, to a sum over all rows.
    dbias = jax.lax.platform_dependent(
        dbias.astype(jnp.float32),
        tpu=lambda dbias: on_all_rows_by_product(dbias, like),
        default=lambda dbias: on_all_rows(dbias, like),
    )
    return plus(x, bias), dx + dbias


def rows_of(row: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """[c] as [..., c] of the shape of `like`; written out for jax_numpy_rank_promotion."""
    return jax.lax.broadcast_in_dim(row, like.shape, (len(like.shape) - 1,))


def on_all_rows(bias: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """A bias [c] in the shape [..., c] and the dtype of `like`; its transpose is a sum."""
    return rows_of(bias, like).astype(like.dtype)


# The transpose must make the ones for itself, as jax.checkpoint has it do. Kept from the forward
# pass they are no constant to a TPU's compiler, and a step takes 5 % longer.
@partial(jax.checkpoint, static_argnums=1, prevent_cse=False)
def on_all_rows_by_product(bias: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """The same as a product with ones; its transpose is one, too, for a TPU's matrix units.

    It makes a training step 7 % shorter in all layers together (docs/tpu_plans.md).
    """
    ones = jnp.ones((*like.shape[:-1], 1), bias.dtype)
    return (ones @ bias.reshape(1, -1)).astype(like.dtype)


class Dense(nn.Module):
    """As nn.Dense."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape[1:], jnp.float32)
        return dense(x, kernel, bias, self.dtype)


@partial(jax.jit, static_argnums=3)
def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: Any) -> jax.Array:
    """x [..., i] times a kernel [i, c] plus a bias [c], in `dtype`."""
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=dtype)
    return stored_gradient(plus(x @ kernel, bias))


class LayerNorm(nn.Module):
    """As nn.LayerNorm: in float32 inside, the result in `dtype`."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return layer_norm(x, scale, bias, self.dtype)


@partial(jax.jit, static_argnums=3)
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: Any) -> jax.Array:
    """x [..., c] with mean 0 and variance 1 over its last axis, times scale plus bias."""
    x = x.astype(jnp.float32)
    # The squares come first, as in flax: the other way round, XLA on CPU fuses the gradient of a
    # block with those of all blocks after it, and computes them again for each block.
    squares = jax.lax.square(x)
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum(0, squares.mean(-1, keepdims=True) - jax.lax.square(mean))
    y = (x - mean) * (jax.lax.rsqrt(variance + 1e-6) * rows_of(scale, x))
    return stored_gradient(plus(y, bias).astype(dtype))


class Stem(nn.Module):
    """Images [n, h, w, image_channels] to tokens [n, s, features], a token for each patch.

    As nn.Conv with strides of the kernel's size. s runs over the patches in raster order.
    """

    features: int
    patch_size: tuple[int, int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        shape = (*self.patch_size, images.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape[-1:], jnp.float32)
        images, kernel = nn.dtypes.promote_dtype(images, kernel, dtype=self.dtype)
        # A TPU's compiler knows strided convolutions; elsewhere a plain product is faster.
        tokens = jax.lax.platform_dependent(
            images, kernel, tpu=stem_by_convolution, default=stem_by_product
        )
        return stored_gradient(plus(tokens, bias))


def stem_by_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Tokens [n, s, c] of images [n, h, w, i] for a kernel [ph, pw, i, c]."""
    x = jax.lax.conv_general_dilated(
        images, kernel, kernel.shape[:2], "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x.reshape(x.shape[0], -1, x.shape[-1])  # n may be symbolic, see mlp_mixer.export


def stem_by_product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as a product of flattened patches."""
    n, h, w, i = images.shape
    ph, pw = kernel.shape[:2]
    x = images.reshape(n, h // ph, ph, w // pw, pw, i).swapaxes(2, 3)
    return x.reshape(n, (h // ph) * (w // pw), ph * pw * i) @ kernel.reshape(ph * pw * i, -1)
