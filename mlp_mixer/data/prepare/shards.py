"""Writes data sets in TFDS's layout, as ArrayRecord, so that an incomplete one is never visible.

Files are written one by one into a folder beside the final one, which gets its final name only
when all files are complete. Writing can be stopped at any time and continued later.
"""

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

COMPARED = 16  # records per file that are read back and compared


def incomplete(target: Path) -> Path:
    """Creates and returns the folder to write into until `finish` renames it to `target`."""
    folder = target.parent / f"incomplete.{target.name}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_whole(path: Path, count: int) -> bool:
    """Returns whether an ArrayRecord file exists and has `count` records."""
    return path.exists() and count_records(path) == count


def count_records(path: Path) -> int:
    """Returns the number of records that an ArrayRecord file declares; -1 if it is damaged."""
    try:
        with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
            return reader.num_records()
    except (RuntimeError, ValueError, OSError):
        return -1


def write(path: Path, records: Iterable[bytes], count: int) -> None:
    """Writes one ArrayRecord file, and verifies some records before it gets its final name.

    Raises:
        ValueError: there are not `count` records, or the disk returns different ones.
        OSError: the file cannot be written, such as when the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    chosen = np.random.default_rng(count).choice(count, min(COMPARED, count), replace=False)
    kept: dict[int, bytes] = dict.fromkeys(map(int, {0, count - 1, *chosen} if count else ()), b"")
    # One record per group, because random access reads whole groups. Uncompressed, because encoded
    # images do not shrink, and compression would take twice as long as everything else.
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
    """Raises a ValueError if the disk of `folder` has less than `need` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ValueError(
            f"{folder} needs {need / 2**30:.1f} GiB, but its disk has {free / 2**30:.1f} GiB left"
        )


def finish(target: Path) -> None:
    """Checks the number of records in every file, and renames the folder to `target`.

    Raises:
        ValueError: a file is missing, or its number of records differs from dataset_info.json.
    """
    import tensorflow_datasets as tfds

    folder = incomplete(target)
    info = tfds.core.read_only_builder.builder_from_directory(folder).info
    for name, split in info.splits.items():
        for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
            if not is_whole(Path(path), count):
                raise ValueError(f"{path}, of the split {name}, is not whole; start again")
    folder.replace(target)
