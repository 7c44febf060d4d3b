"""Many images at a time: their order, what is read ahead, and what cannot be read."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import mlp_mixer
from mlp_mixer.data import crews
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.inference import classifier as classifiers
from mlp_mixer.inference.classifier import Classifier
from mlp_mixer.models.init import init

MANY = 40  # more than two batches, of which the last one is not full


class Tensor:
    """An array of a library that is not known here."""

    def __init__(self, array):
        self.array, self.ndim = array, array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __iter__(self):
        return map(Tensor, self.array)


@pytest.fixture(scope="module")
def classifier():
    module = mlp_mixer.create(
        num_classes=7, image_size=8, patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=4,
        channels_mlp_dim=8,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype("f4"), init(module))
    return Classifier(module, params, tuple("abcdefg"), "resize", 1.0, "softmax")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (MANY, 8, 8, 3), dtype=np.uint8)


def expected(classifier, images):
    logits = classifier.module.apply({"params": classifier.params}, images / np.float32(127.5) - 1)
    return np.asarray(jax.nn.softmax(logits))


@pytest.mark.slow
def test_many_images_keep_their_order_and_are_compiled_once(classifier, images, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(MANY)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    fresh = Classifier(**{name: getattr(classifier, name) for name in classifier.__match_args__})
    found = list(fresh.stream(paths))
    assert [one.image for one in found] == paths
    np.testing.assert_array_equal([one.view for one in found], images)
    whole = np.stack([one.probabilities for one in found])
    np.testing.assert_allclose(whole, expected(classifier, images), atol=1e-5)
    np.testing.assert_array_equal(fresh.probabilities(images), whole)
    assert fresh._apply._cache_size() == 1
    assert [[guess.name for guess in guesses] for guesses in fresh.classify(paths, top=1)] == [
        ["abcdefg"[i]] for i in whole.argmax(1)
    ]


def test_memory_does_not_grow_with_the_number_of_images(classifier, images, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    drawn = []
    stream = classifier.stream(drawn.append(i) or images[i % MANY] for i in range(1000))
    next(stream)
    batch = classifiers.BATCHES["cpu"] * jax.local_device_count()
    assert len(drawn) <= 5 * batch  # two that are computed, two that are read, and one
    stream.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_told_and_left_out(classifier, images, tmp_path, workers):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i in (0, 2, 4):
        Image.fromarray(images[i]).save(paths[i])
    paths[3].write_bytes(b"broken")
    told = []
    with crews.keep_processes(workers):
        found = list(classifier.stream(paths, workers=workers, on_error=told.append))
        with pytest.raises(OSError, match=r"1\.png"):
            list(classifier.stream(paths[:2], workers=workers))
        with pytest.raises(BrokenImage, match=r"3\.png"):
            classifier.probabilities(paths[2:])
    assert [one.image for one in found] == paths[::2]
    np.testing.assert_allclose(
        [one.probabilities for one in found], expected(classifier, images[[0, 2, 4]]), atol=1e-5
    )
    assert told[0] == f"{paths[1]}: No such file or directory" and "3.png" in told[1]


def test_parameters_are_brought_to_the_devices_once(classifier, images, monkeypatch):
    brought = []
    monkeypatch.setattr(
        classifiers.mixer, "rounded", lambda module, params: brought.append(1) or params
    )
    fresh = dataclasses.replace(classifier)
    for _ in range(2):
        fresh.probabilities(images[:2])
        fresh.of_views(images[:2])
    assert len(brought) == 1


@pytest.mark.parametrize("kind", [np.asarray, jax.numpy.asarray, Tensor])
def test_an_array_of_any_library_is_one_image_or_several(classifier, images, kind):
    want = expected(classifier, images[:3])
    for given, rows in ((images[0], want[:1]), (images[:3], want), (images[:1], want[:1])):
        np.testing.assert_allclose(classifier.probabilities(kind(given)), rows, atol=1e-5)
    grey = np.repeat(images[0, :, :, :1], 3, -1)
    found = classifier.probabilities(kind(images[0, :, :, 0]))
    np.testing.assert_allclose(found, expected(classifier, grey[None]), atol=1e-5)
    listed = classifier.probabilities([kind(image) for image in images[:3]])
    np.testing.assert_allclose(listed, want, atol=1e-5)


@pytest.mark.parametrize("kind", ["array", "pandas"])
def test_a_column_of_paths_is_as_many_images(classifier, images, tmp_path, kind):
    column = np.array if kind == "array" else pytest.importorskip("pandas").Series
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path, image in zip(paths, images, strict=False):
        Image.fromarray(image).save(path)
    found = classifier.probabilities(column(paths))
    np.testing.assert_allclose(found, expected(classifier, images[:2]), atol=1e-5)


def test_no_image_gives_no_prediction(classifier):
    assert list(classifier.stream([])) == [] and classifier.classify([]) == []
    assert classifier.probabilities([]).shape == (0, 7)


def test_auto_is_the_number_type_of_the_run_if_it_has_one(classifier, tmp_path):
    def computed(dtype):
        return np.dtype(classifiers.computing_in(classifier.module, dtype, tmp_path).dtype).name

    assert computed("auto") == "float32"  # of tests, on every CPU: see conftest.py
    config = {"model": {}, "image_size": [8, 8], "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert computed("auto") == "bfloat16" and computed("float32") == "float32"
