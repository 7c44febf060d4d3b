"""The two forms of the GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415), in float32."""

import math
from functools import partial

import jax
import jax.numpy as jnp


@jax.custom_jvp
def tanh_form(x: jax.Array) -> jax.Array:
    """The approximation that the released weights were trained with.

    It is jax.nn.gelu with a derivative of fewer operations: XLA computes that inside a matrix
    product, and on TPUs it is what holds the product up.
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
    return 0.5 + 0.5 * jnp.tanh(x * (_A + _B * x * x))


FORMS = {"tanh": tanh_form, "exact": partial(jax.nn.gelu, approximate=False)}
