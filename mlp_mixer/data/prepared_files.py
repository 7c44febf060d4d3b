"""Finds the files of TFDS data sets, and checks that none is missing."""

import importlib
import os
import re
from importlib.metadata import version
from typing import Any

from etils import epath

from mlp_mixer.data.bucket_copy import is_address, on_disk

# Subfolder of TFDS's data folder for what `prepare` converts from TFRecord.
CONVERTED = "array_record"


def data_dir() -> epath.Path:
    """Returns the folder where TFDS keeps data sets: $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    folder = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return epath.Path(folder).expanduser()


def find(name: str, folder: epath.Path) -> Any:
    """Finds the newest version of a data set in `folder` or its subfolder array_record/.

    If that version exists in two formats, ArrayRecord is preferred.

    Returns:
        A tfds.core.DatasetBuilder made from the files alone, without the data set's own code; None
        if there are no files.

    Raises:
        ValueError: `name` is not written like a data set's name, or its description is damaged.
    """
    return max(_found(name, folder), key=lambda b: (b.version, is_array_record(b)), default=None)


def check_tfds() -> None:
    """Raises a ValueError if TFDS cannot be imported; TFDS itself would only log it."""
    from google.protobuf.runtime_version import VersionError

    try:
        importlib.import_module("tensorflow_metadata.proto.v0.statistics_pb2")
    except VersionError as error:
        if not (needed := re.search(r"gencode (\d+\.\d+)", str(error))):
            raise ValueError(f"TFDS cannot be imported: {error}") from error
        raise ValueError(
            f"TFDS cannot be imported: its tensorflow_metadata needs protobuf {needed[1]}, and "
            f"this is {version('protobuf')}. Do pip install 'protobuf~={needed[1]}', and restart "
            "Python"
        ) from error


def _found(name: str, folder: epath.Path) -> list[Any]:
    check_tfds()
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    if not re.fullmatch(r"[a-zA-Z]\w*(/[\w.+-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?", name):
        raise ValueError(
            f"tfds:{name}: write NAME, NAME/CONFIG, NAME:VERSION or NAME/CONFIG:VERSION"
        )
    found = []
    for place in (folder, folder / CONVERTED):
        try:
            builder = tfds.core.read_only_builder.builder_from_files(name, data_dir=place)
        except tfds.core.DatasetNotFoundError:
            continue
        except (ValueError, ParseError) as error:
            raise ValueError(
                f"tfds:{name}: what describes the data set in {place} is damaged: {error}"
            ) from error
        if builder.info.splits:
            found.append(builder)
    return found


def is_array_record(builder: Any) -> bool:
    return builder.info.file_format is not None and builder.info.file_format.value == "array_record"


def find_array_record(name: str) -> Any:
    """Returns the tfds.core.DatasetBuilder of a data set prepared in ArrayRecord.

    Raises:
        ValueError: there is none; says how to prepare it.
    """
    # tfds.data_source() would retry a download for minutes.
    builder = find(name, data_dir())
    if builder is not None and is_array_record(builder):
        if is_address(builder.data_dir):  # ArrayRecord's reader opens files on disks only
            import tensorflow_datasets as tfds

            builder = tfds.builder_from_directory(on_disk(builder.data_dir))
        return builder
    mend = f"Once:\n  mlp-mixer prepare {name}\nor set TFDS_DATA_DIR to the folder of it."
    if builder is not None:
        older = [str(b.version) for b in _found(name, data_dir()) if is_array_record(b)]
        raise ValueError(
            f"tfds:{name} is prepared as {builder.info.file_format.value} in {builder.data_dir}, "
            f"which has no random access here. {mend}"
            + "".join(f" (Older, but there: tfds:{name}:{version}.)" for version in older)
        )
    base = re.split("[/:]", name)[0]
    other = find(base, data_dir()) if base != name else None
    there = f" There is {other.data_dir}." if other else ""
    import tensorflow_datasets as tfds

    try:
        tfds.builder_cls(base)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            f"tfds:{name}: TFDS has no data set {base}, and {data_dir()} has no files of {name}."
            f"{there}"
        ) from error
    raise ValueError(f"tfds:{name} is not prepared: no files in {data_dir()}.{there} {mend}")


def open_records(name: str, builder: Any, split: str) -> tuple[Any, list[tuple[str, int]]]:
    """Opens the records of a split for random access.

    Returns:
        The records, a sequence of bytes; and (path, number of records) of each file, in order.

    Raises:
        ValueError: there is no such split, it is empty, or files of it are missing.
    """
    import tensorflow_datasets as tfds

    try:
        files = builder.info.splits[split].file_instructions
        records = builder.as_data_source(
            split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except (ValueError, KeyError, AssertionError) as error:
        has = ", ".join(f"{key} ({one.num_examples})" for key, one in builder.info.splits.items())
        reason = ""
        if all(part.partition("[")[0] in builder.info.splits for part in split.split("+")):
            reason = f": {error.args[0] if error.args else type(error).__name__}"
        raise ValueError(
            f"{name} has no split {split!r}{reason}; it has {has}, and parts such as train[:98%]"
        ) from error
    if not len(records):
        raise ValueError(f"{name}: split {split!r} is empty")
    missing = [file.filename for file in files if not epath.Path(file.filename).exists()]
    if missing:
        raise ValueError(
            f"{name}: of {len(files)} files of {split} {len(missing)} are missing; the first is "
            f"{missing[0]}"
        )
    # Without TFDS's wrapper, which would pickle the whole data set description for each worker.
    return records.data_source, [(str(file.filename), file.take) for file in files]
