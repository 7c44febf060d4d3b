"""Weights at another input size: the paper's tiling, resampling, other patches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.models import mixer
from mlp_mixer.models.checks import as_pair
from mlp_mixer.models.init import shapes
from mlp_mixer.weights import resample
from mlp_mixer.weights.resize import SCHEMES, resize_module, resize_params


def small(image_size=(8, 12), patch_size=(4, 4), **fields) -> mixer.MlpMixer:
    widths = dict(num_blocks=2, hidden_dim=8, tokens_mlp_dim=5, channels_mlp_dim=16)
    return mixer.create(
        num_classes=3, image_size=image_size, patch_size=patch_size, **widths | fields
    )


def random_params(module: mixer.MlpMixer, seed: int = 0) -> dict:
    """Nothing is zero, so nothing drops out of a comparison."""
    rng = np.random.default_rng(seed)
    flat = {
        name: (rng.normal(size=shape) * 0.5).astype(np.float32)
        for name, shape in shapes(module).items()
    }
    return traverse_util.unflatten_dict(flat, sep="/")


def images(module: mixer.MlpMixer, n: int = 2, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (n, *module.image_size, 3)).astype(np.float32)


def pooled(module: mixer.MlpMixer, params: dict, x: np.ndarray) -> np.ndarray:
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(module.apply, static_argnames="return_features")
        _, features = apply({"params": params}, x, return_features=True)
    return np.asarray(features["pre_logits"])


# --- tile -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kh", "kw"), [(2, 2), (3, 2), (1, 2), (2, 1), (1, 3)])
def test_a_tiled_model_sees_the_mean_of_what_the_old_one_sees(kh, kw):
    module = small()
    h, w = module.image_size
    size = (kh * h, kw * w)
    large = resize_module(module, size)
    params = random_params(module)
    tiled = resize_params(params, module, size)
    x = images(large)
    parts = [x[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(kh) for j in range(kw)]
    seen = pooled(module, params, np.concatenate(parts)).reshape(kh * kw, len(x), -1)
    np.testing.assert_allclose(pooled(large, tiled, x), seen.mean(0), atol=2e-6)
    assert large.tokens_mlp_dim == kh * kw * module.tokens_mlp_dim


def test_each_token_of_a_tiled_model_has_the_bias_of_its_place():
    """No output shows it: the next LayerNorm takes out what all channels of a token share."""
    module = small(image_size=(8, 12))  # 2 x 3 tokens
    params = random_params(module)
    tiled = resize_params(params, module, (24, 24))
    old, new = (p["MixerBlock_0"]["token_mixing"]["Dense_1"]["bias"] for p in (params, tiled))
    np.testing.assert_array_equal(new.reshape(6, 6), np.tile(old.reshape(2, 3), (3, 2)))


@pytest.mark.parametrize(
    ("variant", "count"), [("B/16", 86_227_392), ("L/16", 279_475_584), ("H/14", 588_442_368)]
)
def test_parameter_counts_at_448_are_those_of_the_papers_scheme(variant, count):
    large = resize_module(mlp_mixer.create(variant, num_classes=0), 448)
    assert sum(int(np.prod(shape)) for shape in shapes(large).values()) == count


def test_parameters_have_the_shapes_of_the_resized_module():
    module = small()
    for size, patch, resize in (
        ((16, 24), None, "tile"),
        ((16, 24), None, "resample"),
        ((20, 4), None, "auto"),
        (None, (2, 3), "auto"),
        ((10, 30), (5, 3), "auto"),
    ):
        resized = resize_module(module, size, patch, resize)
        params = resize_params(random_params(module), module, size, patch, resize)
        flat = traverse_util.flatten_dict(params, sep="/")
        assert {name: x.shape for name, x in flat.items()} == shapes(resized)


# --- resample -------------------------------------------------------------------------------------


@pytest.mark.parametrize("resize", SCHEMES)
def test_own_size_changes_nothing(resize):
    module = small()
    params = random_params(module)
    assert resize_module(module, (8, 12), 4, resize) == module
    same = resize_params(params, module, (8, 12), 4, resize)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, same))


@pytest.mark.parametrize(("old", "new"), [(14, 14), (14, 10), (14, 16), (14, 28), (5, 3), (3, 7)])
def test_cubic_resizing_is_that_of_jax_image_resize(old, new):
    field = np.random.default_rng(0).normal(size=(old, 6)).astype(np.float32)
    want = jax.image.resize(field, (new, 6), "cubic", precision="highest")
    np.testing.assert_allclose(resample.cubic(old, new) @ field, want, atol=1e-5)


def wave(grid: tuple[int, int], along: float, across: float) -> np.ndarray:
    """A smooth field over the image, sampled at the centres of a grid's patches, raster order."""
    y, x = ((np.arange(n) + 0.5) / n for n in grid)
    return (np.cos(np.pi * along * y)[:, None] * np.cos(np.pi * across * x + 0.4)).ravel()


@pytest.mark.parametrize("new", [(10, 16), (16, 16), (9, 9), (28, 21), (14, 14)])
def test_smooth_filters_and_fields_stay_the_same(new):
    old = (14, 14)
    waves = [(0, 0), (1, 0), (0, 1), (1, 2), (2, 2)]
    mlp = {
        "Dense_0": {
            "kernel": np.stack([wave(old, *w) for w in waves], 1) / np.prod(old),
            "bias": np.arange(5.0),
        },
        "Dense_1": {"kernel": np.stack([wave(old, *w) for w in waves]), "bias": wave(old, 2, 1)},
    }
    resized = resample.token_mixing(mlp, old, new)
    # The filter is the same function of the place in the image, as a density over it.
    for i, w in enumerate(waves):
        kernel = resized["Dense_0"]["kernel"][:, i] * np.prod(new)
        np.testing.assert_allclose(kernel, wave(new, *w), atol=0.07)
        np.testing.assert_allclose(resized["Dense_1"]["kernel"][i], wave(new, *w), atol=0.07)
    np.testing.assert_allclose(resized["Dense_1"]["bias"], wave(new, 2, 1), atol=0.07)
    # So the hidden units respond alike to a field that is the same function of the place.
    for w in waves:
        before = wave(old, *w) @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"]
        after = wave(new, *w) @ resized["Dense_0"]["kernel"] + resized["Dense_0"]["bias"]
        np.testing.assert_allclose(after, before, atol=0.01)


@pytest.mark.parametrize("new", [(1, 1), (2, 5), (6, 4), (9, 3)])
def test_constants_stay_constants(new):
    """The mean over the image is as good at any size: mixing with it must not scale."""
    old = (4, 5)
    mean = {"kernel": np.full((20, 6), 1 / 20), "bias": np.arange(6.0)}
    spread = {"kernel": np.ones((6, 20)), "bias": np.full(20, 3.0)}
    resized = resample.token_mixing({"Dense_0": mean, "Dense_1": spread}, old, new)
    np.testing.assert_allclose(resized["Dense_0"]["kernel"], 1 / np.prod(new), rtol=1e-12)
    np.testing.assert_array_equal(resized["Dense_0"]["bias"], mean["bias"])
    np.testing.assert_allclose(resized["Dense_1"]["kernel"], 1, rtol=1e-12)
    np.testing.assert_allclose(resized["Dense_1"]["bias"], 3, rtol=1e-12)


def test_resampling_commutes_with_mirroring_the_image():
    module = small((16, 24))
    params = random_params(module)

    def mirrored(params: dict, module: mixer.MlpMixer) -> dict:
        order = np.arange(np.prod(module.grid)).reshape(module.grid)[:, ::-1].ravel()
        flat = traverse_util.flatten_dict(params, sep="/")
        for name, x in flat.items():
            if name.endswith("token_mixing/Dense_0/kernel"):
                flat[name] = x[order]
            elif "token_mixing/Dense_1" in name:
                flat[name] = x[..., order]
        return flat

    size = (20, 12)
    resized = resize_module(module, size)
    one = mirrored(resize_params(params, module, size), resized)
    before = traverse_util.unflatten_dict(mirrored(params, module), sep="/")
    other = traverse_util.flatten_dict(resize_params(before, module, size), sep="/")
    for name, x in one.items():
        np.testing.assert_allclose(other[name], x, atol=1e-6, err_msg=name)


# --- patches --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("patch", [(6, 6), (8, 4), (4, 7)])
def test_larger_patches_of_an_enlarged_image_keep_the_logits(patch):
    """FlexiViT's promise: the stem sees an interpolated patch as the old one saw the patch."""
    module = small()
    params = random_params(module)
    size = tuple(g * p for g, p in zip(module.grid, patch, strict=True))
    large = resize_module(module, size, patch)
    resized = resize_params(params, module, size, patch)
    x = images(module)
    (gh, gw), (ph, pw) = module.grid, module.patch_size
    patches = x.reshape(len(x), gh, ph, gw, pw, 3).transpose(0, 1, 3, 2, 4, 5)
    enlarged = jax.image.resize(
        patches, (len(x), gh, gw, *patch, 3), "linear", precision="highest"
    ).transpose(0, 1, 3, 2, 4, 5)
    np.testing.assert_allclose(
        pooled(large, resized, enlarged.reshape(len(x), *size, 3)),
        pooled(module, params, x),
        atol=1e-5,
    )


def test_stem_is_the_least_squares_solution_for_smaller_patches():
    kernel = np.random.default_rng(0).normal(size=(6, 4, 3, 5))
    resized = resample.stem(kernel, (3, 3))
    shrink = np.kron(resample.linear(6, 3), resample.linear(4, 3))
    want, *_ = np.linalg.lstsq(shrink.T, kernel.reshape(24, 15), rcond=None)
    np.testing.assert_allclose(resized, want.reshape(3, 3, 3, 5), atol=1e-12)


# --- choosing and refusing ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "patch", "tokens_mlp_dim"),
    [
        ((16, 24), None, 20),  # whole multiples: tiled
        ((8, 24), None, 10),
        ((12, 24), None, 5),  # resampled
        ((4, 8), None, 5),
        ((8, 12), (2, 2), 5),  # the same image in smaller patches: resampled
        ((16, 24), (8, 8), 5),  # the same grid
    ],
)
def test_auto_tiles_whole_multiples_and_resamples_the_rest(size, patch, tokens_mlp_dim):
    assert resize_module(small(), size, patch).tokens_mlp_dim == tokens_mlp_dim


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(image_size=(10, 12)), ["8x12", "10x12", "4x4"]),
        (dict(image_size=0), ["image_size", "got 0"]),
        (dict(patch_size=5), ["8x12", "5x5"]),
        (dict(image_size=(12, 12), resize="tile"), ["8x12", "12x12", "resample"]),
        (dict(image_size=(4, 12), resize="tile"), ["8x12", "4x12", "resample"]),
        (dict(image_size=(16, 24), resize="bilinear"), ["bilinear", "tile", "resample"]),
    ],
)
def test_impossible_sizes_are_refused_with_both_sizes(arguments, said):
    module = small()
    with pytest.raises(ValueError) as error:
        resize_module(module, **arguments)
    assert all(text in str(error.value) for text in said), error.value
    with pytest.raises(ValueError):
        resize_params(random_params(module), module, **arguments)


@pytest.mark.parametrize(
    ("size", "resize", "tokens_mlp_dim"),
    [(16, "auto", 20), (16, "resample", 5), ((20, 32), "auto", 5), ((4, 8), "auto", 5)],
)
def test_load_gives_the_module_that_fits(tmp_path, size, resize, tokens_mlp_dim):
    module = small((8, 8))
    mlp_mixer.save(tmp_path / "weights.npz", module, random_params(module))
    resized, params = mlp_mixer.load(tmp_path / "weights.npz", image_size=size, resize=resize)
    assert resized.image_size == as_pair(size)
    assert resized.tokens_mlp_dim == tokens_mlp_dim
    assert jax.tree.all(jax.tree.map(lambda x: x.dtype == np.float32, params))
    logits = jax.jit(resized.apply)({"params": params}, images(resized))
    assert logits.shape == (2, 3) and jnp.isfinite(logits).all()
