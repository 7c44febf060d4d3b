"""Products in bfloat16 on a CPU are fast in every derivative, and the same numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models.product import product


def random(*shape):
    return jax.random.normal(jax.random.key(len(shape)), shape).astype(jnp.bfloat16)


def loss(x, kernel):
    return jnp.sin(product(x, kernel).astype(jnp.float32)).sum()


def plain_loss(x, kernel):
    return jnp.sin((x @ kernel).astype(jnp.float32)).sum()


def test_a_product_is_rounded_once():
    x, kernel = random(4, 6, 8), random(8, 10)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    found = jax.jit(product)(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=2**-8, atol=1e-6)


DERIVATIVES = {
    "reverse": lambda f: jax.grad(f, (0, 1)),
    "forward": lambda f: jax.jacfwd(f, (0, 1)),
    "forward of reverse": lambda f: jax.jacfwd(jax.grad(f, 1), 1),
    "reverse of reverse": lambda f: jax.jacrev(jax.grad(f, 1), 1),
    "forward of forward": lambda f: jax.jacfwd(jax.jacfwd(f, 0), 1),
    "rematerialised": lambda f: jax.grad(jax.checkpoint(f), (0, 1)),
    "of each example": lambda f: jax.vmap(jax.grad(f, (0, 1)), (0, None)),
    "of each kernel": lambda f: lambda x, w: jax.vmap(jax.grad(f), (None, 0))(x, w[None]),
}


@pytest.mark.slow
@pytest.mark.parametrize("order", DERIVATIVES)
# An even and an odd number of rows are transposed differently, a narrow and a wide kernel, too.
@pytest.mark.parametrize(("rows", "width"), [(6, 2), (5, 6)])
def test_derivatives_of_all_orders_are_those_of_jax(order, rows, width):
    x, kernel = random(3, rows, 4), random(4, width)
    derive = DERIVATIVES[order]
    found, expected = (jax.jit(derive(f))(x, kernel) for f in (loss, plain_loss))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.abs(b).max())
        np.testing.assert_allclose(
            a.astype(jnp.float32), b.astype(jnp.float32), rtol=2**-6, atol=2**-7 * largest
        )


def test_all_three_products_of_a_step_have_a_fast_form():
    # What XLA on a CPU computes with instructions for bfloat16: rows of the left factor times
    # columns or rows of the right one, into float32.
    shapes = random(4, 6, 8), random(8, 10)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(*shapes).as_text()
    products = re.findall(r"dot_general .*", text)
    forms = sorted(re.search(r"contracting_dims = (\S+ x \S+),", found)[1] for found in products)
    assert forms == ["[1] x [0]", "[1] x [0]", "[1] x [1]"]  # y, gradients of the kernel and of x
    for found in products:
        assert re.search(r"\(tensor<\w+xbf16>, tensor<\w+xbf16>\) -> tensor<\w+xf32>", found)
    assert not re.search(r"stablehlo.transpose .*\[1, 0\]", text)  # XLA would fold it into them


@pytest.mark.parametrize(("width", "left"), [(2, "2x24"), (10, "8x24")])
def test_of_two_factors_the_narrower_is_transposed(width, left):
    # The kernel's gradient is the transpose of x times that of the result, or vice versa.
    text = jax.jit(jax.grad(loss, 1)).lower(random(24, 8), random(8, width)).as_text()
    assert f"(tensor<{left}xbf16>," in re.findall(r"dot_general .*", text)[-1]


def test_other_devices_get_the_plain_product():
    shapes = random(4, 8), random(8, 10)
    for platform in ("tpu", "cuda"):
        found, plain = (
            jax.jit(jax.grad(f, (0, 1))).trace(*shapes).lower(lowering_platforms=(platform,))
            for f in (loss, plain_loss)
        )
        forms = [
            sorted(re.sub(r"%\w+(#\d)?", "", form) for form in re.findall("dot_general.*", text))
            for text in (found.as_text(), plain.as_text())
        ]
        assert forms[0] == forms[1]
        assert len(forms[0]) == 3


def test_float32_is_left_to_jax():
    x = jnp.ones((2, 3))
    assert "bfloat16" not in str(jax.make_jaxpr(product)(x, jnp.ones((3, 4))))
