"""What a config says arrives where it belongs."""

import types

import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import common
from mlp_mixer.models import losses, mixer
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


def test_a_schedule_of_what_is_never_dropped_is_refused():
    with pytest.raises(ValueError, match=r"drop_schedule=early has nothing to schedule: set model"):
        make_recipe(make_config(drop_schedule="early", drop_steps=2), 5, 64)
    config = make_config(drop_schedule="late", drop_steps=4)
    config.model.dropout_rate = 0.1
    with pytest.raises(ValueError, match="late begins after 4 steps, and the run has only 4"):
        make_recipe(config, 5, 64)
    config.drop_steps = 3
    make_recipe(config, 5, 64)


class OfSeveralLabels:
    """Three examples with labels {1, 3}, {2} and none."""

    name, class_names = "mine", ("a", "b", "c", "d")

    def __len__(self):
        return 3

    def labels(self):
        return np.array([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], np.uint8)


def test_softmax_needs_exactly_one_label_for_each_image(monkeypatch):
    monkeypatch.setattr(recipes.sources, "open_source", lambda *args: OfSeveralLabels())
    words = r"mine: 2 of 3 examples of train .* loss=softmax needs \(example 0 has 2\).*sigmoid"
    with pytest.raises(ValueError, match=words):
        recipes.open_data(make_config())
    for fields in (dict(loss="sigmoid"), dict(teacher="gsam/Mixer-S_32")):
        assert recipes.open_data(make_config(**fields)).name == "mine"
    monkeypatch.setattr(
        OfSeveralLabels, "labels", lambda self: np.eye(4, dtype=np.uint8)[[1, 2, 0]]
    )
    assert recipes.open_data(make_config()).name == "mine"


def test_softmax_needs_more_than_one_class(monkeypatch):
    one = types.SimpleNamespace(name="folder:x", class_names=("images",))
    monkeypatch.setattr(recipes.sources, "open_source", lambda *args: one)
    with pytest.raises(ValueError, match=r"folder:x: the only class is images.*one level up"):
        recipes.open_data(make_config())
    assert recipes.open_data(make_config(loss="sigmoid")) is one


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_several_labels_any_is_correct_and_without_one_none(smoothing):
    labels = OfSeveralLabels().labels()
    targets = losses.targets(labels, 4, smoothing)
    for answer, want in ((1, (1, 0, 0)), (3, (1, 0, 0)), (2, (0, 1, 0)), (0, (0, 0, 0))):
        logits = jnp.tile(jnp.eye(4)[answer], (3, 1))
        assert losses.is_correct(logits, targets, labels, smoothing).tolist() == list(want)


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
