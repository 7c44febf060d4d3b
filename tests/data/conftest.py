"""Data sets on disk, made by the tests without TensorFlow."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from array_record.python import array_record_module
from PIL import Image
from tensorboardX import crc32c

from mlp_mixer.data.augment import Augment
from mlp_mixer.data.pipeline import Reading, train_batches


def png(value: int, size=(4, 5), channels: int = 3) -> bytes:
    """A PNG file of one grey value."""
    file = io.BytesIO()
    pixels = np.full((*size, channels), value, np.uint8)
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(file, "PNG")
    return file.getvalue()


def write_tfrecord(path: Path, records: list[bytes]) -> None:
    def masked(data: bytes) -> bytes:
        plain = crc32c.crc32c(data)  # another implementation than the one that checks
        return struct.pack("<I", ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    with path.open("wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + masked(length) + record + masked(record))


def write_array_record(path: Path, records: list[bytes]) -> None:
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    for record in records:
        writer.write(record)
    writer.close()


WRITERS = {"tfrecord": write_tfrecord, "array_record": write_array_record}


@pytest.fixture
def write_data_set(tmp_path, monkeypatch):
    """Writes splits of examples in the layout and with the features of TFDS's own data set.

    Called with its name and {split: examples}, and for a data set that TFDS has not with its
    features; returns its folder. The images of examples are encoded files.
    """
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def write(name, splits, file_format="array_record", shards=2, features=None, keys=None):
        version, config = "1.0.0", ""
        if features is None:
            builder = tfds.builder(name, data_dir=tmp_path)
            features, keys = builder.info.features, builder.info.supervised_keys
            version, config = str(builder.version), name.partition("/")[2]
        folder = tmp_path / name.partition("/")[0] / config / version
        folder.mkdir(parents=True)
        infos = []
        for split, examples in splits.items():
            records = [encode(features, example) for example in examples]
            template = tfds.core.ShardedFileTemplate(
                data_dir=folder,
                dataset_name=name.partition("/")[0],
                split=split,
                filetype_suffix=file_format,
            )
            parts = [
                records[i * len(records) // shards : (i + 1) * len(records) // shards]
                for i in range(shards)
            ]
            for path, part in zip(template.sharded_filepaths(shards), parts, strict=True):
                WRITERS[file_format](Path(path), part)
            lengths = list(map(len, parts))
            infos.append(tfds.core.SplitInfo(
                name=split, shard_lengths=lengths, num_bytes=0, filename_template=template
            ))  # fmt: skip
        tfds.folder_dataset.write_metadata(
            data_dir=folder,
            features=features,
            split_infos=infos,
            version=version,
            check_data=False,
            supervised_keys=keys,
        )
        return folder

    def encode(features, example) -> bytes:
        example = {
            key: io.BytesIO(value) if isinstance(features[key], tfds.features.Image) else value
            for key, value in example.items()
        }
        return features.serialize_example(features.encode_example(example))

    return write


def assert_batches_are_the_same(source) -> None:
    """Compares batches read here, by worker processes, and from the third on."""

    def batches(workers, start=0):
        stream = train_batches(source, Augment((4, 4), flip=True), batch_size=8, seed=3,
                               start=start, reading=Reading(workers=workers))  # fmt: skip
        return [next(stream) for _ in range(4 - start)]

    expected = batches(0)
    for found in (batches(2), [*expected[:2], *batches(0, 2)]):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one["image"], other["image"])
            np.testing.assert_array_equal(one["label"], other["label"])
