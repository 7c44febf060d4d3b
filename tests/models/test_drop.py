"""What is dropped of an image depends on the rng and on its row, not on its batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models import mixer, vit

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
    for rows in ([4, 5], [3], [2, 0]):
        part = logits(images[rows], rows=jnp.array(rows))
        np.testing.assert_allclose(part, whole[rows], atol=1e-5)
    assert np.abs(np.asarray(logits(images[4:])) - whole[4:]).max() > 0.01  # as rows 0 and 1
