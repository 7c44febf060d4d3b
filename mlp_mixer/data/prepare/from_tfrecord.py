"""Converts TFDS data sets from TFRecord, which has no random access, without TensorFlow."""

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
from tqdm import tqdm

from mlp_mixer.data.prepare import shards


def convert(builder: Any, target: Path) -> None:
    """Writes an ArrayRecord copy of a prepared data set to the folder `target`.

    Every record's checksum and features are checked, and every file's number of records against
    dataset_info.json. If interrupted, the same call continues; see `shards`.

    Args:
        builder: a tfds.core.DatasetBuilder of TFRecord files, which are not changed.
        target: the new folder of the same version.

    Raises:
        ValueError: a file is missing, damaged or has another number of records, or there is not
            enough space on the disk; names the file and the record.
    """
    info, source = builder.info, Path(builder.data_dir)
    folder = shards.incomplete(target)
    files = [
        (Path(path), count)
        for split in info.splits.values()
        for path, count in zip(split.filepaths, split.shard_lengths, strict=True)
    ]
    if missing := [path for path, _ in files if not path.exists()]:
        raise ValueError(
            f"of {len(files)} TFRecord files {len(missing)} are missing; the first is {missing[0]}"
        )
    todo = [
        (path, count) for path, count in files if not shards.is_whole(folder / _name(path), count)
    ]
    shards.check_space(folder, sum(path.stat().st_size for path, _ in todo))
    total = sum(count for _, count in files)
    with tqdm(total=total, desc=f"converting {info.name}", unit=" records", disable=None) as bar:
        bar.update(total - sum(count for _, count in todo))
        for path, count in todo:
            shards.write(folder / _name(path), _records(path, count, info.features, bar), count)
    for path in source.iterdir():
        if path.is_file() and ".tfrecord" not in path.name and path.name != "dataset_info.json":
            shutil.copyfile(path, folder / path.name)
    content = json.loads((source / "dataset_info.json").read_text())
    content["fileFormat"] = "array_record"
    (folder / "dataset_info.json").write_text(json.dumps(content, indent=2))
    shards.finish(target)


def _name(path: Path) -> str:
    return path.name.replace(".tfrecord", ".array_record")


def _records(path: Path, count: int, features: Any, bar: tqdm) -> Iterator[bytes]:
    import tensorflow_datasets as tfds

    encoded = [key for key, f in features.items() if isinstance(f, tfds.features.Image)]
    decoders = {key: tfds.decode.SkipDecoding() for key in encoded}
    number = -1
    for number, record in enumerate(read(path)):
        try:
            example = features.deserialize_example_np(record, decoders=decoders)
            if lacking := sorted(key for key in features if example.get(key) is None):
                raise ValueError(f"it lacks {', '.join(lacking)}")
        except Exception as error:  # protobuf and each feature raise types of their own
            raise ValueError(
                f"{path}, record {number}, is not one of this data set: {error}"
            ) from error
        bar.update()
        yield record
    if number + 1 != count:
        raise ValueError(f"{path} has {number + 1} records, but dataset_info.json says {count}")


def read(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file, comparing checksums (which grain's reader does not).

    Each record is stored as its length (8 bytes), the checksum of the length (4), the record, and
    its checksum (4), all little-endian.

    Raises:
        ValueError: the file ends early, or a checksum is wrong; names the file and the record.
    """
    with path.open("rb") as file:
        number = 0
        while head := file.read(12):
            where = f"{path}, record {number},"
            if len(head) < 12:
                raise ValueError(f"{where} ends early: the file is cut short")
            length, checksum = struct.unpack("<QI", head)
            if checksum != masked_crc32c(head[:8]):
                raise ValueError(f"{where} is damaged: the checksum of its length is wrong")
            record, tail = file.read(length), file.read(4)
            if len(record) < length or len(tail) < 4:
                raise ValueError(f"{where} ends early: the file is cut short")
            if struct.unpack("<I", tail)[0] != masked_crc32c(record):
                raise ValueError(f"{where} is damaged: its checksum is wrong")
            yield record
            number += 1


def masked_crc32c(data: bytes) -> int:
    """Computes the checksum of TFRecord files: CRC-32C, rotated, plus a constant.

    Source: tensorflow/core/lib/hash/crc32c.h.
    """
    plain = google_crc32c.value(data)
    return (((plain >> 15) | (plain << 17)) + 0xA282EAD8) & 0xFFFFFFFF
