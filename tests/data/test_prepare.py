"""Preparing data sets: from TFRecord, from a folder; stopped, damaged, and begun again."""

import hashlib
import importlib.util
import os

import numpy as np
import pytest

from mlp_mixer.data import prepared_files
from mlp_mixer.data.folders import FolderSource
from mlp_mixer.data.prepare import from_source, from_tfrecord, shards
from mlp_mixer.data.prepare.prepare import prepare as run
from mlp_mixer.data.sources import open_source
from tests.data.conftest import png


def contents(folder) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def tfrecords(write_data_set):
    """ImageNet's folder with 20 training and 3 validation images in TFRecord."""
    splits = {
        split: [{"image": png(i), "label": i, "file_name": f"{i}.JPEG"} for i in range(count)]
        for split, count in (("train", 20), ("validation", 3))
    }
    return write_data_set("imagenet2012", splits, "tfrecord", shards=3)


def test_conversion_keeps_the_records_and_the_original(tfrecords, tmp_path, command):
    before = contents(tfrecords)
    told = command("prepare", "imagenet2012")
    assert told.status == 0, told.err
    assert contents(tfrecords) == before
    builder = prepared_files.find("imagenet2012", tmp_path)
    assert prepared_files.is_array_record(builder) and str(tfrecords) not in str(builder.data_dir)
    for split, count in (("train", 20), ("validation", 3)):
        source = open_source("tfds:imagenet2012", split)
        assert [(int(source[i][0][0, 0, 0]), source[i][1]) for i in range(count)] == [
            (i, i) for i in range(count)
        ]
        records = [
            record
            for path in sorted(tfrecords.glob(f"*-{split}.tfrecord*"))
            for record in from_tfrecord.read(path)
        ]
        assert list(map(bytes, source._records.__getitems__(range(count)))) == records
    assert told.out.splitlines() == [
        str(builder.data_dir),
        "  examples: train 20, validation 3",
        "In a config: --config.data.source=tfds:imagenet2012",
    ]
    again = command("prepare", "tfds:imagenet2012")
    assert again.out == told.out and "prepared already" in again.err


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: flip(data, 0), r"record 0, is damaged: the checksum of its length"),
        (lambda data: flip(data, len(data) - 20), r"record 6, is damaged: its checksum"),
        (lambda data: data[:-7], r"record 6, ends early"),
        (lambda data: data + data[:5], r"record 7, ends early"),
        (lambda data: b"", r"has 0 records, but dataset_info\.json says 7"),
        (lambda data: data * 2, r"should get 7 records|has 14 records, but"),
    ],
)
def test_a_damaged_tfrecord_is_named_and_no_data_set_appears(tfrecords, tmp_path, damage, words):
    file = tfrecords / "imagenet2012-train.tfrecord-00001-of-00003"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=words) as error:
        run("imagenet2012")
    assert file.name in str(error.value)
    assert not prepared_files.is_array_record(prepared_files.find("imagenet2012", tmp_path))


def test_a_record_of_another_data_set_is_refused(tfrecords, write_data_set):
    other = write_data_set("cifar10", {"train": [{"image": png(1), "label": 1, "id": "x"}] * 7},
                           "tfrecord", shards=1)  # fmt: skip
    wrong = (other / "cifar10-train.tfrecord-00000-of-00001").read_bytes()
    (tfrecords / "imagenet2012-train.tfrecord-00001-of-00003").write_bytes(wrong)
    with pytest.raises(ValueError, match=r"00001-of-00003, record 0,.*lacks file_name"):
        run("imagenet2012")


def test_a_stopped_conversion_shows_nothing_and_resumes(tfrecords, tmp_path, monkeypatch):
    read, files = from_tfrecord.read, []

    def stopped(path):
        for number, record in enumerate(read(path)):
            if len(files) == 1 and number == 3:
                raise KeyboardInterrupt
            yield record
        files.append(path)

    monkeypatch.setattr(from_tfrecord, "read", stopped)
    with pytest.raises(KeyboardInterrupt):
        run("imagenet2012")
    assert not prepared_files.is_array_record(prepared_files.find("imagenet2012", tmp_path))
    monkeypatch.setattr(from_tfrecord, "read", lambda path: files.append(path) or read(path))
    run("imagenet2012")
    assert len(files) == len(set(files)) == 6  # the first file was not read again
    assert len(open_source("tfds:imagenet2012", "train")) == 20


@pytest.fixture
def images(tmp_path):
    """Four classes, of which one has no images and two the same name; train/ and val/."""
    root = tmp_path / "images"
    for split, count in (("train", 10), ("val", 2)):
        for label, name in enumerate(("n01", "n02", "n04")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{name}_{i}.png").write_bytes(png(40 * label + i))
    (root / "classes.tsv").write_text("n01\tcrane\nn02\tcrane\nn03\tnothing\nn04\tcat\n")
    return root


def test_a_packed_folder_has_every_image_with_its_class_mixed(images, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(from_source, "SHARD", 8)
    run(f"folder:{images}", name="mine")
    for split in ("train", "val"):
        folder, packed = open_source(f"folder:{images}", split), open_source("tfds:mine", split)
        assert packed.class_names == folder.class_names == ("crane", "crane", "nothing", "cat")

        def values(source):
            return [(int(source[i][0][0, 0, 0]), source[i][1]) for i in range(len(source))]

        assert sorted(values(packed)) == values(folder)
        assert packed.labels().tolist() == [label for _, label in values(packed)]
    assert set(open_source("tfds:mine", "train[:50%]").labels()) == {0, 1, 3}
    with pytest.raises(ValueError, match=r"mine.*is there already"):
        run(f"folder:{images}", name="mine")


def test_packing_resumes_unless_the_folder_has_changed(images, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(from_source, "SHARD", 8)
    write, written = shards.write, []

    def stopped(path, records, count):
        if len(written) == 2:
            raise KeyboardInterrupt
        write(path, records, count)
        written.append(path.name)

    for _ in range(2):  # the second time after a change: all is written again
        written.clear()
        monkeypatch.setattr(shards, "write", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(f"folder:{images}", name="mine")
        assert prepared_files.find("mine", prepared_files.data_dir()) is None
        assert len(written) == 2
        (images / "train" / "n01" / "new.png").write_bytes(png(200))
    (images / "train" / "n01" / "new.png").unlink()
    written.clear()
    monkeypatch.setattr(
        shards, "write", lambda path, *rest: written.append(path) or write(path, *rest)
    )
    with pytest.raises(ValueError, match="n05"):  # nothing is begun anew by an error
        (images / "train" / "n05").mkdir()
        run(f"folder:{images}", name="mine")
    (images / "train" / "n05").rmdir()
    run(f"folder:{images}", name="mine")
    assert len(written) == 5  # 4 of train, 1 of val
    written.clear()
    source = open_source("tfds:mine", "train")
    assert sorted(int(source[i][0][0, 0, 0]) for i in range(30)) == sorted(
        40 * label + i for label in range(3) for i in range(10)
    )


def test_a_part_is_packed_anew_when_an_image_was_replaced(images, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(from_source, "SHARD", 8)
    odd = os.fsencode(images / "train" / "n01") + b"/caf\xe9.png"  # its name is kept, too
    with open(odd, "wb") as file:
        file.write(png(30))
    with monkeypatch.context() as stopped, pytest.raises(ZeroDivisionError):
        stopped.setattr("tensorflow_datasets.folder_dataset.write_metadata", lambda **_: 1 / 0)
        run(f"folder:{images}", name="mine")
    order = np.random.RandomState(0).permutation(31)
    replaced = FolderSource(str(images), "train").path(int(order[0]))
    replaced.write_bytes(png(250))
    write, written = shards.write, []
    monkeypatch.setattr(
        shards, "write", lambda path, *rest: written.append(path.name) or write(path, *rest)
    )
    run(f"folder:{images}", name="mine")
    assert written == ["mine-train.array_record-00000-of-00004"]
    source = open_source("tfds:mine", "train")
    assert [int(source[i][0][0, 0, 0]) for i in range(31)].count(250) == 1
    assert int(source[0][0][0, 0, 0]) == 250
    files = sorted(path.name for path in (tmp_path / "data" / "mine" / "1.0.0").iterdir())
    assert [name for name in files if not name[-1].isdecimal()] == [
        "classes.tsv", "dataset_info.json", "features.json", "label.labels.txt",
    ]  # fmt: skip


def test_a_converted_old_version_does_not_hide_a_newer_one(write_data_set, tmp_path):
    def write(version, value):
        made = write_data_set("cifar10", {"train": [{"image": png(value), "label": 1, "id": "x"}]},
                              "tfrecord", shards=1)  # fmt: skip
        info = made / "dataset_info.json"
        info.write_text(info.read_text().replace(made.name, version))
        made.rename(made.parent / version)

    write("3.0.1", 10)
    run("cifar10")
    assert open_source("tfds:cifar10", "train")[0][0].max() == 10
    write("3.1.0", 20)
    with pytest.raises(
        ValueError, match=r"(?s)tfrecord in .*3\.1\.0.*Older.*: tfds:cifar10:3\.0\.1"
    ):
        open_source("tfds:cifar10", "train")
    assert open_source("tfds:cifar10:3.0.1", "train")[0][0].max() == 10
    run("cifar10")
    assert open_source("tfds:cifar10", "train")[0][0].max() == 20


@pytest.mark.parametrize("name", ["eurosat/rgb", "cifar10:9.9.9", "imagenet2012:5.*.*"])
def test_an_unprepared_config_or_version_says_how_to_prepare_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError) as error:
        open_source(f"tfds:{name}", "train")
    assert f"tfds:{name} is not prepared" in str(error.value)
    assert f"mlp-mixer prepare {name}\n" in str(error.value)


def test_what_is_lacking_is_said_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=r"downloads/manual.*img_train\.tar, ILSVRC2012_img_val"):
        run("imagenet2012")
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(ValueError, match=r"download: ILSVRC2012_img_val\.tar\."):
        run("imagenet2012", manual_dir=str(tmp_path / "manual"))  # TFDS would go without it
    with pytest.raises(ValueError, match="TFDS has no data set no_such_data"):
        run("no_such_data")
    for name, words in (
        ("cifar10:9.9.9", "at version 9.9.9, only"),
        ("cifar10/no", "no not found"),
    ):
        with pytest.raises(ValueError, match=f"TFDS has no {name}.*{words}"):
            run(name)
    with pytest.raises(ValueError, match="write NAME, NAME/CONFIG"):
        run("no name")
    with pytest.raises(ValueError, match="needs --name"):
        run(f"folder:{tmp_path}")
    if importlib.util.find_spec("tensorflow") is None:
        with pytest.raises(ValueError, match="pip install tensorflow-cpu"):
            run("cifar10")


def test_no_space_is_noticed_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="GiB left"):
        shards.check_space(tmp_path, 2**60)


def test_a_file_that_differs_from_what_was_written_gets_no_name(tmp_path, monkeypatch):
    path = tmp_path / "x.array_record"
    with pytest.raises(ValueError, match="3 records, but there are 2"):
        shards.write(path, [b"a", b"b"], 3)
    assert not path.exists()
    shards.write(path, [b"a", b"b"], 2)
    assert shards.is_whole(path, 2) and not shards.is_whole(path, 3)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert not shards.is_whole(path, 2)
    path.write_bytes(b"")
    assert not shards.is_whole(path, 2)


def test_the_checksum_is_that_of_the_standard():
    # RFC 3720, appendix B.4: the CRC-32C of 32 bytes of zeros is 8a9136aa.
    plain = 0x8A9136AA
    masked = (((plain >> 15) | (plain << 17)) + 0xA282EAD8) % 2**32
    assert from_tfrecord.masked_crc32c(bytes(32)) == masked
    assert isinstance(masked, int) and np.uint32(masked) == masked


@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_a_damaged_description_of_a_data_set_is_told_as_one(tfrecords, tmp_path, file):
    (tfrecords / file).write_text("{")
    with pytest.raises(ValueError, match=r"what describes the data set in .* is damaged"):
        prepared_files.find("imagenet2012", tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "a//b", "cifar10:3", "cifar10:3.0", "../a"])
def test_what_is_no_name_of_a_data_set_is_told_so(tmp_path, name):
    with pytest.raises(ValueError, match="write NAME, NAME/CONFIG"):
        prepared_files.find(name, tmp_path)
