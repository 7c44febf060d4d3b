"""The moving average of parameters, and the rates of layers by their depth."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

import mlp_mixer
from mlp_mixer.models import vit
from mlp_mixer.models.bit import create as create_bit
from mlp_mixer.models.init import init
from mlp_mixer.training import loop, optimizer
from mlp_mixer.training.averaging import averaged, moving_average


def test_the_average_is_the_weighted_sum_of_all_parameters():
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}
    tx = optax.chain(optax.sgd(0.1), moving_average(0.9))
    state, history = tx.init(params), [np.asarray(params["a"], np.float64)]
    for _ in range(120):
        gradient = {"a": jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)}
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        history.append(np.asarray(params["a"], np.float64))
    # d is t / (t + 9), until that is over 0.9 at t = 82. The weight of the parameters after update
    # t is 1 - d of that update, times d of all updates after it.
    d = np.array([0, *(min(0.9, t / (t + 9)) for t in range(1, 121))])
    weights = np.array([(1 - d[t]) * d[t + 1 :].prod() for t in range(121)])
    assert weights.sum() == pytest.approx(1)
    expected = np.tensordot(weights, history, 1)
    np.testing.assert_allclose(averaged(state)["a"], expected, rtol=1e-5, atol=1e-6)


def test_an_optimizer_without_an_average_has_none():
    assert averaged(optax.adam(0.1).init({"a": jnp.zeros(2)})) is None


@pytest.mark.slow
def test_a_run_evaluates_and_saves_its_average(tiny_config, tmp_path):
    tiny_config.ema = 0.5
    tiny_config.keep_best = "ema_test/accuracy"
    result = loop.train(tiny_config, tmp_path)
    for prefix, name in (("", "model.npz"), ("ema_", "ema.npz")):
        alone = mlp_mixer.evaluate(tmp_path / name)
        assert alone.loss == pytest.approx(result[f"{prefix}test/loss"], rel=1e-6)
    assert result["test/loss"] != result["ema_test/loss"]
    run = mlp_mixer.Run(tmp_path)
    assert run.best_step is not None
    ema = mlp_mixer.load(tmp_path / "ema.npz")[1]
    apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), ema, run.params())
    assert 0 < max(jax.tree.leaves(apart)) < 0.1


def test_the_best_average_needs_an_average(tiny_config, tmp_path):
    tiny_config.keep_best = "ema_test/accuracy"
    with pytest.raises(ValueError, match="keep_best=ema_test/accuracy is not a scalar"):
        loop.train(tiny_config, tmp_path)


def steps_of_one(decay):
    """An optimizer that goes by the gradient, where layers are not slower."""
    fields = dict(optimizer="momentum", weight_decay=0.0, layer_decay=decay, ema=0.0)
    return optimizer.make_optimizer(ml_collections.ConfigDict(fields), lambda step: 1.0)


def rates(module, decay):
    """How far one step goes whose gradient is 1 everywhere, by parameter."""
    tx = steps_of_one(decay)
    params = init(module)
    ones = jax.tree.map(jnp.ones_like, params)
    updates = tx.update(ones, tx.init(params), params)[0]
    return jax.tree.map(lambda x: -float(x.mean()), updates)


@pytest.mark.slow
def test_rates_fall_from_the_head_to_the_stem_of_a_mixer():
    module = mlp_mixer.create(
        num_classes=3, image_size=8, patch_size=4, num_blocks=3, hidden_dim=4, tokens_mlp_dim=4,
        channels_mlp_dim=4,
    )  # fmt: skip
    found = rates(module, 0.5)
    expected = {
        "head": 1, "pre_head_layer_norm": 1, "MixerBlock_2": 0.5, "MixerBlock_1": 0.25,
        "MixerBlock_0": 0.125, "stem": 0.0625,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, rate in expected.items():
        assert set(jax.tree.leaves(found[name])) == {rate}, name
    assert set(jax.tree.leaves(rates(module, 1.0))) == {1}


@pytest.mark.slow
def test_rates_fall_from_the_head_to_the_stem_of_a_vit():
    module = vit.create(
        num_classes=3, image_size=8, patch_size=4, num_blocks=2, hidden_dim=8, mlp_dim=4,
        num_heads=2,
    )  # fmt: skip
    found = jax.tree_util.tree_leaves_with_path(rates(module, 0.5))
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): rate for path, rate in found}
    for name, rate in named.items():
        block = next((k for k in (0, 1) if f"encoderblock_{k}/" in name), None)
        is_head = name.startswith("head") or "encoder_norm" in name
        assert rate == (1 if is_head else 0.5 ** (2 - block) if block is not None else 0.125), name
    assert {1, 0.5, 0.25, 0.125} == set(named.values())


def test_layers_of_a_bit_have_no_numbers_to_decay_by():
    module = create_bit("R50x1", num_classes=3, image_size=32)
    tx = steps_of_one(0.5)
    params = jax.eval_shape(lambda: init(module))
    with pytest.raises(ValueError, match=r"layer_decay=0\.5 .* \(mixer, vit\).*set it to 1"):
        jax.eval_shape(lambda p: tx.update(p, tx.init(p), p), params)
