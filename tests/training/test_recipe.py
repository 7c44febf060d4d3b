"""What a config says arrives where it belongs."""

import types

import jax.numpy as jnp
import ml_collections
import pytest

from configs import common
from mlp_mixer.models import mixer
from mlp_mixer.models import parts as cutting
from mlp_mixer.models.parts import best_parts, forward_parts
from mlp_mixer.training import layouts
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
    # No result shows it, so the step's maker is asked. 0 chooses: of so few images, one part.
    monkeypatch.setattr(recipes, "make_train_step", lambda module, tx, **options: options)
    recipe = make_recipe(make_config(accum_steps=accum_steps), 5, 100)
    assert recipe.step["accum_steps"] == parts


@pytest.mark.parametrize("overlaps", [False, True])
def test_the_last_part_is_apart_where_sums_overlap_with_it(overlaps, monkeypatch):
    monkeypatch.setattr(recipes, "make_train_step", lambda module, tx, **options: options)
    monkeypatch.setattr(layouts.Replicated, "overlaps_sums", overlaps)
    assert make_recipe(make_config(), 5, 100).step["last_apart"] is overlaps


@pytest.mark.parametrize(("rows", "parts"), [(60, 1), (64, 2), (120, 2), (128, 4), (251, 1)])
def test_parts_are_the_largest_that_a_cache_holds(rows, parts, monkeypatch):
    # Up to 60 images in a part. 251 is a prime: parts of one image would cost more than they save.
    monkeypatch.setattr(recipes, "make_train_step", lambda module, tx, **options: options)
    tokens = 4
    monkeypatch.setattr(cutting, "MOST_TOKENS_ON_CPU", 60 * tokens)
    assert make_model(make_config(), 5).num_tokens == tokens
    recipe = make_recipe(make_config(batch_size=rows), 5, 1000)
    assert recipe.step["accum_steps"] == parts


@pytest.mark.parametrize(
    ("variant", "rows", "parts"),
    [("B/16", 32, 1), ("B/16", 128, 4), ("H/14", 16, 1), ("H/14", 32, 2)],
)
def test_on_a_tpu_parts_are_as_the_compiler_advises(variant, rows, parts):
    # Of those compiled, the parts with the fewest cycles: docs/lab/tpu_compiler.md.
    assert best_parts(mixer.create(variant), rows, "tpu") == parts


@pytest.mark.parametrize(
    ("kind", "parts"), [("TPU v5 lite", 4), ("TPU v6 lite", 4), ("TPU v5", 1), ("TPU v4", 1)]
)
def test_a_forward_pass_has_parts_where_the_compiler_gains(kind, parts):
    tpu = types.SimpleNamespace(platform="tpu", device_kind=kind)
    assert forward_parts(mixer.create("B/16"), 128, tpu) == parts
