"""What is saved can be loaded, and what could not be is not saved."""

import json

import jax
import numpy as np
import pytest

import mlp_mixer
from mlp_mixer.data.images import CROPS
from mlp_mixer.runs.folder import workdir_of
from mlp_mixer.weights import metadata
from mlp_mixer.weights.load import read


@pytest.fixture(scope="module")
def weights():
    module = mlp_mixer.create(
        num_classes=3, image_size=4, patch_size=2, num_blocks=1, hidden_dim=4,
        tokens_mlp_dim=3, channels_mlp_dim=5,
    )  # fmt: skip
    return module, jax.device_get(mlp_mixer.init(module))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (dict(class_names=range(3)), "names no classes"),
        (dict(class_names="abc"), "names no classes"),
        (dict(class_names=["a", "b"]), "names 2 classes.*its head has 3"),
        (dict(crop=3), "crop is 3; it may be resmall or resize"),
        (dict(crop="foo"), "crop is 'foo'"),
        (dict(crop_fraction=7.0), "crop_fraction is 7.0.*over 0 and up to 1"),
        (dict(crop_fraction="all"), "crop_fraction is 'all'"),
        (dict(loss="x"), "loss is 'x'; it may be softmax or sigmoid"),
    ],
)
def test_what_load_would_refuse_is_not_saved(tmp_path, weights, said, words):
    with pytest.raises(ValueError, match=words):
        mlp_mixer.save(tmp_path / "x.npz", *weights, **said)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_saved_as_numbers(tmp_path, weights):
    said = dict(class_names=("a", "b", "c"), crop="resize", crop_fraction=np.float32(0.5))
    mlp_mixer.save(tmp_path / "x.npz", *weights, **said, loss="sigmoid")
    assert read(tmp_path / "x.npz").settings == said | dict(loss="sigmoid")


def test_the_crops_of_weights_are_those_of_images():
    assert set(metadata.CROPS) == set(CROPS)


@pytest.mark.parametrize(
    "config", ['{"model": "B/16"}', '{"model": {}, "architecture": "resnet"}', "{bad", "[]", "3"]
)
def test_a_config_of_another_tool_beside_weights_is_no_run(tmp_path, weights, config):
    mlp_mixer.save(tmp_path / "model.npz", *weights)
    (tmp_path / "config.json").write_text(config)
    assert workdir_of(tmp_path / "model.npz") is None
    assert mlp_mixer.load(tmp_path / "model.npz")[0] == weights[0]


@pytest.mark.parametrize("architecture", ["resnet", ["x"]])
def test_weights_are_read_beside_a_config_of_an_unknown_model(tmp_path, weights, architecture):
    mlp_mixer.save(tmp_path / "model.npz", *weights)
    config = {"model": {}, "image_size": 4, "architecture": architecture}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert mlp_mixer.load(tmp_path / "model.npz")[0] == weights[0]


def test_a_damaged_config_of_a_run_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lr": 1})[:-1])
    with pytest.raises(ValueError, match=r"config\.json is not the config of a run"):
        mlp_mixer.Run(tmp_path)
