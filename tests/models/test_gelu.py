"""Our GELU against jax.nn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models.gelu import FORMS, in_float32


@pytest.mark.parametrize("form", FORMS)
def test_it_is_jax_nn_gelu_with_all_its_derivatives(form):
    ours, theirs = FORMS[form], lambda x: jax.nn.gelu(x, approximate=form == "tanh")
    x = jnp.linspace(-8, 8, 1001)
    for _ in range(3):  # the function, its slope, the slope's slope
        np.testing.assert_allclose(jax.vmap(ours)(x), jax.vmap(theirs)(x), atol=2e-5)
        ours, theirs = jax.grad(ours), jax.grad(theirs)
    tangents = (jnp.ones(1001),)
    np.testing.assert_allclose(
        jax.jvp(FORMS[form], (x,), tangents)[1], jax.vmap(jax.grad(FORMS[form]))(x), atol=1e-6
    )


@pytest.mark.parametrize("form", FORMS)
def test_of_bfloat16_it_is_the_float32_result_rounded_once(form):
    x = jnp.linspace(-6, 6, 2001).astype(jnp.bfloat16)
    exact = jax.jit(FORMS[form])(x.astype(jnp.float32))
    np.testing.assert_array_equal(in_float32(FORMS[form], x), exact.astype(jnp.bfloat16))
    # Where bfloat16 is exact to a third digit, arithmetic in it would be off by several.
    assert not np.array_equal(FORMS[form](x), exact.astype(jnp.bfloat16))


def test_the_tanh_form_is_the_papers_formula():
    x = np.linspace(-6, 6, 2001)
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(FORMS["tanh"](jnp.asarray(x, jnp.float32)), expected, atol=2e-6)
