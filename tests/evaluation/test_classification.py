"""Evaluation counts every example once, whatever the batch size."""

import json

import jax
import numpy as np
import optax
import pytest

import mlp_mixer
from mlp_mixer.data.sources import open_source
from mlp_mixer.evaluation.classification import Classification
from mlp_mixer.models import parts
from mlp_mixer.models.init import init
from mlp_mixer.runtime.mesh import make_mesh

from ..conftest import SHARED, nowhere_zero, python_with_devices

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    module = mlp_mixer.create(
        num_classes=10, image_size=8, image_channels=1, patch_size=4, num_blocks=1, hidden_dim=8,
        tokens_mlp_dim=4, channels_mlp_dim=16,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng, 0.5)
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
    for batch_size in (1, 5, 64):
        evaluation = Classification(module, source, make_mesh(), batch_size=batch_size, loss=loss)
        result = evaluation.run(params)
        assert result["examples"] == 37
        assert result["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean(), abs=1e-6)
        assert result["loss"] == pytest.approx(float(expected), rel=1e-5)
        probabilities, given, indices = evaluation.predict(params)
        np.testing.assert_array_equal(indices, np.arange(37))
        np.testing.assert_array_equal(given, labels)
        expected_p = jax.nn.softmax(logits) if loss == "softmax" else jax.nn.sigmoid(logits)
        np.testing.assert_allclose(probabilities, expected_p, atol=1e-5)


def test_a_cpu_evaluates_a_batch_in_parts_with_the_same_result(trained, monkeypatch):
    module, params = trained
    source = open_source("digits", "test[:24]", 1)

    def evaluate():
        evaluation = Classification(module, source, make_mesh(), batch_size=24)
        whole = next(evaluation._batches())
        return evaluation.run(params), str(jax.make_jaxpr(evaluation._sums)(params, whole))

    whole, text = evaluate()
    assert "scan" not in text
    monkeypatch.setattr(parts, "MOST_TOKENS_ON_CPU", 8 * module.num_tokens)
    in_parts, text = evaluate()
    assert "length=3" in text  # of the scan: three parts of eight images
    assert in_parts == pytest.approx(whole, rel=1e-6)


def test_each_device_evaluates_its_rows_in_parts():
    told = python_with_devices(
        2,
        """
        import jax, numpy as np, mlp_mixer
        from mlp_mixer.evaluation import compute
        from mlp_mixer.models import parts, pixels
        from mlp_mixer.runtime import mesh
        module = mlp_mixer.create(num_classes=7, image_size=4, patch_size=2, num_blocks=1,
                                  hidden_dim=8, tokens_mlp_dim=4, channels_mlp_dim=8)
        params = jax.tree.map(lambda x: x + 0.3, mlp_mixer.init(module))
        images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
        parts.MOST_TOKENS_ON_CPU = 2 * module.num_tokens
        both = mesh.make_mesh()
        placed = mesh.to_devices({"image": images}, both)["image"]
        forward = jax.jit(lambda params, x: compute.forward(module, params, x, both))
        expected = pixels.forward(module, params, images)
        program = forward.lower(params, placed).compile().as_text()
        print(np.allclose(forward(params, placed), expected, rtol=1e-5),
              "length=3" in str(jax.make_jaxpr(forward)(params, placed)),
              any(x in program for x in ("all-gather", "all-to-all", "collective-permute")))
    """,
    )
    assert told.split() == ["True", "True", "False"]  # the result, three parts, and no row moved


class Labelled:
    """Images that a linear model sees as the logits they hold, with several labels each."""

    name, class_names = "labelled", ("a", "b", "c", "d", "e", "f", "g")

    def __init__(self, labels):
        self._labels = labels
        self.class_names = self.class_names[: labels.shape[1]]

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        return rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), self._labels[index]

    def labels(self):
        return self._labels


def test_any_of_several_labels_counts_and_no_label_does_not():
    module = mlp_mixer.create(
        num_classes=7, image_size=4, patch_size=2, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4,
        channels_mlp_dim=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = nowhere_zero(module, rng, 0.5)
    labels = (rng.random((23, 7)) < 0.25).astype(np.uint8)
    labels[[3, 22]] = 0
    source = Labelled(labels)
    pixels = np.stack([source[i][0] for i in range(23)])
    logits = np.asarray(module.apply({"params": params}, pixels / np.float32(127.5) - 1))
    order = np.argsort(-logits, axis=1)
    counted = labels.any(1)
    top1 = labels[np.arange(23), order[:, 0]][counted].mean()
    top5 = np.take_along_axis(labels, order[:, :5], 1).any(1)[counted].mean()
    for batch_size in (5, 64):
        evaluation = Classification(module, source, make_mesh(), batch_size=batch_size)
        result = evaluation.run(params)
        assert result["examples"] == counted.sum() < 23
        assert result["accuracy"] == pytest.approx(top1, abs=1e-6)
        assert result["top5"] == pytest.approx(top5, abs=1e-6)


def test_the_best_five_of_five_classes_are_no_measure(shown=("accuracy", "loss", "examples")):
    for num_classes in (5, 6):
        module = mlp_mixer.create(
            num_classes=num_classes, image_size=4, patch_size=2, num_blocks=1, hidden_dim=8,
            tokens_mlp_dim=4, channels_mlp_dim=8,
        )  # fmt: skip
        source = Labelled(np.eye(num_classes, dtype=np.uint8))
        found = Classification(module, source, make_mesh(), batch_size=8).run(init(module))
        expected = shown if num_classes == 5 else (*shown[:1], "top5", *shown[1:])
        assert tuple(found) == expected


class Renamed:
    """Another source whose classes have other names."""

    def __init__(self, source, class_names, labels=None):
        self.name, self.class_names = "renamed", tuple(class_names)
        self._source, self._labels = source, source.labels() if labels is None else labels

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return self._source[index][0], self._labels[index]

    def labels(self):
        return self._labels


@pytest.mark.parametrize("multi_hot", [False, True])
def test_the_same_classes_in_another_order_give_the_same_numbers(trained, multi_hot):
    module, params = trained
    names = tuple("abcdefghij")  # what the model's outputs are
    order = np.random.default_rng(3).permutation(10)  # the source's class i is names[order[i]]
    digits = open_source("digits", "test[:60]", 1)
    labels = np.argsort(order)[digits.labels()]
    truth = digits.labels()
    if multi_hot:  # each digit and the next one
        labels = np.eye(10, dtype=np.uint8)[labels]
        labels |= np.eye(10, dtype=np.uint8)[np.argsort(order)[(truth + 1) % 10]]
        truth = np.eye(10, dtype=np.uint8)[truth] | np.eye(10, dtype=np.uint8)[(truth + 1) % 10]

    def evaluation(source, **fields):
        return Classification(module, source, make_mesh(), batch_size=32, **fields)

    want = evaluation(Renamed(digits, names, truth), class_names=names)
    have = evaluation(Renamed(digits, [names[i] for i in order], labels), class_names=names)
    assert have.run(params) == want.run(params)
    for ours, theirs in zip(have.predict(params), want.predict(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"renamed has other classes than runs/x.*'k'.*'j'"):
        evaluation(Renamed(digits, "abcdefghik"), class_names=names, model_is="runs/x")


def test_without_class_names_only_the_count_is_compared(trained, caplog):
    module, _ = trained
    digits = open_source("digits", "test[:60]", 1)
    Classification(module, digits, make_mesh(), batch_size=32)
    assert "the model does not say what its 10 classes are" in caplog.text


class Told:
    """ImageNet's validation set as images of one pixel, which say what the model shall predict."""

    name, class_names = "told", tuple(map(str, range(1000)))

    def __init__(self, predictions, labels):
        self._predictions, self._labels = predictions, labels

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, index):
        high, low = divmod(int(self._predictions[index]), 256)
        label = np.zeros(1000, np.uint8)
        label[self._labels[index]] = 1
        return np.array([[[high, low, 0]]], np.uint8), label


class Reader:
    """A model that predicts what the pixel says."""

    num_classes, image_size = 1000, (1, 1)

    def apply(self, variables, pixels):
        high, low, _ = jax.numpy.round((pixels[:, 0, 0] + 1) * 127.5).astype(int).T
        return jax.nn.one_hot(high * 256 + low, 1000)


def test_the_50000_labels_of_real_count_as_their_authors_say():
    path = SHARED / "data" / "imagenet_real.json"
    if not path.exists():
        pytest.skip("../shared/data/imagenet_real.json is not here")
    labels = json.loads(path.read_text())
    # Every other image with a label is given one of its labels, the last one; all others class 0.
    predictions = [right[-1] if right and i % 2 else 0 for i, right in enumerate(labels)]
    expected = [p in right for p, right in zip(predictions, labels, strict=True) if right]
    evaluation = Classification(Reader(), Told(predictions, labels), make_mesh(), batch_size=1000)
    result = evaluation.run({})
    assert result["examples"] == len(expected) == 46_837
    assert result["accuracy"] == pytest.approx(sum(expected) / 46_837, abs=1e-9)
