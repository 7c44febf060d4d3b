"""Digits, folders and TFDS data sets."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from mlp_mixer.data.sources import open_source, take_per_class


def write_image(path, value: int, size=(6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """train/ and val/ with the classes cat and dog; grey value 10 * class + number."""
    for split, count in (("train", 10), ("val", 3)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                write_image(tmp_path / split / name / f"{i}.png", 100 * label + i)
    (tmp_path / "train" / "cat" / ".hidden").write_text("no image")
    (tmp_path / "train" / "notes.txt").write_text("no class")
    return tmp_path


def test_digits_have_the_fixed_split_and_no_example_in_both_parts():
    train, test = open_source("digits", "train", 1), open_source("digits", "test", 1)
    assert (len(train), len(test)) == (1437, 360)
    image, label = train[0]
    assert image.shape == (8, 8, 1) and image.dtype == np.uint8 and image.max() == 255
    assert label == train.labels()[0]
    assert train.class_names == tuple("0123456789")


def test_logistic_regression_reaches_98_percent_on_the_digits_split():
    from sklearn.linear_model import LogisticRegression

    train, test = (
        (np.stack([s[i][0].ravel() / 255 for i in range(len(s))]), s.labels())
        for s in (open_source("digits", "train", 1), open_source("digits", "test", 1))
    )
    score = LogisticRegression(max_iter=5000).fit(*train).score(*test)
    assert 0.975 < score < 0.985


def test_the_place_task_shows_the_same_digits_in_one_corner():
    small, large = open_source("digits", "test", 1), open_source("digits:place", "test", 1)
    corners = set()
    for i in range(60):
        (digit, label), (image, place) = small[i], large[i]
        parts = [image[a : a + 8, b : b + 8] for a in (0, 8) for b in (0, 8)]
        corner = [np.array_equal(part, digit) for part in parts].index(True)
        assert image.shape == (16, 16, 1) and image.sum() == digit.sum()
        assert large.class_names[place] == f"{label} {'right' if corner % 2 else 'left'}"
        corners.add(corner)
    assert corners == {0, 1, 2, 3}


def test_a_folder_gives_each_image_with_its_class(folder):
    train = open_source(f"folder:{folder}", "train")
    assert train.class_names == ("cat", "dog") and len(train) == 20
    for i in range(len(train)):
        image, label = train[i]
        assert image.shape == (6, 8, 3) and image[0, 0, 0] // 100 == label
    assert len(open_source(f"folder:{folder}", "test")) == 6  # val/ stands in for test/


def test_parts_of_a_split_are_disjoint_and_mixed_over_classes(folder):
    spec = f"folder:{folder}"
    first, rest = open_source(spec, "train[:60%]"), open_source(spec, "train[60%:]")
    assert (len(first), len(rest)) == (12, 8)
    values = [int(s[i][0][0, 0, 0]) for s in (first, rest) for i in range(len(s))]
    assert len(set(values)) == 20
    assert set(rest.labels()) == {0, 1}
    assert len(open_source(spec, "train[5:7]")) == 2


def test_few_examples_per_class_are_as_many_of_each_and_depend_on_the_seed():
    digits = open_source("digits", "train", 1)
    few = take_per_class(digits, 5)
    assert np.bincount(few.labels()).tolist() == [5] * 10
    np.testing.assert_array_equal(few.labels(), take_per_class(digits, 5).labels())
    other = take_per_class(digits, 5, seed=1)
    assert any(not np.array_equal(few[i][0], other[i][0]) for i in range(50))
    with pytest.raises(ValueError, match="5000 a class"):
        take_per_class(digits, 5000)


@pytest.mark.parametrize(
    ("spec", "split", "words"),
    [
        ("mnist", "train", ["mnist", "folder:PATH", "tfds:NAME"]),
        ("digits", "val", ["val", "train and test"]),
        ("digits:words", "train", ["words", "place"]),
        ("digits", "train[:x]", ["train[:x]", "train[:98%]"]),
        ("digits", "train[5000:]", ["train[5000:]", "1437"]),
    ],
)
def test_an_unknown_source_or_split_is_refused_with_what_there_is(spec, split, words):
    with pytest.raises(ValueError) as error:
        open_source(spec, split)
    assert all(word in str(error.value) for word in words), error.value


def test_a_folder_that_is_not_as_needed_says_what_it_lacks(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(f"folder:{tmp_path / 'nowhere'}", "train")
    with pytest.raises(ValueError, match=r"no folder train/.*cat, dog"):
        open_source(f"folder:{folder / 'train'}", "train")
    write_image(folder / "val" / "fish" / "0.png", 7)
    with pytest.raises(ValueError, match="fish"):
        open_source(f"folder:{folder}", "val")
    (folder / "empty" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="no images"):
        open_source(f"folder:{folder / 'empty'}", "train")


def test_a_broken_image_names_itself_and_its_folder(folder):
    (folder / "train" / "cat" / "3.png").write_bytes(b"broken")
    train = open_source(f"folder:{folder}", "train")
    with pytest.raises(ValueError, match=r"3\.png in folder .*cat"):
        [train[i] for i in range(len(train))]


@pytest.fixture
def tfds_data_set(tmp_path, monkeypatch):
    """A TFDS data set in ArrayRecord, prepared here without TensorFlow."""
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    class TinyShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                        "label": tfds.features.ClassLabel(names=["round", "square"]),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(20), "test": self._generate_examples(5)}

        def _generate_examples(self, count):
            for i in range(count):
                file = io.BytesIO()
                Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(file, "PNG")
                file.seek(0)
                yield i, {"image": file, "label": i % 2}

    TinyShapes(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    return "tiny_shapes"


def test_a_prepared_tfds_data_set_is_read_without_tensorflow(tfds_data_set):
    import sys

    train = open_source(f"tfds:{tfds_data_set}", "train")
    seen = sorted((int(image[0, 0, 0]), label) for image, label in (train[i] for i in range(20)))
    assert seen == [(i, i % 2) for i in range(20)]
    assert train.class_names == ("round", "square") and train[0][0].shape == (4, 5, 3)
    assert len(open_source(f"tfds:{tfds_data_set}", "train[:90%]")) == 18
    assert sorted(train.labels().tolist()) == [0] * 10 + [1] * 10
    assert "tensorflow" not in sys.modules
    with pytest.raises(ValueError, match=r"validation.*train"):
        open_source(f"tfds:{tfds_data_set}", "validation")


def test_a_tfds_data_set_that_is_not_prepared_fails_at_once_with_what_to_do(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="no data set of this name"):
        open_source("tfds:no_such_data_set", "train")
    tfds.builder("cifar100", file_format="array_record")  # what takes time is importing its code
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"(?s)cifar100.*not prepared.*download_and_prepare"):
        open_source("tfds:cifar100", "train")
    # A bound on a wait that would be minutes of retries, not a measure of speed.
    assert time.perf_counter() - start < 20
