"""What a config says arrives where it belongs."""

import types

import jax.numpy as jnp
import ml_collections
import pytest

from configs import common
from mlp_mixer.training import recipe as recipes
from mlp_mixer.training.recipe import make_model, make_recipe


def make_config(**fields) -> ml_collections.ConfigDict:
    config = common.base()
    config.model.update(
        patch_size=(4, 4), num_blocks=2, hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8
    )
    config.image_size, config.batch_size, config.total_steps = (8, 8), 16, 4
    config.eval_every_steps = config.checkpoint_every_steps = 2
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("dtype", "platform", "computed"),
    [
        ("float32", "tpu", jnp.float32), ("bfloat16", "cpu", jnp.bfloat16),
        ("auto", "cpu", jnp.float32), ("auto", "tpu", jnp.bfloat16),
    ],
)  # fmt: skip
def test_the_model_computes_in_dtype(dtype, platform, computed):
    device = types.SimpleNamespace(platform=platform)
    assert make_model(make_config(dtype=dtype), 5, device).dtype == computed


@pytest.mark.parametrize("remat", [True, False])
def test_remat_is_the_mixers(remat):
    assert make_model(make_config(remat=remat), 5).remat is remat


def test_remat_is_refused_where_it_does_nothing():
    config = make_config(architecture="bit", remat=True)
    config.model = ml_collections.ConfigDict(dict(stages=(1, 1), width=8, groups=4))
    with pytest.raises(ValueError, match=r"remat.*architecture=bit"):
        make_model(config, 5)


@pytest.mark.parametrize("sum_dtype", ["float32", "bfloat16"])
def test_gradients_are_summed_in_sum_dtype(sum_dtype):
    recipe = make_recipe(make_config(sum_dtype=sum_dtype), 5, 100)
    assert recipe.layout.sum_dtype == jnp.dtype(sum_dtype)


@pytest.mark.parametrize(("accum_steps", "parts"), [(0, 1), (1, 1), (4, 4)])
def test_a_step_has_as_many_parts_as_accum_steps_says(accum_steps, parts, monkeypatch):
    # No result shows it, so the step's maker is asked. 0 chooses, and for a CPU that is one part.
    monkeypatch.setattr(recipes, "make_train_step", lambda module, tx, **options: options)
    recipe = make_recipe(make_config(accum_steps=accum_steps), 5, 100)
    assert recipe.step["accum_steps"] == parts
