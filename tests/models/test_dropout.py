"""What is dropped of an image depends on the rng and on its row, not on its batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models import mixer, vit
from mlp_mixer.models.dropout import Dropout

pytestmark = pytest.mark.slow

SIZES = dict(num_classes=3, image_size=8, patch_size=4, num_blocks=3, hidden_dim=16)
MODELS = {
    "mixer": mixer.create(
        tokens_mlp_dim=8, channels_mlp_dim=32, stoch_depth=0.5, dropout_rate=0.3, **SIZES
    ),
    "vit": vit.create(mlp_dim=32, num_heads=2, dropout_rate=0.3, **SIZES),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_may_be_cut_in_any_way(name):
    module, rng = MODELS[name], np.random.default_rng(0)
    images = rng.normal(size=(6, 8, 8, 3)).astype("f4")
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4") / 4, shapes)

    def logits(images, **options):
        rngs = {"dropout": jax.random.key(1)}
        return module.apply({"params": params}, images, train=True, rngs=rngs, **options)

    whole = np.asarray(logits(images))
    for rows in ([4, 5], [3, 1], [2, 0]):
        part = logits(images[rows], rows=jnp.array(rows))
        np.testing.assert_allclose(part, whole[rows], atol=1e-5)
    assert np.abs(np.asarray(logits(images[4:])) - whole[4:]).max() > 0.01  # as rows 0 and 1


# Of version e108a84, in which blocks were under nn.jit. A run that was started with it goes on
# with the same random numbers.
LOGITS_OF_E108A84 = [
    [0.30542, 0.26485, -0.5635],
    [0.20769, 0.09797, -0.48725],
    [0.23435, 0.08417, -0.52019],
    [0.33751, 0.25166, -0.50494],
    [0.22086, 0.1538, -0.55688],
    [0.36838, 0.26197, -0.53408],
]


@pytest.mark.parametrize("remat", [False, True])
def test_what_is_dropped_is_what_earlier_versions_dropped(remat):
    module, rng = MODELS["mixer"].clone(remat=remat), np.random.default_rng(0)
    images = rng.normal(size=(6, 8, 8, 3)).astype("f4")
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)["params"]
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4") / 4, shapes)
    rngs = {"dropout": jax.random.key(1)}
    logits = module.apply({"params": params}, images, train=True, rngs=rngs)
    np.testing.assert_allclose(logits, LOGITS_OF_E108A84, atol=1e-4)


def test_what_dropout_keeps_is_divided_by_the_share_that_is_kept():
    x = jnp.full((64, 100), 3.0)
    dropout = Dropout(0.25)
    y = dropout.apply({}, x, jnp.arange(64), rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0.0, 4.0}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(dropout.apply({}, x, None), x)


def test_dropout_is_behind_both_layers_of_an_mlp():
    block = mixer.MlpBlock(mlp_dim=400, dropout_rate=0.5)
    x, rows = jnp.ones((16, 100)), jnp.arange(16)
    params = jax.tree.map(
        lambda p: np.random.default_rng(0).normal(size=p.shape).astype("f4"),
        block.init(jax.random.key(0), x),
    )
    y = block.apply(params, x, rows, rngs={"dropout": jax.random.key(1)})
    assert np.mean(y == 0) == pytest.approx(0.5, abs=0.05)  # of the second layer's
    # All rows have the same input: what differs where none is zero comes from the first layer.
    kept = (y[0] != 0) & (y[1] != 0)
    assert np.abs(y[0] - y[1])[kept].min() > 0
