"""Reading and writing weights, against the golden logits of an independent implementation."""

import jax
import numpy as np
import pytest
from flax import traverse_util

import mlp_mixer
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init, shapes

from ..conftest import nowhere_zero

pytestmark = pytest.mark.slow


def small(**fields) -> mixer.MlpMixer:
    sizes = dict(patch_size=4, num_blocks=2, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=16)
    return mlp_mixer.create(**({"num_classes": 5, "image_size": 16} | sizes | fields))


@pytest.fixture
def saved(tmp_path):
    """A small model's random parameters, and the file that holds them."""
    module = small()
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng)
    mlp_mixer.save(tmp_path / "small.npz", module, params)
    return module, params, tmp_path / "small.npz"


@pytest.mark.parametrize("name", ["S/32@1000", "B/16@21843"])
def test_published_files_give_the_golden_logits(
    golden, published, tmp_path, highest_precision, name
):
    variant, num_classes = name.split("@")
    path = tmp_path / "x.npz"
    published.write(path, variant, layout="linen", num_classes=int(num_classes))
    module, params = mlp_mixer.load(path)
    published.write(path, variant, layout="pre-linen", num_classes=int(num_classes))
    old_module, old_params = mlp_mixer.load(path)
    assert old_module == module
    jax.tree.map(np.testing.assert_array_equal, old_params, params)
    assert module == mlp_mixer.create(variant, num_classes=int(num_classes))
    assert sum(x.size for x in jax.tree.leaves(params)) == golden[name]["parameters"]
    logits = jax.jit(module.apply)({"params": params}, published.image_batch())
    np.testing.assert_allclose(logits[:, :8], golden[name]["logits_first_8"], atol=2e-6, rtol=0)
    assert logits.argmax(-1).tolist() == golden[name]["argmax"]


def test_what_was_saved_is_loaded_bit_by_bit(saved):
    module, params, path = saved
    loaded_module, loaded = mlp_mixer.load(path)
    assert loaded_module == module
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


@pytest.mark.parametrize("fields", [{}, {"num_classes": 0}, {"image_size": (8, 12)}])
def test_shapes_are_those_that_the_module_makes(fields):
    module = small(**fields)
    params = jax.eval_shape(lambda: init(module))
    assert shapes(module) == {
        jax.tree_util.keystr(path, simple=True, separator="/"): x.shape
        for path, x in jax.tree_util.tree_leaves_with_path(params)
    }


def test_another_number_of_classes_gets_a_new_head_at_zero(saved):
    _, params, path = saved
    headless, body = mlp_mixer.load(path, num_classes=0)
    assert headless.num_classes == 0 and "head" not in body
    ten, with_head = mlp_mixer.load(path, num_classes=10)
    assert ten.num_classes == 10
    assert with_head["head"]["kernel"].shape == (8, 10)
    assert not with_head["head"]["kernel"].any() and not with_head["head"]["bias"].any()
    _, same = mlp_mixer.load(path, num_classes=5)
    np.testing.assert_array_equal(same["head"]["kernel"], params["head"]["kernel"])


def test_tokens_that_form_no_square_need_the_image_size(tmp_path):
    module = small(image_size=(8, 12))  # which a file that NumPy wrote does not say
    np.savez(tmp_path / "x.npz", **traverse_util.flatten_dict(init(module), sep="/"))
    with pytest.raises(ValueError, match=r"6 patches of 4x4.*square"):
        mlp_mixer.load(tmp_path / "x.npz")
    assert mlp_mixer.load(tmp_path / "x.npz", image_size=(8, 12))[0] == module
    with pytest.raises(ValueError, match="8x8"):
        mlp_mixer.load(tmp_path / "x.npz", image_size=8)


def test_a_square_is_never_taken_for_a_shape_of_as_many_tokens(saved):
    with pytest.raises(ValueError, match="8x32"):
        mlp_mixer.load(saved[2], image_size=(8, 32), resize="tile")
    _, params = mlp_mixer.load(saved[2], image_size=(8, 32))
    resampled = params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"]
    square = saved[1]["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"]
    assert resampled.shape == square.shape and not np.allclose(resampled, square)


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        mlp_mixer.load(tmp_path / "nothing.npz")


def _rewrite(path, change):
    arrays = dict(np.load(path))
    change(arrays)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("MixerBlock_1/channel_mixing/Dense_1/bias"), ["Dense_1/bias", "nothing"]),
        (lambda a: a.pop("stem/kernel"), ["stem/kernel", "missing"]),
        (lambda a: a.update(extra=np.zeros(3, "f4")), ["extra", "(3,)"]),
        (lambda a: a.update({"head/bias": np.zeros(4, "f4")}), ["head/bias", "(4,)", "(5,)"]),
        (lambda a: a.update({"head/bias": np.zeros(5, "i4")}), ["head/bias", "int32"]),
    ],
)
def test_arrays_that_are_no_whole_mixer_are_refused_by_name(saved, change, words):
    _rewrite(saved[2], change)
    with pytest.raises(ValueError) as error:
        mlp_mixer.load(saved[2])
    assert all(word in str(error.value) for word in [*words, "small.npz"]), error.value


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], ["damaged"]),
        (lambda data: data[:1000] + bytes([data[1000] ^ 255]) + data[1001:], ["damaged"]),
        (lambda data: b"<!DOCTYPE html><html>404</html>", ["not an .npz", "<!DOCTYPE"]),
        (lambda data: b"", ["empty"]),
    ],
)
def test_a_damaged_file_is_refused_by_name(saved, damage, words):
    saved[2].write_bytes(damage(saved[2].read_bytes()))
    with pytest.raises(ValueError) as error:
        mlp_mixer.load(saved[2])
    assert all(word in str(error.value) for word in [*words, "small.npz"]), error.value
