"""`Source.digest`: the same for the same data wherever it lies, another for any other."""

import numpy as np
import pytest

from mlp_mixer.data.fingerprint import fingerprint
from mlp_mixer.data.sources import open_source, take_per_class

from .conftest import png


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            for i in range(3):
                path = tmp_path / "data" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(10 * i))
    return tmp_path / "data"


def test_where_one_part_ends_counts():
    parts = [("ab", "c"), ("a", "bc"), (("a", "bc"),), ("abc",), (np.array([1, 2]),),
             (np.array([1.0, 2.0]),), (np.array([[1, 2]]),)]  # fmt: skip
    assert len({fingerprint(*each) for each in parts}) == len(parts)
    assert fingerprint("ab", "c") == fingerprint("ab", "c")
    assert len(fingerprint("\udcff")) == 64  # a file name that is not UTF-8


def test_a_folders_digest_survives_a_move_but_no_change(folder, tmp_path):
    def digest(split="train"):
        return open_source(f"folder:{folder}", split).digest()

    moved = folder.rename(tmp_path / "elsewhere")
    first = open_source(f"folder:{moved}", "train").digest()
    moved.rename(folder)
    assert digest() == first
    (folder / "train/cat/0.png").write_bytes(png(99))  # pixels do not count
    assert digest() == first
    found = {first, digest("train[:3]"), digest("train[3:]"), digest("train+test")}
    (folder / "train/cat/3.png").write_bytes(png(1))
    found.add(digest())
    (folder / "train/cat/3.png").rename(folder / "train/dog/3.png")
    found.add(digest())
    (folder / "train/dog/3.png").rename(folder / "train/dog/4.png")
    found.add(digest())
    for split in ("train", "test"):
        (folder / split / "dog").rename(folder / split / "bird")
    found.add(digest())
    assert len(found) == 8


def test_a_few_of_each_class_are_others_for_another_seed():
    digits = open_source("digits", "train", 1)
    few = [take_per_class(digits, 5, seed).digest() for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]
    assert len({*few, digits.digest(), open_source("digits", "test", 1).digest()}) == 4


def test_a_tfds_data_set_is_known_by_its_files_unread(write_data_set, monkeypatch):
    def write(count, **names):
        example = {"image": png(1, (32, 32)), "label": 3, "id": "x"}
        return write_data_set("cifar10", {"train": [example] * count}, **names)

    data = write(6)
    source = open_source("tfds:cifar10", "train")
    monkeypatch.setattr(type(source), "_read_all", None)
    first = source.digest()
    parts = [open_source("tfds:cifar10", f"train[{part}]").digest() for part in (":2", "2:")]
    assert len({first, *parts}) == 3
    monkeypatch.setenv("TFDS_DATA_DIR", str(data.parents[1].rename(data.parents[2] / "moved")))
    assert open_source("tfds:cifar10", "train").digest() == first
