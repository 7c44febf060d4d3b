"""Our GELU against jax.nn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models.gelu import FORMS


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
