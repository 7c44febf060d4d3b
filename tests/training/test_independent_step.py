"""Whole recipes against a trainer that was written apart from this code base, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from mlp_mixer.training.recipe import make_model, make_recipe, random_params

from ..conftest import x64
from . import reference_trainer as reference

pytestmark = pytest.mark.slow

STEPS, CLASSES, BATCH = 20, 7, 32
EPOCHS = dict(total_steps=0, total_epochs=2.0, warmup_steps=0, warmup_epochs=0.5)  # of 10 steps

# What differs from a run of 20 steps with Adam at 0.01, linear decay and a warm-up of 5 steps.
RECIPES = {
    "sigmoid_decay_clip": dict(
        loss="sigmoid", weight_decay=0.1, grad_clip=0.05, decay_end=0.1, label_smoothing=0.1
    ),
    "momentum_cosine_epochs": dict(
        optimizer="momentum", decay="cosine", grad_clip=0.5, remat=True, **EPOCHS
    ),
    "mixup_smoothing_accumulated": dict(mixup=0.5, label_smoothing=0.2, accum_steps=4, grad_clip=0),
    "mixup_per_example": dict(
        optimizer="momentum", loss="sigmoid", mixup=0.8, mixup_per_example=True, decay="cosine",
        decay_end=0.2, warmup_steps=0, seed=3,
    ),
    "momentum_decay_accumulated": dict(
        optimizer="momentum", weight_decay=0.5, accum_steps=2, label_smoothing=0.1, decay_end=0.05
    ),
    "gsam": dict(
        loss="sigmoid", weight_decay=0.1, grad_clip=0.3, decay_end=0.1, accum_steps=2,
        sam=dict(rho_max=0.3, rho_min=0.05, alpha=0.4, group_size=8),  # 4 groups
    ),
    "sam_mixup": dict(
        optimizer="momentum", mixup=0.5, label_smoothing=0.1, accum_steps=8, remat=True,
        sam=dict(rho_max=0.1, rho_min=0.1, group_size=16),
    ),
    "distillation": dict(
        teacher="somewhere", mixup=1.0, mixup_per_example=True, weight_decay=0.1, accum_steps=2
    ),
    "gsam_distillation": dict(
        teacher="somewhere", mixup=0.5, accum_steps=8,
        sam=dict(rho_max=0.1, rho_min=0.05, alpha=0.3, group_size=16),
    ),
}  # fmt: skip


def make_config(**fields):
    config = common.base()
    config.image_size, config.dtype = (12, 8), "float32"
    config.model.update(
        patch_size=(4, 2), num_blocks=2, hidden_dim=16, tokens_mlp_dim=10, channels_mlp_dim=24
    )
    config.batch_size, config.accum_steps = BATCH, 1
    config.total_steps, config.warmup_steps, config.lr, config.decay = STEPS, 5, 0.01, "linear"
    config.eval_every_steps = config.checkpoint_every_steps = STEPS
    config.update(fields)
    return config


def make_reference(config, teacher_params) -> reference.Recipe:
    return reference.Recipe(
        teacher=as_float64(teacher_params) if config.teacher else None,
        steps=STEPS,
        warmup=5 if config.warmup_epochs else config.warmup_steps,
        num_classes=CLASSES,
        optimizer=config.optimizer,
        lr=config.lr,
        decay=config.decay,
        decay_end=config.decay_end,
        weight_decay=config.weight_decay,
        grad_clip=config.grad_clip,
        loss=config.loss,
        label_smoothing=config.label_smoothing,
        **config.sam,
    )


def as_float64(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def make_params(config, module, seed=0):
    """Random where fresh parameters are zero or one, which would hide much; but the head's bias."""
    rng = np.random.default_rng(seed)
    params = random_params(config, module)
    bias = params["head"]["bias"]
    np.testing.assert_allclose(bias, -np.log(CLASSES) if config.loss == "sigmoid" else 0, rtol=1e-6)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.2, x.shape).astype("f4"), params)
    return params | {"head": {"kernel": params["head"]["kernel"], "bias": bias}}


def make_batches(config):
    """Random ones, and what share of itself each image keeps by the rule for what is random."""
    rng = np.random.default_rng(1)
    for t in range(STEPS):
        batch = {
            "image": rng.integers(0, 256, (BATCH, 12, 8, 3), dtype=np.uint8),
            "label": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        }
        if not config.mixup:
            yield batch, {}
            continue
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), t), 2**32 - 1)
        rows = jnp.arange(BATCH) if config.mixup_per_example else jnp.zeros(BATCH, int)
        drawn = jax.vmap(
            lambda row, key=key: jax.random.beta(
                jax.random.fold_in(key, row), config.mixup, config.mixup
            )
        )(rows)
        yield batch, {"share": np.maximum(drawn, 1 - drawn).astype(np.float64)}


@pytest.mark.parametrize("fields", RECIPES.values(), ids=RECIPES)
def test_twenty_steps_are_those_of_the_independent_trainer(fields):
    config = make_config(**fields)
    module = make_model(config, CLASSES)
    recipe = make_recipe(config, CLASSES, num_examples=10 * BATCH, teacher_module=module)
    params, teacher = make_params(config, module), make_params(config, module, seed=2)
    teacher["head"]["kernel"] = np.random.default_rng(3).normal(0, 1, (16, CLASSES)).astype("f4")
    batches = list(make_batches(config))
    expected, history = reference.train(
        make_reference(config, teacher), params, [batch | share for batch, share in batches]
    )
    state, teachers = recipe.new_state(params), [teacher] if config.teacher else []
    step = recipe.layout.jit_step(recipe.step, state, *teachers)
    for t, ((batch, _), wanted) in enumerate(zip(batches, history, strict=True)):
        state, metrics = step(state, recipe.layout.to_devices(batch), *teachers)
        got = jax.device_get(metrics) | {"lr": recipe.schedule(t)}
        assert got == pytest.approx(wanted, abs=1e-5), t
    for path, x in jax.tree_util.tree_leaves_with_path(jax.device_get(state.params)):
        want = expected
        for key in path:
            want = want[key.key]
        if not rounded(path):
            np.testing.assert_allclose(x, want, atol=1e-5, rtol=0, err_msg=str(path))


def rounded(path) -> bool:
    """Whether a bias is taken out again by the LayerNorms behind it.

    Its gradient is zero but for rounding errors, and Adam makes them as large as all others.
    """
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.endswith("token_mixing/Dense_1/bias")


@pytest.mark.parametrize("name", ["momentum_cosine_epochs", "mixup_smoothing_accumulated", "gsam"])
def test_three_steps_are_the_same_with_x64(name):
    def three_steps():
        recipe = make_recipe(config, CLASSES, num_examples=10 * BATCH)
        state = recipe.new_state(jax.tree.map(jnp.asarray, params))
        step = recipe.layout.jit_step(recipe.step, state)
        for batch, _ in batches[:3]:
            state, metrics = step(state, recipe.layout.to_devices(batch))
        return jax.device_get((state, metrics))

    config = make_config(**RECIPES[name])
    params = jax.device_get(make_params(config, make_model(config, CLASSES)))
    batches = list(make_batches(config))
    wanted = three_steps()
    with x64(), jax.numpy_rank_promotion("raise"):
        found = three_steps()
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True
    ):
        assert x.dtype == y.dtype, path
        if not rounded(path):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5, err_msg=str(path))
