"""Evaluation counts every example once, whatever the batch size."""

import jax
import numpy as np
import optax
import pytest

import mlp_mixer
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.models import mixer
from mlp_mixer.training import parallel


@pytest.fixture(scope="module")
def trained():
    module = mlp_mixer.create(
        num_classes=10, image_size=8, image_channels=1, patch_size=4, num_blocks=1, hidden_dim=8,
        tokens_mlp_dim=4, channels_mlp_dim=16,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype("f4"), mixer.init(module))
    return module, params


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_padding_changes_no_metric(trained, loss):
    module, params = trained
    source = open_source("digits", "test[:37]", 1)
    pixels = np.stack([source[i][0] for i in range(37)]) / np.float32(127.5) - 1
    logits, labels = np.asarray(module.apply({"params": params}, pixels)), source.labels()
    if loss == "softmax":
        expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    else:
        one_hot = jax.nn.one_hot(labels, 10)
        expected = optax.sigmoid_binary_cross_entropy(logits, one_hot).sum(-1).mean()
    for batch_size in (1, 5, 8, 37, 64):
        evaluation = Classification(
            module, source, parallel.make_mesh(), batch_size=batch_size, loss=loss
        )
        result = evaluation.run(params)
        assert result["examples"] == 37
        assert result["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-6)
        assert result["loss"] == pytest.approx(float(expected), rel=1e-5)
        probabilities, given = evaluation.predict(params)
        np.testing.assert_array_equal(given, labels)
        expected_p = jax.nn.softmax(logits) if loss == "softmax" else jax.nn.sigmoid(logits)
        np.testing.assert_allclose(probabilities, expected_p, atol=1e-5)


class Labelled:
    """Images that a linear model sees as the logits they hold, with several labels each."""

    name, class_names = "labelled", ("a", "b", "c", "d", "e", "f", "g")

    def __init__(self, labels):
        self._labels = labels

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), self._labels[index]

    def labels(self):
        return self._labels


def test_any_of_several_labels_counts_and_images_without_one_do_not():
    module = mlp_mixer.create(
        num_classes=7, image_size=4, patch_size=2, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4,
        channels_mlp_dim=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), mixer.init(module)
    )
    labels = (rng.random((23, 7)) < 0.25).astype(np.uint8)
    labels[[3, 22]] = 0
    source = Labelled(labels)
    pixels = np.stack([source[i][0] for i in range(23)])
    logits = np.asarray(module.apply({"params": params}, pixels / np.float32(127.5) - 1))
    order = np.argsort(-logits, axis=1)
    counted = labels.any(1)
    top1 = labels[np.arange(23), order[:, 0]][counted].mean()
    top5 = np.take_along_axis(labels, order[:, :5], 1).any(1)[counted].mean()
    for batch_size in (5, 23, 64):
        evaluation = Classification(module, source, parallel.make_mesh(), batch_size=batch_size)
        result = evaluation.run(params)
        assert result["examples"] == counted.sum() < 23
        assert result["accuracy"] == pytest.approx(top1, abs=1e-6)
        assert result["top5"] == pytest.approx(top5, abs=1e-6)
