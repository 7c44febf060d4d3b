"""The two forms of the GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415), in float32."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from mlp_mixer.models.layers import stored


@jax.custom_jvp
def tanh_form(x: jax.Array) -> jax.Array:
    """Computes the tanh approximation, with which the released weights were trained.

    The values are those of jax.nn.gelu; the derivative takes fewer operations. XLA fuses it into a
    matrix product, and on TPUs it is what slows that product down.
    """
    return x * _cdf(x)


@tanh_form.defjvp
def _tanh_form_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    cdf = _cdf(x)
    slope = cdf + x * cdf * (1 - cdf) * (2 * _A + 6 * _B * x * x)
    return x * cdf, slope * dx


_A = math.sqrt(2 / math.pi)
_B = 0.044715 * _A


def _cdf(x: jax.Array) -> jax.Array:
    u = x * (_A + _B * x * x)
    # GPUs have an instruction for powers of 2 but none for an accurate tanh.
    return jax.lax.platform_dependent(u, cuda=by_sigmoid, default=by_tanh)


def by_tanh(u: jax.Array) -> jax.Array:
    """Computes (1 + tanh(u)) / 2."""
    return 0.5 + 0.5 * jnp.tanh(u)


def by_sigmoid(u: jax.Array) -> jax.Array:
    """Computes (1 + tanh(u)) / 2 as a sigmoid."""
    return jax.nn.sigmoid(2 * u)


Gelu = Literal["tanh", "exact"]
FORMS = {"tanh": tanh_form, "exact": partial(jax.nn.gelu, approximate=False)}


@partial(jax.jit, static_argnums=0)  # traced once per shape, as in models.layers
def in_float32(form: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Computes a form of the GELU in float32, and returns it in the dtype of x.

    Constants rounded to bfloat16 would make it another function. Only x is kept for the gradient:
    left to itself, XLA on GPUs would also keep the normal CDF of x, a float32 array as large as
    everything else that a block keeps.
    """
    return _in_float32(form, x)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _in_float32(form: Callable, x: jax.Array) -> jax.Array:
    return form(x.astype(jnp.float32)).astype(x.dtype)


@_in_float32.defjvp
def _in_float32_jvp(form: Callable, primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    def at(x: jax.Array) -> jax.Array:
        return form(x.astype(jnp.float32)).astype(x.dtype)

    @partial(jax.checkpoint, prevent_cse=False)  # `stored` prevents CSE where that helps
    def slope_times(x: jax.Array, dx: jax.Array) -> jax.Array:
        return jax.jvp(at, (stored(x),), (dx,))[1]

    return _in_float32(form, *primals), slope_times(*primals, *tangents)
