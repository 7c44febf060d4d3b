"""The layers against Flax's own, and against what each platform's compiler is to be given."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlp_mixer.models import gelu, layers

PLATFORMS = ("cpu", "cuda", "tpu")


def normal(*shape: int, seed: int = 0, dtype=jnp.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def flax_stem(features, patch_size):
    return nn.Conv(features, patch_size, strides=patch_size, padding="VALID")


@pytest.mark.parametrize(
    ("ours", "flax", "x"),
    [
        (layers.Dense(6), nn.Dense(6), normal(2, 3, 4)),
        (layers.LayerNorm(), nn.LayerNorm(), normal(2, 3, 4)),
        (layers.Stem(6, (4, 2)), flax_stem(6, (4, 2)), normal(2, 8, 12, 5)),
    ],
)
def test_values_and_gradients_are_those_of_flax(ours, flax, x, highest_precision):
    params = jax.tree.map(lambda p: normal(*p.shape, seed=1), ours.init(jax.random.key(0), x))

    def computed(module):
        def loss(params, x):
            y = module.apply(params, x)
            return (y.ravel() * normal(y.size, seed=2)).sum()

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)

    wanted, found = computed(flax), computed(ours)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, wanted)


def test_layer_norm_of_bfloat16_has_statistics_in_float32():
    """Deviations of a hundredth of the mean, of which bfloat16 has but two digits."""
    x = (100 + normal(4, 256)).astype(jnp.bfloat16)
    norm = layers.LayerNorm(dtype=jnp.bfloat16)
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("deviation", [1e-3, 1e-2])
def test_layer_norm_adds_a_millionth_to_the_variance(deviation):
    x = np.array([[-1.0, 1.0]], np.float32) * deviation
    norm = layers.LayerNorm()
    y = norm.apply(norm.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(y, x / np.sqrt(deviation**2 + 1e-6), rtol=1e-4)


def test_the_stem_is_the_same_by_convolution_and_by_product(highest_precision):
    x, kernel = normal(2, 8, 12, 5), normal(4, 2, 5, 6, seed=1)
    tokens = layers.stem_by_product(x, kernel)
    assert tokens.shape == (2, 2 * 6, 6)
    np.testing.assert_allclose(layers.stem_by_convolution(x, kernel), tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", [layers.on_all_rows, layers.on_all_rows_by_product])
def test_the_gradient_of_a_bias_is_summed_in_float32_everywhere(form, dtype):
    like, bias = normal(40, 25, 4, dtype=dtype), normal(4, seed=1)
    grad = normal(40, 25, 4, seed=2, dtype=dtype)
    shape = jax.ShapeDtypeStruct(like.shape, like.dtype)
    there, back = jax.vjp(lambda bias: form(bias, shape), bias)
    assert there.dtype == like.dtype
    np.testing.assert_array_equal(there, np.broadcast_to(bias.astype(dtype), like.shape))
    wanted = np.asarray(grad, np.float64).sum((0, 1))
    np.testing.assert_allclose(back(grad)[0], wanted, rtol=1e-5, atol=1e-5)


def test_a_bias_is_added_with_the_gradients_of_a_sum():
    x, bias, weights = normal(3, 5, 4), normal(4, seed=1), normal(3, 5, 4, seed=2)
    y, back = jax.vjp(layers.plus, x, bias)
    np.testing.assert_array_equal(y, x + bias)
    for found, wanted in zip(back(weights), (weights, weights.sum((0, 1))), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("form", gelu.FORMS)
def test_a_gelu_keeps_its_input_only_for_the_gradient(form):
    x = normal(64, 32, dtype=jnp.bfloat16)
    _, backward = jax.vjp(lambda x: gelu.in_float32(gelu.FORMS[form], x), x)
    kept = [array for array in jax.tree.leaves(backward) if array.size > 1]
    assert [(array.shape, array.dtype) for array in kept] == [(x.shape, x.dtype)]


def test_the_gelu_is_the_same_by_sigmoid_and_by_tanh():
    u = jnp.linspace(-20, 20, 1001)
    np.testing.assert_allclose(gelu.by_sigmoid(u), gelu.by_tanh(u), atol=1e-6)


def text_for(platform: str, function, *args) -> str:
    """What a platform's compiler gets for a function."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_a_tpu_gets_the_ones_of_a_sum_as_a_constant():
    layer, x = layers.Dense(6), normal(2, 3, 4)
    params = layer.init(jax.random.key(0), x)
    text = text_for("tpu", jax.grad(lambda params: layer.apply(params, x).sum()), params)
    assert "-> tensor<2x3x1xf32>" in text  # there they are made
    functions = [line for line in text.splitlines() if "func.func" in line]
    assert not [line for line in functions if "tensor<2x3x1xf32>" in line]  # and not handed over


@pytest.mark.parametrize("platform", PLATFORMS)
def test_gradients_are_stored_on_gpus_and_fused_elsewhere(platform):
    layer, x = layers.Dense(6, dtype=jnp.bfloat16), normal(2, 3, 4, dtype=jnp.bfloat16)
    params = layer.init(jax.random.key(0), x)
    text = text_for(platform, jax.grad(lambda params: layer.apply(params, x).sum()), params)
    assert ("optimization_barrier" in text) == (platform == "cuda")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_stem_is_a_convolution_on_tpus_a_product_elsewhere(platform):
    stem, x = layers.Stem(6, (4, 4)), normal(2, 8, 8, 3)
    params = stem.init(jax.random.key(0), x)
    text = text_for(platform, stem.apply, params, x)
    assert ("stablehlo.convolution" in text) == (platform == "tpu")
    assert ("stablehlo.dot_general" in text) == (platform != "tpu")
