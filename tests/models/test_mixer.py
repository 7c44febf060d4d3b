"""The model against the paper's numbers, an independent NumPy Mixer, and identities."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init

from ..conftest import nowhere_zero

# Parameters of each variant at 224 px, exact: (without a head, with 1,000 classes).
COUNTS = {
    "S/32": (18_591_624, 19_104_624),
    "S/16": (18_015_264, 18_528_264),
    "S/8": (20_646_504 - 513_000, 20_646_504),
    "B/32": (59_524_428, 60_293_428),
    "B/16": (59_111_472, 59_880_472),
    "L/32": (205_914_264, 206_939_264),
    "L/16": (207_171_168, 208_196_168),
    "H/14": (431_069_952, 432_350_952),
}


def small(**fields) -> mixer.MlpMixer:
    sizes = dict(patch_size=4, num_blocks=2, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=16)
    return mlp_mixer.create(**({"num_classes": 5, "image_size": 16} | sizes | fields))


def random_params(module: mixer.MlpMixer, seed: int = 0):
    """Parameters that are nowhere zero, the head included."""
    return nowhere_zero(module, np.random.default_rng(seed))


def images(module: mixer.MlpMixer, n: int = 3, seed: int = 1) -> np.ndarray:
    shape = (n, *module.image_size, module.image_channels)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def numpy_mixer(params, x: np.ndarray, patch: tuple[int, int]) -> np.ndarray:
    """The paper's equations in float64: images to logits."""

    def dense(p, y):
        return y @ p["kernel"].astype(np.float64) + p["bias"]

    def norm(p, y):
        y = y - y.mean(-1, keepdims=True)
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]

    def mlp(p, y):
        y = dense(p["Dense_0"], y)
        y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        return dense(p["Dense_1"], y)

    n, h, w, c = x.shape
    ph, pw = patch
    patches = x.reshape(n, h // ph, ph, w // pw, pw, c).transpose(0, 1, 3, 2, 4, 5)
    kernel = params["stem"]["kernel"].reshape(ph * pw * c, -1)
    x = dense(
        {"kernel": kernel, "bias": params["stem"]["bias"]}, patches.reshape(n, -1, len(kernel))
    )
    for i in range(sum(name.startswith("MixerBlock_") for name in params)):
        block = params[f"MixerBlock_{i}"]
        y = norm(block["LayerNorm_0"], x).transpose(0, 2, 1)
        x = x + mlp(block["token_mixing"], y).transpose(0, 2, 1)
        x = x + mlp(block["channel_mixing"], norm(block["LayerNorm_1"], x))
    return dense(params["head"], norm(params["pre_head_layer_norm"], x).mean(1))


def test_every_variant_has_a_row_of_counts():
    assert set(mixer.VARIANTS) == set(COUNTS)


@pytest.mark.parametrize("variant", mixer.VARIANTS)
def test_parameter_counts_are_those_of_the_paper(variant):
    for num_classes, count in zip((0, 1000), COUNTS[variant], strict=True):
        module = mlp_mixer.create(variant, num_classes=num_classes)
        params = jax.eval_shape(lambda m=module: init(m))
        assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_names_and_shapes_are_those_of_the_published_files(published):
    params = jax.eval_shape(lambda: init(mlp_mixer.create("B/16", num_classes=21843)))
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape
        for path, x in jax.tree_util.tree_leaves_with_path(params)
    }
    assert flat == published.linen_shapes("B/16", 21843)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"image_size": (8, 24), "patch_size": (2, 6)},
        {"image_channels": 1},
        {"image_channels": 5, "num_blocks": 1},
    ],
)
def test_logits_equal_the_papers_equations(fields, highest_precision):
    module = small(**fields)
    params = random_params(module)
    x = images(module)
    logits = jax.jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(logits, numpy_mixer(params, x, module.patch_size), atol=1e-5)


def test_an_image_has_no_influence_on_another():
    module = small()
    params, x = random_params(module), images(module)
    gradient = jax.jit(jax.grad(lambda x: module.apply({"params": params}, x)[0].sum()))(x)
    assert np.abs(gradient[0]).max() > 0
    assert np.abs(gradient[1:]).max() == 0


def test_the_head_starts_at_zero_and_its_bias_where_told():
    module = small(head_bias=-6.9)
    logits = module.apply({"params": init(module)}, images(module))
    np.testing.assert_array_equal(logits, np.full((3, 5), np.float32(-6.9)))


def test_without_classes_the_result_is_the_pooled_features():
    module = small()
    params, x = random_params(module), images(module)
    logits, features = module.apply({"params": params}, x, return_features=True)
    headless = {name: child for name, child in params.items() if name != "head"}
    pooled = module.clone(num_classes=0).apply({"params": headless}, x)
    np.testing.assert_array_equal(pooled, features["pre_logits"])
    head = params["head"]
    np.testing.assert_allclose(logits, pooled @ head["kernel"] + head["bias"], atol=1e-5)
    assert set(features) == {"stem", "MixerBlock_0", "MixerBlock_1", "pre_logits"}
    assert features["MixerBlock_1"].shape == (3, 16, 8)


def test_the_compute_dtype_changes_no_parameter_or_result_type():
    module = small(dtype=jnp.bfloat16)
    params, x = random_params(module), images(module)
    assert {leaf.dtype for leaf in jax.tree.leaves(init(module))} == {np.dtype("float32")}
    logits = module.apply({"params": params}, x)
    assert logits.dtype == jnp.float32
    exact = small().apply({"params": params}, x)
    assert 0 < np.abs(logits - exact).max() < 0.1 * np.abs(exact).max() + 0.1


def test_rounded_parameters_give_the_same_bits():
    module = small(dtype=jnp.bfloat16)
    params, x = random_params(module), images(module)
    rounded = mixer.rounded(module, params)
    for found, expected in zip(
        *(jax.tree.leaves(module.apply({"params": p}, x, return_features=True))
          for p in (rounded, params)), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(found, expected)
    block = rounded["MixerBlock_1"]
    for layer in (
        rounded["stem"],
        *block["token_mixing"].values(),
        *block["channel_mixing"].values(),
    ):
        assert {x.dtype for x in layer.values()} == {jnp.dtype("bfloat16")}
    assert mixer.rounded(small(), params) is params  # in float32
    assert mixer.rounded(types.SimpleNamespace(dtype=jnp.bfloat16), params) is params  # no Mixer


def test_stochastic_depth_drops_the_last_most_the_first_never():
    module = small(stoch_depth=1.0, num_blocks=3)
    params, x = random_params(module), images(module, n=64)
    rngs = {"dropout": jax.random.key(0)}
    _, train = module.apply({"params": params}, x, train=True, return_features=True, rngs=rngs)
    _, test = module.apply({"params": params}, x, return_features=True)
    np.testing.assert_array_equal(train["MixerBlock_0"], test["MixerBlock_0"])
    np.testing.assert_array_equal(train["MixerBlock_2"], train["MixerBlock_1"])
    # The middle block drops each of its two branches for half of the images, without rescaling.
    kept = [np.allclose(a, b, atol=1e-5) for a, b in
            zip(train["MixerBlock_1"], test["MixerBlock_1"], strict=True)]  # fmt: skip
    skipped = [np.array_equal(a, b) for a, b in
               zip(train["MixerBlock_1"], train["MixerBlock_0"], strict=True)]  # fmt: skip
    assert 6 <= sum(kept) <= 28 and 6 <= sum(skipped) <= 28  # 16 expected of each


def dropping(module, scale=None):
    """Features of 64 images in training, and those in evaluation."""
    params, x = random_params(module), images(module, n=64)
    scale = {} if scale is None else {"drop_scale": jnp.float32(scale)}
    train = module.apply({"params": params}, x, train=True, return_features=True,
                         rngs={"dropout": jax.random.key(0)}, **scale)[1]  # fmt: skip
    return train, module.apply({"params": params}, x, return_features=True)[1]


def test_what_stochastic_depth_keeps_is_rescaled_as_in_timm():
    """One block whose token branch is kept and whose channel branch is dropped, and so on."""
    train, test = dropping(small(stoch_depth=0.5, num_blocks=2, stoch_depth_rescale=True))
    before, whole = test["MixerBlock_0"], test["MixerBlock_1"]
    plain, _ = dropping(small(stoch_depth=0.5, num_blocks=2))
    same_draws = 0
    for ours, theirs, x, full in zip(
        train["MixerBlock_1"], plain["MixerBlock_1"], before, whole, strict=True
    ):
        if np.array_equal(theirs, x):  # both branches are dropped
            np.testing.assert_array_equal(ours, x)
        elif not np.allclose(theirs, full, atol=1e-5):  # one of them: half as long without
            one = np.linalg.norm(theirs - x), np.linalg.norm(ours - x)
            assert one[1] == pytest.approx(2 * one[0], rel=1e-4)
            same_draws += 1
    assert same_draws > 16  # of 32 expected
    nothing = dropping(small(stoch_depth=1.0, num_blocks=2, stoch_depth_rescale=True))[0]
    np.testing.assert_array_equal(nothing["MixerBlock_1"], nothing["MixerBlock_0"])


@pytest.mark.slow
def test_a_factor_of_the_rates_is_as_another_rate():
    train, test = dropping(small(stoch_depth=0.8, dropout_rate=0.4, num_blocks=2), scale=0.5)
    other, _ = dropping(small(stoch_depth=0.4, dropout_rate=0.2, num_blocks=2))
    np.testing.assert_allclose(train["pre_logits"], other["pre_logits"], rtol=1e-5, atol=1e-5)
    assert not np.allclose(train["pre_logits"], test["pre_logits"])
    none, test = dropping(small(stoch_depth=0.8, dropout_rate=0.4, num_blocks=2), scale=0.0)
    np.testing.assert_allclose(none["pre_logits"], test["pre_logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_rematerialisation_changes_no_name_and_no_gradient():
    module = small(stoch_depth=0.5, dropout_rate=0.1)
    params, x = random_params(module), images(module)

    def gradient(module):
        def energy(params):
            rngs = {"dropout": jax.random.key(1)}
            return (module.apply({"params": params}, x, train=True, rngs=rngs) ** 2).sum()

        return jax.jit(jax.grad(energy))(params)

    again = module.clone(remat=True)
    jax.tree.map(np.testing.assert_array_equal, init(again), init(module))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * abs(a).max()),
        gradient(module),
        gradient(again),
    )


def test_dropout_acts_in_training_only():
    module = small(dropout_rate=0.5)
    params, x = random_params(module), images(module)
    runs = [
        module.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(i)})
        for i in (0, 1)
    ]
    assert np.abs(runs[0] - runs[1]).max() > 0
    np.testing.assert_array_equal(
        module.apply({"params": params}, x), small().apply({"params": params}, x)
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(image_size=18), ["18x18", "4x4"]),
        (lambda: small(image_size=(16, 6)), ["16x6", "4x4"]),
        (lambda: mlp_mixer.create("B16"), ["B16", "B/16"]),
        (lambda: mlp_mixer.create("M/16"), ["M/16", "S, B, L, H"]),
        (lambda: mlp_mixer.create("B/16", width=3), ["width", "hidden_dim"]),
        (lambda: mlp_mixer.create(patch_size=4), ["hidden_dim", "num_blocks"]),
    ],
)
def test_an_impossible_model_is_refused_with_what_is_wrong(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words), error.value


def test_an_input_of_another_size_is_refused_naming_both_sizes():
    module = small()
    params = random_params(module)
    with pytest.raises(ValueError, match=r"\(1, 20, 16, 3\).*16, 16, 3"):
        module.apply({"params": params}, np.zeros((1, 20, 16, 3), np.float32))
    with pytest.raises(ValueError, match="uint8"):
        module.apply({"params": params}, np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match=r"16 tokens .*24x16.* 24"):
        small(image_size=(24, 16)).apply({"params": params}, np.zeros((1, 24, 16, 3), np.float32))


def test_the_layers_of_all_blocks_are_traced_once():
    module = small(num_blocks=5, stoch_depth=0.3, dropout_rate=0.1)
    params, rngs = init(module), {"dropout": jax.random.key(0)}

    def forward(x):
        return module.apply({"params": params}, x, train=True, rngs=rngs)

    calls = [e.params for e in jax.make_jaxpr(forward)(images(module)).eqns if "jaxpr" in e.params]
    for layer, count, traces in (("dense", 20, 4), ("layer_norm", 11, 1), ("in_float32", 10, 2)):
        jaxprs = [id(call["jaxpr"]) for call in calls if call["name"] == layer]
        assert (len(jaxprs), len(set(jaxprs))) == (count, traces)


@pytest.mark.slow
def test_a_block_more_costs_the_same_whatever_the_depth():
    """On CPUs, XLA has fused the gradient of each block with those of all blocks after it."""

    def traffic(blocks):
        module = small(num_blocks=blocks)
        params = jax.eval_shape(lambda: init(module))
        pixels = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
        gradient = jax.jit(jax.grad(lambda p, x: module.apply({"params": p}, x).sum()))
        return gradient.lower(params, pixels).compile().cost_analysis()["bytes accessed"]

    two, four, six = (traffic(blocks) for blocks in (2, 4, 6))
    assert six - four == pytest.approx(four - two, rel=0.02)
