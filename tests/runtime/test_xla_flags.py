"""Products of matrices on CPUs, with every supported jaxlib."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.runtime import xla_flags

X = np.random.default_rng(0).normal(size=(98, 512)).astype("f4")


def test_a_product_is_one_with_the_weights_that_are_there_now():
    product = jax.jit(jnp.matmul)
    for seed in range(6):  # the arrays lie at the same address, one after another
        weights = np.random.default_rng(seed).normal(size=(512, 2048)).astype("f4")
        np.testing.assert_allclose(product(X, weights), X @ weights, atol=1e-3, rtol=1e-4)


def test_an_update_in_place_is_seen_by_the_next_step():
    def loss(weights):
        return jnp.square(X @ weights).mean()

    step = jax.jit(lambda w: (w - 0.1 * jax.grad(loss)(w), loss(w)), donate_argnums=0)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(512, 2048)).astype("f4"))
    for _ in range(4):
        wanted = np.square(X @ np.array(weights)).mean()
        weights, found = step(weights)
        assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    ("jaxlib", "flags"),
    [
        ("0.7.2", "--xla_cpu_use_xnnpack=false --mine"),
        ("0.8.1", "--xla_cpu_use_xnnpack=false --mine"),
        ("0.9.0", "--mine"),
        ("0.12.0.1", "--mine"),
        ("1.0", "--mine"),
    ],
)
def test_only_an_old_jaxlib_is_told_to_multiply_otherwise(monkeypatch, jaxlib, flags):
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    monkeypatch.setattr(xla_flags, "version", lambda package: jaxlib)
    xla_flags.avoid_stale_products()
    assert xla_flags.os.environ["XLA_FLAGS"] == flags
