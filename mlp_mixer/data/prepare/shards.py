"""Writing data sets as TFDS lays them out, in ArrayRecord, so that none looks whole before it is.

Everything is written into a folder beside the final one, file by file; only when all files are
there and hold what they should is it given its name. Stopped at any moment, it can go on.
"""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

COMPARED = 16  # records of a file that are read back and compared


def incomplete(target: Path) -> Path:
    """The folder to write into, until `finish` gives it the name `target`."""
    folder = target.parent / f"incomplete.{target.name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_whole(path: Path, count: int) -> bool:
    """Whether an ArrayRecord file is there and has so many records."""
    return path.exists() and count_records(path) == count


def count_records(path: Path) -> int:
    """The number of records that an ArrayRecord file says it has; -1 where it is damaged."""
    try:
        with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
            return reader.num_records()
    except (RuntimeError, ValueError, OSError):
        return -1


def write(path: Path, records: Iterable[bytes], count: int) -> None:
    """Writes one ArrayRecord file, and reads some of it back before it gets its name.

    Raises:
        ValueError: there are not `count` records, or the disk gives back others.
        OSError: the disk is full, or does not take it for another reason.
    """
    part = path.with_name(f"{path.name}.part")
    chosen = np.random.default_rng(count).choice(count, min(COMPARED, count), replace=False)
    kept: dict[int, bytes] = dict.fromkeys(map(int, {0, count - 1, *chosen} if count else ()), b"")
    # One record a group: a reader that jumps about would have to read a whole group for one. And
    # not compressed: encoded images do not get smaller, and it takes twice the rest of the time.
    writer = array_record_module.ArrayRecordWriter(str(part), "group_size:1,uncompressed")
    written = 0
    try:
        for record in records:
            writer.write(record)
            if written in kept:
                kept[written] = record
            written += 1
        writer.close()
    except RuntimeError as error:
        raise OSError(f"{part} cannot be written: {error}") from error
    if written != count:
        raise ValueError(f"{path.name} should get {count} records, but there are {written}")
    if (found := count_records(part)) != count:
        raise ValueError(f"{part}: wrote {count} records and read back {found}; is the disk sound?")
    with contextlib.closing(array_record_module.ArrayRecordReader(str(part))) as reader:
        for position, record in kept.items():
            if bytes(reader.read([position])[0]) != record:
                raise ValueError(f"{part}: record {position} is not what was written")
    part.replace(path)


def check_space(folder: Path, need: int) -> None:
    """Raises a ValueError where the disk has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ValueError(
            f"{folder} needs {need / 2**30:.1f} GiB, but its disk has {free / 2**30:.1f} GiB left"
        )


def finish(target: Path) -> None:
    """Counts the records of every file once more, and gives the data set its name.

    Raises:
        ValueError: a file is missing or has another number of records than dataset_info.json says.
    """
    import tensorflow_datasets as tfds

    folder = incomplete(target)
    info = tfds.core.read_only_builder.builder_from_directory(folder).info
    for name, split in info.splits.items():
        for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
            if not is_whole(Path(path), count):
                raise ValueError(f"{path}, of the split {name}, is not whole; start again")
    folder.replace(target)
