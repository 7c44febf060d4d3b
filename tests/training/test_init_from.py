"""A run that starts from weights of another size: the config alone says which model it trains."""

from unittest import mock

import jax
import ml_collections
import numpy as np
import pytest

import mlp_mixer
from configs import digits
from mlp_mixer.models.init import init
from mlp_mixer.training import fields, initial
from mlp_mixer.training.recipe import make_model
from mlp_mixer.weights import load as load_module
from mlp_mixer.weights.resize import resize_params

from ..conftest import nowhere_zero

DIGITS = tuple("0123456789")


def config(**fields) -> ml_collections.ConfigDict:
    config = digits.get_config()
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=8)
    config.update(fields)
    return config


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights for 8x8 pixels in patches of 2x2, as some earlier run has left them."""
    module = make_model(config(), num_classes=10)
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng, 1.0)
    path = tmp_path_factory.mktemp("trained") / "model.npz"
    mlp_mixer.save(path, module, params)
    return path, module, params


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "patch_size", "tokens_mlp_dim"),
    [
        (dict(image_size=(16, 16), init_image_size=(8, 8)), (2, 2), 24),
        (dict(image_size=(16, 16), init_image_size=(8, 8), init_resize="resample"), (2, 2), 6),
        (dict(image_size=(12, 10), init_image_size=(8, 8)), (2, 2), 6),
        (dict(init_patch_size=(2, 2)), (4, 4), 6),
    ],
)
def test_run_starts_from_the_weights_at_the_size_of_the_config(
    trained, fields, patch_size, tokens_mlp_dim
):
    path, trained_module, trained_params = trained
    run = config(init_from=str(path), **fields)
    run.model.patch_size = patch_size
    module = make_model(run, num_classes=10)
    params = initial.parameters(run, module, DIGITS)
    assert module.tokens_mlp_dim == tokens_mlp_dim
    want = resize_params(
        trained_params,
        trained_module,
        module.image_size,
        module.patch_size,
        run.init_resize,
    )
    for name in ("stem", "MixerBlock_0"):
        jax.tree.map(np.testing.assert_array_equal, params[name], want[name])


def test_head_is_new_unless_it_is_kept(trained):
    path, module, trained_params = trained
    new = initial.parameters(config(init_from=str(path)), module, DIGITS)
    assert not np.any(new["head"]["kernel"])
    kept = initial.parameters(config(init_from=str(path), init_head="keep"), module, DIGITS)
    np.testing.assert_array_equal(kept["head"]["kernel"], trained_params["head"]["kernel"])


def test_outputs_of_a_kept_head_are_those_of_the_same_names(trained, tmp_path):
    _, module, params = trained
    path, names = tmp_path / "named.npz", tuple("abcdefghij")
    mlp_mixer.save(path, module, params, class_names=names)
    run, turned = config(init_from=str(path), init_head="keep"), tuple("jabcdefghi")
    kept = initial.parameters(run, module, turned)["head"]
    for i, name in enumerate(turned):
        was = names.index(name)
        for part in ("kernel", "bias"):
            np.testing.assert_array_equal(kept[part][..., i], params["head"][part][..., was])
    with pytest.raises(ValueError, match=r"other classes than .*named\.npz.*'k'.*'j'"):
        initial.parameters(run, module, tuple("abcdefghik"))
    new = initial.parameters(config(init_from=str(path)), module, tuple("abcdefghik"))
    assert not np.any(new["head"]["kernel"])  # a new head may be for any classes


def test_a_head_known_to_be_for_the_same_classes_is_kept(trained, tmp_path):
    _, module, params = trained
    path, names = tmp_path / "named.npz", tuple("abcdefghij")
    mlp_mixer.save(path, module, params, class_names=names)
    run = config(init_from=str(path), init_head="auto")
    kept = initial.parameters(run, module, names)
    np.testing.assert_array_equal(kept["head"]["kernel"], params["head"]["kernel"])
    for weights, classes in ((path, tuple("abcdefghik")), (trained[0], DIGITS)):
        new = initial.parameters(config(init_from=str(weights)), module, classes)
        assert not np.any(new["head"]["kernel"])


def test_the_size_that_weights_were_trained_at_is_read_from_them(trained):
    run = config(init_from=str(trained[0]), image_size=(16, 16))
    for said in ((), (4, 4)):
        run.init_image_size = said
        found = initial.with_trained_sizes(run)
        assert (found.init_image_size, found.init_patch_size) == ((8, 8), (2, 2))
    assert make_model(found, num_classes=10).tokens_mlp_dim == 4 * 6  # tiled


def test_a_tiled_model_is_gone_on_from_with_its_width(trained, tmp_path):
    path = tmp_path / "tiled.npz"
    module, params = mlp_mixer.load(trained[0], image_size=16)
    mlp_mixer.save(path, module, params)
    run = config(init_from=str(path), image_size=(16, 16))
    found = initial.with_trained_sizes(run)
    again = make_model(found, num_classes=10)
    assert again.tokens_mlp_dim == found.model.tokens_mlp_dim == 24
    initial.parameters(found, again, DIGITS)
    assert fields.changes_training(found.to_dict(), run.to_dict()) == []
    later = initial.with_trained_sizes(run, found.to_dict())  # goes on, the weights may be gone
    assert later.to_dict() == found.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vit", "bit"])
def test_a_run_of_another_architecture_can_be_gone_on_from(architecture, tmp_path):
    own = {
        "vit": dict(patch_size=(4, 4), num_blocks=1, hidden_dim=8, mlp_dim=8, num_heads=2),
        "bit": dict(stages=(1,), width=8, groups=4, stem="3x3"),
    }[architecture]
    run = digits.get_config()
    run.architecture, run.model = architecture, ml_collections.ConfigDict(own)
    module = make_model(run, num_classes=10)
    params = jax.tree.map(lambda x: np.full(x.shape, 0.5, np.float32), init(module))
    with run.unlocked():
        run.init_from = str(tmp_path)
    weights = load_module.Weights(module, params, {"class_names": list(DIGITS)})
    with mock.patch.object(initial, "read", lambda *args, **options: weights):
        found = initial.parameters(run, module, DIGITS)
        jax.tree.map(np.testing.assert_array_equal, found, params)
        run.permuted.order, run.permuted.patch_size = "pixels", (4, 4)
        with pytest.raises(ValueError, match=r"architecture, permuted.*in the same order"):
            initial.parameters(run, make_model(run, 10), DIGITS)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (dict(architecture="vit"), "is a run of architecture=vit"),
        (dict(permuted=dict(order="pixels")), "is a model of permuted pixels"),
    ],
)
def test_a_mixer_does_not_start_from_other_models(before, words):
    opened = mock.MagicMock()
    opened.__enter__.return_value.config = before
    run, message = config(init_from="x"), rf"init_from=x {words}.*\(architecture, permuted\)"
    with (
        mock.patch.object(initial, "open_weights", lambda name: opened),
        pytest.raises(ValueError, match=message),
    ):
        initial.parameters(run, make_model(run, 10), DIGITS)


def test_head_of_another_size_cannot_be_kept(trained):
    run = config(init_from=str(trained[0]), init_head="keep")
    with pytest.raises(ValueError, match=r"tells 10 classes apart, digits has 3"):
        initial.parameters(run, make_model(run, num_classes=3), "abc")


def test_weights_that_do_not_fit_the_config_are_refused_by_name(trained):
    # Without init_image_size the config's model is as wide as the trained one; the tiled is wider.
    run = config(init_from=str(trained[0]), image_size=(16, 16))
    with pytest.raises(ValueError, match="init_image_size"):
        initial.parameters(run, make_model(run, num_classes=10), DIGITS)


def test_weights_of_the_other_gelu_are_refused_naming_the_field(trained, tmp_path):
    _, module, params = trained
    path = tmp_path / "exact.npz"
    mlp_mixer.save(path, module.clone(gelu="exact"), params)
    run = config(init_from=str(path))
    with pytest.raises(ValueError, match=r"--config\.model\.gelu=exact"):
        initial.parameters(run, module, DIGITS)
    run.model.gelu = "exact"
    initial.parameters(run, make_model(run, num_classes=10), DIGITS)


def test_the_log_says_where_parameters_come_from(trained, tmp_path, caplog):
    path, module, params = trained
    named = tmp_path / "named.npz"
    mlp_mixer.save(named, module, params, class_names=tuple("abcdefghij"))
    runs = {
        "parameters: random, from seed 5": config(seed=5),
        f"parameters: all, with the head, from {named}": config(init_from=str(named)),
        f"parameters: all but the head, which is new ({path} does not say": config(
            init_from=str(path)
        ),
        f"parameters: all but the head, which is new, from {path}": config(
            init_from=str(path), init_head="new"
        ),
    }
    for words, run in runs.items():
        caplog.clear()
        with caplog.at_level("INFO"):
            initial.parameters(run, module, tuple("abcdefghij"))
        assert words in caplog.text and "WARNING" not in caplog.text, words


def test_a_run_from_scratch_with_fields_for_weights_is_warned(caplog):
    run = config(init_head="new", init_image_size=(8, 8))
    initial.parameters(run, make_model(run, 10), DIGITS)
    assert "init_from is not set, though init_head, init_image_size: training" in caplog.text
