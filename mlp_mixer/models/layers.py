"""The layers of a Mixer, each written so that it compiles well for the platform.

Names, parameters and results are those of Flax's own layers. What differs is what XLA makes of them
and of their gradients (docs/lab/speed.md for CPUs and GPUs, docs/lab/tpu_compiler.md for TPUs).

The arithmetic of a layer is a function of arrays under jax.jit, so that layers of the same shape
are traced and differentiated once, however deep the model is; XLA inlines the calls. The modules
stay outside jax.jit, where Flax's interceptors and captured intermediates see every one of them.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mlp_mixer.models.product import product


def stored(x: jax.Array) -> jax.Array:
    """Returns x, which a GPU writes to memory in the dtype of x and nothing wider.

    Left to itself, XLA rounds what it computed in float32 to bfloat16 and also writes the float32
    array to memory, because another fusion reads it.
    """
    return jax.lax.platform_dependent(x, cuda=jax.lax.optimization_barrier, default=lambda x: x)


@jax.custom_jvp
def stored_gradient(x: jax.Array) -> jax.Array:
    """Returns x; its gradient goes through `stored`."""
    return x


@stored_gradient.defjvp
def _stored_gradient_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    return primals[0], stored(tangents[0])


@jax.custom_jvp
def plus(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds a bias [c] to x [..., c] in the dtype of x.

    The gradient of the bias is a sum over all rows, in float32 until it gets the dtype of the bias,
    and is computed in the way that is fastest on the platform.
    """
    return x + rows_of(bias.astype(x.dtype), x)


@plus.defjvp
def _plus_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x, bias), (dx, dbias) = primals, tangents
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    # Linear in dbias: for the gradient, JAX transposes it to a sum over all rows.
    dbias = jax.lax.platform_dependent(
        dbias.astype(jnp.float32),
        tpu=lambda dbias: on_all_rows_by_product(dbias, like),
        default=lambda dbias: on_all_rows(dbias, like),
    )
    return plus(x, bias), dx + dbias


def rows_of(row: jax.Array, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Broadcasts a row [c] to the shape [..., c] of `like`, even with rank promotion off."""
    return jax.lax.broadcast_in_dim(row, like.shape, (len(like.shape) - 1,))


def on_all_rows(bias: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Broadcasts a bias [c] to the shape [..., c] and dtype of `like`; its transpose is a sum."""
    return rows_of(bias, like).astype(like.dtype)


# With jax.checkpoint the transpose makes its own ones. If they were kept from the forward pass, the
# TPU's compiler would not see a constant, and a step would take 5 % longer.
@partial(jax.checkpoint, static_argnums=1, prevent_cse=False)
def on_all_rows_by_product(bias: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
    """Computes `on_all_rows` as a product with ones, whose transpose is a product, too.

    A TPU's matrix units compute it, which makes a training step 7 % shorter
    (docs/lab/tpu_compiler.md).
    """
    ones = jnp.ones((*like.shape[:-1], 1), bias.dtype)
    return (ones @ bias.reshape(1, -1)).astype(like.dtype)


class Dense(nn.Module):
    """The same as nn.Dense."""

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
    """Multiplies x [..., i] by a kernel [i, c] and adds a bias [c], in `dtype`."""
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=dtype)
    return stored_gradient(plus(product(x, kernel), bias))


class LayerNorm(nn.Module):
    """The same as nn.LayerNorm: computed in float32, with a result in `dtype`."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        return layer_norm(x, scale, bias, self.dtype)


@partial(jax.jit, static_argnums=3)
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, dtype: Any) -> jax.Array:
    """Normalises x [..., c] to mean 0 and variance 1 over c; applies scale [c] and bias [c]."""
    x = x.astype(jnp.float32)
    # The squares come before the mean, as in Flax: the other way round, XLA on CPU fuses a block's
    # gradient with those of all later blocks, and recomputes them for each block.
    squares = jax.lax.square(x)
    mean = x.mean(-1, keepdims=True)
    variance = jnp.maximum(0, squares.mean(-1, keepdims=True) - jax.lax.square(mean))
    y = (x - mean) * (jax.lax.rsqrt(variance + 1e-6) * rows_of(scale, x))
    return stored_gradient(plus(y, bias).astype(dtype))


class Stem(nn.Module):
    """Projects each patch of images [n, h, w, image_channels] to one of tokens [n, s, features].

    The same as nn.Conv with strides of the kernel's size. s runs over the patches in raster order.
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
        # On TPUs the strided convolution is faster, elsewhere a plain matrix product.
        tokens = jax.lax.platform_dependent(
            images, kernel, tpu=stem_by_convolution, default=stem_by_product
        )
        return stored_gradient(plus(tokens, bias))


def stem_by_convolution(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes tokens [n, s, c] from images [n, h, w, i] with a kernel [ph, pw, i, c]."""
    x = jax.lax.conv_general_dilated(
        images, kernel, kernel.shape[:2], "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x.reshape(x.shape[0], -1, x.shape[-1])  # n may be symbolic, see mlp_mixer.export


def stem_by_product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes the same tokens as a matrix product of flattened patches."""
    n, h, w, i = images.shape
    ph, pw = kernel.shape[:2]
    x = images.reshape(n, h // ph, ph, w // pw, pw, i).swapaxes(2, 3)
    x = x.reshape(n, (h // ph) * (w // pw), ph * pw * i)
    return product(x, kernel.reshape(ph * pw * i, -1))
