"""Mixup and CutMix against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.training.mixup import Mixup

from ..conftest import x64

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


def cut(mixup, n=8, size=(12, 10), seed=0):
    """(images, partners' draws, mixed images) of a batch whose row r holds the number r."""
    images = jnp.broadcast_to(jnp.arange(n, dtype=jnp.float32)[:, None, None, None], (n, *size, 1))

    def mix(batch):
        drawn = mixup.partners(batch, jax.random.key(seed), "device")
        return drawn, mixup.mix_images(batch["image"], drawn["partner_image"], drawn)

    numbers = jnp.arange(n).reshape(4, -1)
    batch = {"image": images.reshape(4, -1, *size, 1), "label": numbers, "row": numbers}
    found = jax.jit(jax.vmap(mix, axis_name="device"))(batch)
    return jax.tree.map(lambda x: np.asarray(x).reshape(n, *x.shape[2:]), found)


@pytest.mark.parametrize("per_example", [False, True])
def test_cutmix_puts_a_rectangle_of_the_partner_in(per_example):
    drawn, images = cut(Mixup(0, per_example, cutmix=1.0, cutmix_probability=1.0), n=64)
    for row, (image, share) in enumerate(zip(images[..., 0], drawn["share"], strict=True)):
        theirs = image == (row - 1) % 64
        assert (theirs | (image == row)).all()
        np.testing.assert_allclose(share, 1 - theirs.mean(), atol=1e-6)  # of the label
        rows, columns = np.flatnonzero(theirs.any(1)), np.flatnonzero(theirs.any(0))
        assert theirs.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) if len(rows) else True
    assert len({tuple(box) for box in drawn["box"]}) > 30 or not per_example
    assert len({tuple(box) for box in drawn["box"]}) == 1 or per_example


def test_cutmix_draws_boxes_as_its_authors_do():
    """Centres uniform over the image, areas Beta(1, 1), cut off at the borders: by NumPy."""
    n, (h, w) = 20_000, (32, 24)
    drawn, _ = cut(Mixup(0, True, 1.0, 1.0), n=n, size=(h, w))
    top, bottom, left, right = drawn["box"].T
    rng = np.random.default_rng(0)
    length = np.sqrt(1 - rng.beta(1, 1, n))
    y, x = rng.integers(0, h, n), rng.integers(0, w, n)
    tall, wide = (h * length).astype(int) // 2, (w * length).astype(int) // 2
    theirs = np.clip([y - tall, y + tall], 0, h), np.clip([x - wide, x + wide], 0, w)
    for ours, expected in zip((top, bottom, left, right), np.concatenate(theirs), strict=True):
        quantiles = np.linspace(0.05, 0.95, 19)
        np.testing.assert_allclose(
            np.quantile(ours, quantiles), np.quantile(expected, quantiles), atol=1
        )
        assert abs(ours.mean() - expected.mean()) < 0.3


def test_cutmix_takes_turns_with_mixup():
    drawn, images = cut(Mixup(0.8, True, 1.0, 0.25), n=4000, size=(8, 8))
    has_box = (drawn["box"] != 0).any(1)
    assert abs(has_box.mean() - 0.25) < 0.03
    own, partner = np.arange(4000), np.roll(np.arange(4000), 1)
    share = drawn["share"]
    blended = share * own + (1 - share) * partner
    np.testing.assert_allclose(images[~has_box, 3, 3, 0], blended[~has_box], rtol=1e-5)
    assert (np.isin(images[has_box], np.arange(4000))).all()
    assert share[~has_box].min() >= 0.5 > share[has_box].min()
    # What mixup draws does not depend on whether there is CutMix.
    alone = mixed(Mixup(0.8, True), n=4000)["share"]
    np.testing.assert_array_equal(alone[~has_box], share[~has_box])


def test_cutmix_alone_leaves_images_between_its_turns():
    drawn, images = cut(Mixup(0, True, 1.0, 0.5), n=400)
    untouched = (images[..., 0] == np.arange(400)[:, None, None]).all((1, 2))
    assert 0.4 < untouched.mean() < 0.65 and (drawn["share"][untouched] == 1).all()


def test_cutmix_draws_the_same_with_x64():
    mixup = Mixup(0.8, True, 1.0, 0.5)
    here = cut(mixup, n=64)[0]
    with x64():
        there = cut(mixup, n=64)[0]
    for name in ("box", "share"):
        np.testing.assert_array_equal(here[name], there[name])
        assert here[name].dtype == there[name].dtype
