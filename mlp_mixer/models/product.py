"""Matrix products in bfloat16 at the speed of a CPU's bfloat16 instructions.

On a CPU, XLA's products of bfloat16 matrices are no faster than those of float32, whatever the CPU
can do, unless they have one of two forms: the rows of the left factor, as they lie in memory, times
the columns or the rows of the right one, with a result in float32 that is rounded afterwards. In
these forms they are about twice as fast where the CPU has such instructions, in jax 0.7 to 0.10;
from 0.12 on this is true of the kernel's gradient only (figures are in docs/lab/speed.md). JAX
writes the products of the gradient in other forms, hence the primitive below: a bilinear one, whose
transposes are products of the same two forms. It has derivatives of all orders, forward and
reverse.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies x [..., i] by a kernel [i, c] of the same dtype.

    Sums are in float32 or wider; the result [..., c] has the dtype of the factors.
    """
    if x.dtype != jnp.bfloat16:
        return x @ kernel
    return jax.lax.platform_dependent(x, kernel, cpu=_on_cpu, default=jnp.matmul)


def _on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = _times(x.reshape(-1, x.shape[-1]), kernel)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


# [m, i] times [i, c], or by_rows: times the transpose of [c, i]
_product = Primitive("bfloat16_product")


def _times(x: jax.Array, kernel: jax.Array, by_rows: bool = False) -> jax.Array:
    return _product.bind(x, kernel, by_rows=by_rows)


@partial(jax.jit, static_argnames="by_rows")
def _computed(x: jax.Array, kernel: jax.Array, *, by_rows: bool) -> jax.Array:
    contracted = ((1,), (1 if by_rows else 0,)), ((), ())
    y = jax.lax.dot_general(x, kernel, contracted, preferred_element_type=jnp.float32)
    return y.astype(jnp.bfloat16)


def _shaped(x: ShapedArray, kernel: ShapedArray, *, by_rows: bool) -> ShapedArray:
    return x.update(shape=(x.shape[0], kernel.shape[0 if by_rows else 1]))


def _batched(operands: tuple, axes: tuple, *, by_rows: bool) -> tuple[jax.Array, int]:
    """Takes images that are mapped over as more rows, as in per-example gradients."""
    x, kernel = operands
    if axes[1] is None:
        x = jnp.moveaxis(x, axes[0], 0)
        y = _times(x.reshape(-1, x.shape[-1]), kernel, by_rows)
        return y.reshape(*x.shape[:-1], -1), 0
    # XLA has no such form for many kernels.
    return jax.vmap(lambda x, kernel: x @ (kernel.T if by_rows else kernel), axes)(x, kernel), 0


def _transposed(x: jax.Array) -> jax.Array:
    """Transposes a matrix in memory: XLA would make a plain transpose a part of the product."""
    m, i = x.shape
    pairs = jnp.pad(x, ((0, m % 2), (0, 0))).reshape(-1, 2, i)
    return pairs.transpose(2, 0, 1).reshape(i, -1)[:, :m]


def _product_of_columns(x: jax.Array, y: jax.Array) -> jax.Array:
    """Multiplies the transpose of x [m, i] by y [m, c]; the narrower of the two is transposed."""
    if x.shape[1] > y.shape[1]:
        return _transposed(_product_of_columns(y, x))
    return _times(_transposed(x), y)


def _gradient_of_x(
    gradient: jax.Array, x: jax.Array, kernel: jax.Array, *, by_rows: bool
) -> jax.Array:
    return _times(gradient, kernel, not by_rows)


def _gradient_of_kernel(
    gradient: jax.Array, x: jax.Array, kernel: jax.Array, *, by_rows: bool
) -> jax.Array:
    return _product_of_columns(gradient, x) if by_rows else _product_of_columns(x, gradient)


_product.def_impl(_computed)
_product.def_abstract_eval(_shaped)
mlir.register_lowering(_product, mlir.lower_fun(_computed, multiple_results=False))
batching.primitive_batchers[_product] = _batched
ad.defbilinear(_product, _gradient_of_x, _gradient_of_kernel)
