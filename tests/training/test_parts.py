"""Losses, schedules, optimizers and the step against formulas and optax's own optimizers."""

import re

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.models import losses
from mlp_mixer.models.architectures import ARCHITECTURES
from mlp_mixer.models.init import init
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.training import layouts, optimizer
from mlp_mixer.training.recipe import make_recipe
from mlp_mixer.training.sam import summed_over_parts
from mlp_mixer.training.step import make_train_step

from ..conftest import nowhere_zero

pytestmark = pytest.mark.slow


def config(**fields):
    base = dict(optimizer="adam", weight_decay=0.0, layer_decay=1.0, ema=0.0)
    return ml_collections.ConfigDict(base | fields)


# --- losses ---


def test_the_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype("f4"), np.array([0, 1, 2, 3, 1, 1])
    targets = losses.targets(jnp.asarray(labels), 4)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(p[np.arange(6), labels])
    np.testing.assert_allclose(losses.get("softmax")(logits, targets), expected, rtol=1e-5)
    q = 1 / (1 + np.exp(-logits))
    one_hot = np.eye(4)[labels]
    expected = -(one_hot * np.log(q) + (1 - one_hot) * np.log(1 - q)).sum(-1)
    np.testing.assert_allclose(losses.get("sigmoid")(logits, targets), expected, rtol=1e-5)


def test_label_smoothing_spreads_its_share_over_all_classes():
    smooth = losses.targets(jnp.array([2]), 5, smoothing=0.1)
    np.testing.assert_allclose(smooth, [[0.02, 0.02, 0.92, 0.02, 0.02]], rtol=1e-6)
    multi_hot = jnp.array([[1, 0, 1]], jnp.uint8)
    np.testing.assert_array_equal(losses.targets(multi_hot, 3), [[1.0, 0.0, 1.0]])


def test_the_sigmoid_heads_bias_is_that_of_the_authors_code():
    assert losses.head_bias("sigmoid", 1000) == pytest.approx(-6.9, abs=0.01)
    assert losses.head_bias("sigmoid", 21843) == pytest.approx(-10, abs=0.01)
    assert losses.head_bias("softmax", 1000) == 0
    with pytest.raises(ValueError, match=r"hinge.*softmax, sigmoid"):
        losses.get("hinge")


# --- durations and schedules ---


def test_durations_are_given_in_steps_or_epochs_but_not_both():
    def steps(in_steps, in_epochs, **options):
        given = ml_collections.ConfigDict({"total_steps": in_steps, "total_epochs": in_epochs})
        return optimizer.steps(given, "total", 10.5, **options)

    assert steps(7, 0.0) == 7
    assert steps(0, 2.0) == 21
    assert steps(0, 0.0, optional=True) == 0
    for pair in ((7, 2.0), (0, 0.0), (-1, 0.0)):
        with pytest.raises(ValueError, match=r"total_steps=.*total_epochs="):
            steps(*pair)


def test_the_rate_rises_linearly_and_falls_as_named():
    linear = optimizer.make_schedule(2.0, "linear", 110, 10)
    cosine = optimizer.make_schedule(2.0, "cosine", 110, 10)
    for schedule in (linear, cosine):
        np.testing.assert_allclose([schedule(0), schedule(5), schedule(10)], [0, 1, 2], atol=1e-6)
        assert schedule(110) == pytest.approx(0, abs=1e-6)
    assert linear(60) == pytest.approx(1.0) and linear(35) == pytest.approx(1.5)
    assert cosine(60) == pytest.approx(1.0) and cosine(35) == pytest.approx(1 + np.sqrt(0.5))
    with pytest.raises(ValueError, match=r"warm-up of 110 .* 110"):
        optimizer.make_schedule(2.0, "linear", 110, 110)
    with pytest.raises(ValueError, match=r"stairs.*linear, cosine"):
        optimizer.make_schedule(2.0, "stairs", 110, 10)


# --- optimizers ---


def run(tx, params, gradients):
    @jax.jit
    def update(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for gradient in gradients:
        params, state = update(params, state, gradient)
    return params


def test_drop_rates_fall_early_or_begin_late():
    early = optimizer.make_drop_schedule("early", 50)
    late = optimizer.make_drop_schedule("late", 50)
    steps = (0, 25, 49, 50, 51, 1000)
    np.testing.assert_allclose([early(k) for k in steps], [1, 0.5, 0.02, 0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal([late(k) for k in steps], [0, 0, 0, 1, 1, 1])
    assert optimizer.make_drop_schedule("constant", 0) is None
    for name, count in (("constant", 5), ("early", 0), ("late", 0)):
        with pytest.raises(ValueError, match=f"drop_schedule={name} .* {count} steps"):
            optimizer.make_drop_schedule(name, count)


def test_a_run_follows_its_drop_schedule(tiny_config):
    """Late: as without any dropping until it begins, and as with it from then on."""

    def losses_of(**fields):
        with tiny_config.unlocked():
            tiny_config.update(fields)
        recipe = make_recipe(tiny_config, 10, 160)
        params = init(recipe.module, 3)
        kernel = params["head"]["kernel"]  # which is zero
        params["head"]["kernel"] = jax.random.normal(jax.random.key(0), kernel.shape)
        batch = dict(image=jnp.arange(16 * 64, dtype=jnp.uint8).reshape(16, 8, 8, 1),
                     label=jnp.arange(16) % 10)  # fmt: skip
        one = jax.tree.map(lambda x: x[None], batch)

        @jax.jit
        def loss(step):
            local = jax.vmap(lambda b: recipe.step.local(params, b, step, "d")[0], axis_name="d")
            return local(one)["loss"][0]

        return [float(loss(step)) for step in (2, 3)]

    rates = {"stoch_depth": 0.9, "dropout_rate": 0.5}
    none = losses_of(model={"stoch_depth": 0.0, "dropout_rate": 0.0})
    always = losses_of(model=rates)
    late = losses_of(model=rates, drop_schedule="late", drop_steps=3)
    assert late[0] == pytest.approx(none[0], rel=1e-6) != always[0]
    assert late[1] == pytest.approx(always[1], rel=1e-6) != none[1]


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        (dict(), optax.adam(0.1)),
        (dict(weight_decay=0.3), optax.adamw(0.1, weight_decay=0.3, mask=optimizer.kernels)),
        (dict(optimizer="momentum"), optax.sgd(0.1, momentum=0.9)),
        (
            dict(optimizer="lion", weight_decay=0.3),
            optax.lion(0.1, weight_decay=0.3, mask=optimizer.kernels),
        ),
        (
            dict(optimizer="lamb", weight_decay=0.3),
            optax.lamb(0.1, weight_decay=0.3, mask=optimizer.kernels),
        ),
        (
            dict(optimizer="muon", weight_decay=0.3),
            optax.contrib.muon(0.1, weight_decay=0.3, consistent_rms=0.2),
        ),
    ],
)
def test_optimizers_equal_those_of_optax(fields, reference):
    rng = np.random.default_rng(0)
    params = {"MixerBlock_0": {"kernel": np.ones((3, 2), "f4"), "bias": np.ones(2, "f4")}}
    gradients = [
        jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), params) for _ in range(4)
    ]
    ours = optimizer.make_optimizer(config(**fields), lambda step: 0.1)
    got, expected = run(ours, params, gradients), run(reference, params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


@pytest.mark.parametrize("name", ["mixer", "vit"])
def test_muon_makes_updates_of_kernels_in_blocks_orthogonal(name):
    sizes = {
        "mixer": dict(tokens_mlp_dim=6, channels_mlp_dim=16),
        "vit": dict(mlp_dim=16, num_heads=2),
    }[name]
    model = ARCHITECTURES[name].create(
        num_classes=5, image_size=8, patch_size=4, num_blocks=1, hidden_dim=8, **sizes
    )
    params, rng = init(model), np.random.default_rng(0)
    gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), params)
    tx = optimizer.scale_by_muon_and_adam()
    updates, _ = tx.update(gradients, tx.init(params), params)
    flat, spread = traverse_util.flatten_dict(jax.device_get(updates), sep="/"), {}
    for path, x in flat.items():
        if path.endswith("/kernel"):
            # A matrix from inputs to outputs; of attention, one side of it is heads x their width.
            inputs = x.shape[0] if re.search("query|key|value", path) else x.size // x.shape[-1]
            matrix = x.reshape(inputs, -1)
            values = np.linalg.svd(matrix, compute_uv=False) / (0.2 * max(matrix.shape) ** 0.5)
            spread[path] = values.mean() > 0.7 and values.max() < 1.2
    assert len(spread) == {"mixer": 6, "vit": 8}[name]
    assert {path for path, even in spread.items() if even} == {p for p in spread if "lock_0" in p}


def test_muon_refuses_a_model_without_blocks():
    model = ARCHITECTURES["bit"].create(
        stages=(1,), width=32, stem="3x3", num_classes=5, image_size=8
    )
    with pytest.raises(ValueError, match=r"optimizer=muon .* numbered blocks .* use adam"):
        jax.eval_shape(lambda: optimizer.scale_by_muon_and_adam().init(init(model)))


@pytest.mark.parametrize("clip", [0.0, 0.1, 100.0])
def test_a_mean_gradient_is_clipped_as_by_optax(clip):
    rng = np.random.default_rng(0)
    sums = {"kernel": rng.normal(size=(3, 2)).astype("f4"), "bias": np.ones(2, "f4")}
    mean = jax.tree.map(lambda x: x / 8, sums)
    reference = optax.clip_by_global_norm(clip) if clip else optax.identity()
    expected, _ = reference.update(mean, reference.init(mean))
    got, norm = optimizer.mean_gradient(sums, jnp.float32(8), clip)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, expected)
    assert float(norm) == pytest.approx(float(optax.tree.norm(mean)))


def test_no_gradient_stays_none_when_it_is_clipped():
    got, norm = optimizer.mean_gradient({"bias": jnp.zeros(2)}, jnp.float32(8), 1.0)
    assert float(norm) == 0 and not np.any(got["bias"])


def test_a_config_clips_the_gradient_of_its_step(tiny_config):
    tiny_config.optimizer, tiny_config.grad_clip, tiny_config.weight_decay = "momentum", 0.5, 0.0
    tiny_config.warmup_steps = 0
    recipe = make_recipe(tiny_config, num_classes=10, num_examples=100)
    params = init(recipe.module)
    sums = {name: jnp.float32(16) for name in ("loss", "accuracy", "examples")}
    grads = jax.tree.map(jnp.ones_like, params)
    state, metrics = jax.jit(recipe.step.update)(recipe.new_state(params), sums, grads)
    change = jax.tree.map(lambda a, b: a - b, state.params, params)
    count = sum(x.size for x in jax.tree.leaves(params))
    assert float(metrics["grad_norm"]) == pytest.approx(count**0.5 / 16, rel=1e-4)
    assert float(optax.tree.norm(change)) == pytest.approx(0.5 * tiny_config.lr, rel=1e-3)


def test_decay_touches_kernels_only_and_scales_with_the_rate():
    params = init(small_model())
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = optimizer.make_optimizer(config(weight_decay=0.1), lambda step: 0.01)
    decayed = run(tx, params, [zeros])
    for path, before in jax.tree_util.tree_leaves_with_path(params):
        after = decayed
        for key in path:
            after = after[key.key]
        factor = 1 - 0.01 * 0.1 if path[-1].key == "kernel" else 1
        np.testing.assert_allclose(after, before * factor, rtol=1e-6)
    with pytest.raises(ValueError, match=r"adagrad.*adam or momentum or lion or lamb or muon"):
        optimizer.make_optimizer(config(optimizer="adagrad"), lambda step: 0.01)


# --- the step ---


def small_model(**fields):
    sizes = dict(patch_size=4, num_blocks=2, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=16)
    return mlp_mixer.create(num_classes=5, image_size=8, **sizes, **fields)


def random_params(model, seed=1):
    """Nowhere zero, the head included."""
    return nowhere_zero(model, np.random.default_rng(seed))


def first_step(model, batch, **options):
    tx = optax.sgd(1.0)
    params = random_params(model)
    state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
    layout = layouts.make_layout()
    step = layout.jit_step(make_train_step(model, tx, loss="softmax", **options), state)
    return step(state, layout.to_devices(batch))


def random_batch(n=12, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8),
        "label": rng.integers(0, 5, n).astype(np.int32),
    }


@pytest.mark.parametrize("last_apart", [False, True])
def test_accumulated_gradients_equal_those_of_the_large_batch(last_apart):
    model = small_model(stoch_depth=0.5, dropout_rate=0.2)
    whole, metrics = first_step(model, random_batch())
    parts, same = first_step(  # of one image each
        model, random_batch(), accum_steps=12, last_apart=last_apart
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), parts, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), same, metrics)


@pytest.mark.parametrize(("last_apart", "in_the_loop"), [(False, 3), (True, 2)])
def test_the_last_part_is_in_the_loop_or_after_it(last_apart, in_the_loop):
    rows = np.arange(12.0).reshape(6, 2)
    jaxpr = jax.make_jaxpr(lambda rows: summed_over_parts(jnp.sin, rows, 3, last_apart))(rows)
    [loop] = [equation for equation in jaxpr.eqns if equation.primitive.name == "scan"]
    assert loop.params["length"] == in_the_loop
    assert ("sin" in str(jaxpr.eqns[jaxpr.eqns.index(loop) + 1 :])) is last_apart


def test_the_step_follows_the_gradient_of_the_mean_loss():
    model, batch = small_model(), random_batch()
    params = random_params(model)

    def mean_loss(params):
        logits = model.apply({"params": params}, batch["image"] / np.float32(127.5) - 1)
        one_hot = jax.nn.one_hot(batch["label"], 5)
        return -(jax.nn.log_softmax(logits) * one_hot).sum(-1).mean()

    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(params)
    state, metrics = first_step(model, batch)
    assert metrics["loss"] == pytest.approx(float(value), rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    expected = jax.tree.map(lambda p, g: p - g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.params, expected)
    assert int(state.step) == 1


def test_randomness_follows_seed_and_step():
    model, batch = small_model(stoch_depth=0.9), random_batch()
    loss = first_step(model, batch, seed=0)[1]["loss"]
    assert loss == first_step(model, batch, seed=0)[1]["loss"]
    assert loss != first_step(model, batch, seed=1)[1]["loss"]
