"""Mixup against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.training.mixup import Mixup

pytestmark = pytest.mark.slow


def mixed(mixup, n=8, seed=0):
    """(own, partner, share) of a batch whose row r holds the number r."""
    numbers = jnp.arange(n).reshape(4, -1)
    batch = {"image": numbers, "label": numbers, "row": numbers}

    def partners(batch):
        return mixup.partners(batch, jax.random.key(seed), "device")

    found = jax.jit(jax.vmap(partners, axis_name="device"))(batch)
    return jax.tree.map(lambda x: np.asarray(x).reshape(n), found)


@pytest.mark.parametrize("per_example", [False, True])
def test_the_partner_is_the_row_before_it_in_the_global_batch(per_example):
    found = mixed(Mixup(0.5, per_example))  # over four devices of two rows
    assert found["partner_image"].tolist() == [7, 0, 1, 2, 3, 4, 5, 6]
    assert found["partner_label"].tolist() == [7, 0, 1, 2, 3, 4, 5, 6]


def test_a_batch_has_one_share_or_each_example_its_own():
    assert len(set(mixed(Mixup(0.5))["share"].tolist())) == 1
    assert len(set(mixed(Mixup(0.5, per_example=True))["share"].tolist())) == 8
    assert mixed(Mixup(0.5), seed=0)["share"][0] != mixed(Mixup(0.5), seed=1)["share"][0]


def test_shares_follow_a_beta_distribution_folded_at_a_half():
    n, p = 20_000, 0.5
    shares = mixed(Mixup(p, per_example=True), n=n)["share"]
    assert shares.min() >= 0.5
    expected = np.random.default_rng(0).beta(p, p, n)
    expected = np.maximum(expected, 1 - expected)
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(
        np.quantile(shares, quantiles), np.quantile(expected, quantiles), atol=0.01
    )


def test_mixing_is_linear_and_keeps_the_sum_of_the_labels():
    rng = np.random.default_rng(0)
    own, partner = rng.random((2, 4, 3, 3, 1), np.float32)
    share = jnp.array([1.0, 0.5, 0.75, 0.6])
    result = Mixup(0.2).mix(own, partner, share)
    for row in range(4):
        expected = share[row] * own[row] + (1 - share[row]) * partner[row]
        np.testing.assert_allclose(result[row], expected, rtol=1e-6)
    labels = Mixup(0.2).mix(jnp.eye(4), jnp.roll(jnp.eye(4), 1, 0), share)
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
