"""Digits, folders and TFDS data sets."""

import importlib
import io
import pickle
import shutil
import sys
import tarfile
import time

import numpy as np
import pytest
from google.protobuf.runtime_version import VersionError
from PIL import Image

from mlp_mixer.data import listing, vtab
from mlp_mixer.data.digits import _read_digits as read_digits
from mlp_mixer.data.images import BrokenImage
from mlp_mixer.data.prepare import from_source
from mlp_mixer.data.sources import open_source, take_per_class
from tests.data.conftest import png


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


def test_digits_have_a_fixed_split_without_shared_examples():
    train, test = open_source("digits", "train", 1), open_source("digits", "test", 1)
    assert (len(train), len(test)) == (1437, 360)
    image, label = train[0]
    assert image.shape == (8, 8, 1) and image.dtype == np.uint8 and image.max() == 255
    assert label == train.labels()[0]
    assert train.class_names == tuple("0123456789")
    # The same ones for ever: those that NumPy's RandomState(0) puts first, and last.
    assert train.labels()[:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]
    assert test.labels()[:10].tolist() == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1]


def test_digits_are_what_scikit_learn_loads():
    from sklearn import datasets

    digits = datasets.load_digits()
    table = read_digits()
    np.testing.assert_array_equal(table[:, :-1], digits.data)
    np.testing.assert_array_equal(table[:, -1], digits.target)


def test_logistic_regression_reaches_98_percent_on_digits():
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


def test_a_split_that_stands_in_is_told_and_not_counted_twice(folder, caplog):
    spec = f"folder:{folder}"
    listing.say_once.cache_clear()
    with caplog.at_level("INFO"):
        assert len(open_source(spec, "test")) == len(open_source(spec, "val")) == 6
    assert caplog.messages == [f"{spec}: has no split test; val is used instead"]
    for split in ("val+test", "test[:50%]+val[50%:]", "train+val+validation"):
        with pytest.raises(ValueError, match=r"(val|test) and \w+ are the same images, its split"):
            open_source(spec, split)
    assert len(open_source(spec, "train+test")) == 26
    assert len(open_source(spec, "val[:50%]+val[50%:]")) == 6


def test_parts_of_a_split_are_disjoint_and_mixed_over_classes(folder):
    spec = f"folder:{folder}"
    first, rest = open_source(spec, "train[:60%]"), open_source(spec, "train[60%:]")
    assert (len(first), len(rest)) == (12, 8)
    values = [int(s[i][0][0, 0, 0]) for s in (first, rest) for i in range(len(s))]
    assert len(set(values)) == 20
    assert set(rest.labels()) == {0, 1}
    assert len(open_source(spec, "train[5:7]")) == 2
    # The same ones for ever: NumPy's RandomState(0) shuffles twenty as 18, 1, 19, 8, 10, 17, 6, ...
    images = [100 * label + i for label in (0, 1) for i in range(10)]
    assert values[:7] == [images[i] for i in (18, 1, 19, 8, 10, 17, 6)]


def test_few_examples_are_as_many_per_class_and_follow_the_seed():
    digits = open_source("digits", "train", 1)
    few = take_per_class(digits, 5)
    assert np.bincount(few.labels()).tolist() == [5] * 10
    np.testing.assert_array_equal(few.labels(), take_per_class(digits, 5).labels())
    other = take_per_class(digits, 5, seed=1)
    assert any(not np.array_equal(few[i][0], other[i][0]) for i in range(50))
    with pytest.raises(
        ValueError, match=r"data\.examples_per_class is 5000, .*class '0' of digits has 147"
    ):
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
def test_an_unknown_source_or_split_is_refused_with_those_known(spec, split, words):
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


# --- ImageNet as folders ---


@pytest.fixture
def imagenet(tmp_path):
    """Three classes; val/ with the official names and the ReaL labels, v2/ by number."""
    for label, wnid in enumerate(("n03", "n01", "n02")):
        for i in range(4):
            write_image(tmp_path / "train" / wnid / f"{wnid}_{i}.JPEG", 50 * label)
    for number, wnid in ((1, "n02"), (2, "n01"), (3, "n03"), (4, "n01")):
        write_image(tmp_path / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", number)
    (tmp_path / "real.json").write_text("[[1], [], [2, 0], [0]]")
    for number in range(3):
        write_image(tmp_path / "v2" / str(number) / "a.jpeg", number)
    return tmp_path


def test_real_labels_are_multi_hot_and_may_be_empty(imagenet):
    real, val = (open_source(f"folder:{imagenet}", split) for split in ("real", "val"))
    assert real.labels().dtype == np.uint8 and real.labels().shape == (4, 3)
    seen = {int(image[0, 0, 0]): label.tolist() for image, label in (real[i] for i in range(4))}
    # ReaL numbers the classes n01, n02, n03; the images are JPEG of values 1 to 4.
    assert seen == {1: [0, 1, 0], 2: [0, 0, 0], 3: [1, 0, 1], 4: [1, 0, 0]}
    assert dict(zip([real[i][0][0, 0, 0] for i in range(4)], val.labels(), strict=True)) == {
        1: 1, 2: 0, 3: 2, 4: 0,
    }  # fmt: skip
    (imagenet / "val" / "n01" / "other.JPEG").write_bytes(b"")
    with pytest.raises(ValueError, match=r"other\.JPEG is not named as ILSVRC2012_val_00000001"):
        open_source(f"folder:{imagenet}", "real")


def test_a_class_file_fixes_names_and_their_order(imagenet):
    (imagenet / "classes.tsv").write_text("index\twnid\tname\n0\tn02\tb\n1\tn01\ta\n2\tn03\tc\n")
    for split in ("train", "v2", "val", "real"):
        source = open_source(f"folder:{imagenet}", split)
        assert source.class_names == ("b", "a", "c")
    assert [open_source(f"folder:{imagenet}", "val")[i][1] for i in range(4)] == [0, 1, 1, 2]
    v2 = open_source(f"folder:{imagenet}", "v2")  # folder 0 is n01, which is class 1 here
    assert {int(image[0, 0, 0]): label for image, label in (v2[i] for i in range(3))} == {
        0: 1, 1: 0, 2: 2,
    }  # fmt: skip
    real = open_source(f"folder:{imagenet}", "real")
    by_value = {int(real[i][0][0, 0, 0]): real[i][1].tolist() for i in range(4)}
    assert by_value[3] == [0, 1, 1]  # [2, 0], which is n03 and n01


def test_a_class_file_may_name_more_classes_than_have_images(imagenet):
    (imagenet / "classes.txt").write_text("n01\nn02\nn03\nn04\n")
    train = open_source(f"folder:{imagenet}", "train")
    assert len(train.class_names) == 4 and set(train.labels()) == {0, 1, 2}
    (imagenet / "classes.txt").write_text("n01\nn02\n")
    with pytest.raises(ValueError, match=r"class folders that .*classes\.txt has not: n03"):
        open_source(f"folder:{imagenet}", "train")
    (imagenet / "classes.txt").write_text("n01\nn01\n")
    with pytest.raises(ValueError, match="n01 twice"):
        open_source(f"folder:{imagenet}", "train")


def test_folders_that_are_numbers_are_read_in_numeric_order(tmp_path):
    for number in range(12):
        write_image(tmp_path / "train" / str(number) / "a.png", number)
    train = open_source(f"folder:{tmp_path}", "train")
    assert train.class_names == tuple(map(str, range(12)))
    assert [train[i][0][0, 0, 0] for i in range(12)] == train.labels().tolist() == list(range(12))


def test_a_tar_for_a_class_is_read_as_the_folder_it_was_made_of(imagenet):
    plain = open_source(f"folder:{imagenet}", "train")
    expected = [(plain[i][0], plain[i][1]) for i in range(len(plain))]
    for wnid in ("n01", "n02"):
        folder = imagenet / "train" / wnid
        with tarfile.open(f"{folder}.tar", "w") as tar:
            tar.add(folder, wnid if wnid == "n01" else ".")
        shutil.rmtree(folder)
    mixed = open_source(f"folder:{imagenet}", "train")
    assert mixed.class_names == ("n01", "n02", "n03") and len(mixed) == len(expected)
    for i, (image, label) in enumerate(expected):
        np.testing.assert_array_equal(mixed[i][0], image)
        assert mixed[i][1] == label
    tar = imagenet / "train" / "n01.tar"
    whole = tar.read_bytes()
    for size in (100, 1500, 2100):
        tar.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"n01\.tar (is damaged|ends early)"):
            open_source(f"folder:{imagenet}", "train")
    tar.write_bytes(whole.replace(b"JFIF", b"....").replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(ValueError, match=r"n01_0\.JPEG in .*n01\.tar"):
        open_source(f"folder:{imagenet}", "train")[0]


def test_a_flat_validation_folder_has_its_labels_in_a_file(imagenet):
    for i in range(3):
        write_image(imagenet / "test" / f"{i} x.png", i)
    with pytest.raises(ValueError, match=r"labels in .*test\.txt.* a\.jpg n01"):
        open_source(f"folder:{imagenet}", "test")
    (imagenet / "test.txt").write_text("1 x.png n03\n0 x.png 1\n2 x.png n01\n")
    test = open_source(f"folder:{imagenet}", "test")
    assert [(int(test[i][0][0, 0, 0]), test[i][1]) for i in range(3)] == [(0, 1), (1, 2), (2, 0)]


# --- TFDS ---


@pytest.mark.parametrize(
    ("name", "example", "label"),
    [
        ("imagenet2012", {"label": "n01443537", "file_name": "x.JPEG"}, 1),
        ("cifar100", {"label": 69, "coarse_label": 3, "id": "a"}, 69),
        ("caltech101", {"label": 7, "image/file_name": "x.jpg"}, 7),
        ("dtd", {"label": "banded", "file_name": "x.jpg"}, 0),
        (
            "oxford_iiit_pet",
            {"label": 36, "species": "Dog", "segmentation_mask": png(1, channels=1),
             "file_name": "x", "head_bbox": np.array([0.0, 0.0, 1.0, 1.0])},
            36,
        ),
        ("diabetic_retinopathy_detection/btgraham-300", {"label": 4, "name": "x"}, 4),
    ],
)  # fmt: skip
def test_a_tfds_data_set_gives_image_and_label_whatever_else(write_data_set, name, example, label):
    write_data_set(name, {"train": [example | {"image": png(9)}]}, shards=1)
    source = open_source(f"tfds:{name}", "train")
    image, got = source[0]
    assert image.shape == (4, 5, 3) and (image == 9).all() and got == label
    assert source.labels().tolist() == [label] and source.labels().dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_real_labels_of_tfds_are_multi_hot_and_may_be_empty(write_data_set):
    examples = [
        {"image": png(i), "original_label": 5, "real_label": real, "file_name": f"{i}.JPEG"}
        for i, real in enumerate(([3], [], [999, 0]))
    ]
    write_data_set("imagenet2012_real", {"validation": examples}, shards=1)
    source = open_source("tfds:imagenet2012_real", "validation")
    assert source.labels().shape == (3, 1000) and source.labels().dtype == np.uint8
    for i, real in enumerate(([3], [], [0, 999])):
        assert np.flatnonzero(source[i][1]).tolist() == real
        assert np.flatnonzero(source.labels()[i]).tolist() == real


def test_a_feature_must_be_chosen_where_there_are_several(write_data_set):
    example = {
        "image": png(1, (6, 6), 1), "image2": png(2, (6, 6), 1), "instance": 1,
        "label_category": 4, "label_elevation": 8, "label_azimuth": 17, "label_lighting": 2,
    }  # fmt: skip
    write_data_set("smallnorb", {"test": [example]}, shards=1)
    assert open_source("tfds:smallnorb", "test", 1)[0][1] == 4  # what TFDS calls its label
    azimuth = open_source("tfds:smallnorb#label_azimuth", "test")
    assert azimuth[0][1] == 17 and len(azimuth.class_names) == 18
    assert open_source("vtab:smallnorb_elevation", "test")[0][1] == 8
    with pytest.raises(ValueError, match="no feature size; it has image, image2, instance"):
        open_source("tfds:smallnorb#size", "test")


def test_a_label_that_is_no_class_is_refused(write_data_set):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
        "file_name": tfds.features.Sequence(tfds.features.Text()),
    })  # fmt: skip
    examples = [{"image": png(1), "label": label, "file_name": ["a"]} for label in (1, -1)]
    write_data_set("mine", {"test": examples}, shards=1, features=features)
    source = open_source("tfds:mine", "test")
    assert source[0][1] == 1
    for read in (lambda: source[1], source.labels):
        with pytest.raises(ValueError, match="record 1 has the label -1, which is none of its 2"):
            read()


def test_vtab_tasks_make_their_label_of_what_is_in_the_picture(write_data_set):
    thing = {
        "3d_coords": (0.0, 0.0, 0.0), "color": 0, "material": 0, "rotation": 0.0, "shape": 0,
        "size": 0,
    }  # fmt: skip
    objects = [thing | {"pixel_coords": (1.0, 2.0, z)} for z in (9.7, 8.2, 11.0, 12.0)]
    answers = [{"question": "?", "answer": "!"}]
    clevr = {"image": png(1), "file_name": "x", "objects": objects, "question_answer": answers}
    write_data_set("clevr", {"validation": [clevr]}, shards=1)
    count, distance = (open_source(f"vtab:clevr_{t}", "validation") for t in ("count", "distance"))
    assert (count[0][1], len(count.class_names)) == (1, 8)  # four objects, from three on
    assert (distance[0][1], len(distance.class_names)) == (1, 6)  # 8.2: over 8.0, up to 8.5
    assert distance.labels().tolist() == [1]
    with pytest.raises(ValueError, match=r"clevr has no single label.*vtab:TASK"):
        open_source("tfds:clevr", "validation")


@pytest.mark.parametrize(
    ("cars", "label"), [([7.9, 30.0], 0), ([8.1], 1), ([20.0], 1), ([20.1], 2), ([], 3)]
)
def test_the_nearest_vehicle_is_near_middling_far_or_none(cars, label):
    objects = {  # a pedestrian at 1 m, of type 3, is no vehicle
        "location": np.asarray([[0, 0, 1.0], *([0, 0, z] for z in cars)], np.float32),
        "type": np.asarray([3, *([0] * len(cars))]),
    }
    assert vtab.kitti_distance(objects) == label


def test_images_that_are_arrays_are_given_the_channels_asked_for(write_data_set):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "pixels": tfds.features.Tensor(shape=(3, 4, 1), dtype=np.uint8),
            "digit": tfds.features.ClassLabel(names=["zero", "one"]),
        }
    )
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    splits = {"train": [{"pixels": pixels, "digit": 1}]}
    write_data_set("arrays", splits, shards=1, features=features)
    rgb, grey = (open_source("tfds:arrays", "train", channels)[0][0] for channels in (3, 1))
    np.testing.assert_array_equal(grey, pixels)
    np.testing.assert_array_equal(rgb, np.repeat(pixels, 3, axis=2))


def test_labels_are_read_without_images_and_broken_ones_named(write_data_set):
    examples = [{"image": png(i), "label": i, "file_name": f"{i}.JPEG"} for i in range(40)]
    examples[33]["image"] = b"broken"
    write_data_set("imagenet2012", {"train": examples}, shards=3)
    train = open_source("tfds:imagenet2012", "train")
    assert train.labels().tolist() == list(range(40))
    assert open_source("tfds:imagenet2012", "train[50%:]").labels().tolist() == list(range(20, 40))
    assert [label for _, label in (train[i] for i in range(33))] == list(range(33))
    with pytest.raises(ValueError, match=r"tfds:imagenet2012, record 33 \(33\.JPEG\)"):
        train[33]


def test_a_damaged_record_is_named_and_the_others_are_read(write_data_set):
    pixels = np.random.RandomState(0).randint(0, 255, (8, 32, 32, 3), np.uint8)
    files = [io.BytesIO() for _ in pixels]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file, "PNG")
    examples = [{"image": file.getvalue(), "label": i, "id": "x"} for i, file in enumerate(files)]
    folder = write_data_set("cifar10", {"train": examples}, shards=2)
    path = folder / "cifar10-train.array_record-00001-of-00002"
    data = bytearray(path.read_bytes())
    where = data.find(examples[6]["image"][2000:2100])
    data[where] ^= 1
    path.write_bytes(data)
    train = pickle.loads(pickle.dumps(open_source("tfds:cifar10", "train")))  # as workers get it
    with pytest.raises(BrokenImage, match=r"tfds:cifar10, record 6 in .*00001-of-00002 cannot be"):
        train[6]
    with pytest.raises(ValueError, match=r"tfds:cifar10: .*labels of the records 0 to 7 cannot be"):
        train.labels()
    for i in (0, 1, 2, 3, 4, 5, 7):
        np.testing.assert_array_equal(train[i][0], pixels[i])


def test_an_incomplete_data_set_is_refused_when_it_is_opened(write_data_set):
    examples = [{"image": png(i), "label": i, "id": "x"} for i in range(6)]
    folder = write_data_set("cifar10", {"train": examples}, shards=3)
    (folder / "cifar10-train.array_record-00001-of-00003").unlink()
    with pytest.raises(ValueError, match=r"of 3 files of train 1 are missing.*00001-of-00003"):
        open_source("tfds:cifar10", "train")
    with pytest.raises(ValueError, match=r"no split 'validation'; it has train"):
        open_source("tfds:cifar10", "validation")


def test_a_protobuf_too_old_for_tfds_names_the_one_to_install(monkeypatch, tmp_path):
    def refuse(name):
        raise VersionError(
            "Detected incompatible Protobuf Gencode/Runtime versions when loading x.proto: "
            "gencode 6.31.1 runtime 5.29.6. Runtime version cannot be older than the gencode's."
        )

    monkeypatch.setattr(importlib, "import_module", refuse)
    wanted = r"needs protobuf 6\.31, and this is .*pip install 'protobuf~=6\.31', and restart"
    with pytest.raises(ValueError, match=wanted):
        open_source("tfds:cifar10", "train")
    with pytest.raises(ValueError, match=wanted):
        from_source.pack({}, "mine", tmp_path / "mine")


def test_an_unprepared_tfds_data_set_fails_with_what_to_do(tmp_path, monkeypatch, write_data_set):
    with pytest.raises(ValueError, match="TFDS has no data set no_such_data_set"):
        open_source("tfds:no_such_data_set", "train")
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"cifar100 is not prepared: (?s:.*) prepare cifar100"):
        open_source("tfds:cifar100", "train")
    # A bound on a wait that would be minutes of retries, not a measure of speed.
    assert time.perf_counter() - start < 20
    examples = [{"image": png(1), "label": 1, "id": "x"}] * 2
    write_data_set("cifar10", {"train": examples}, "tfrecord")
    with pytest.raises(ValueError, match=r"prepared as tfrecord (?s:.*) prepare cifar10"):
        open_source("tfds:cifar10", "train")
