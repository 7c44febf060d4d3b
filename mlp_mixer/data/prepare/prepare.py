"""Prepares data sets as ArrayRecord files: those of TFDS, or images of other sources."""

import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
from tqdm import tqdm

from mlp_mixer.data import prepared_files
from mlp_mixer.data.bucket_copy import copy_to, is_address, place_for
from mlp_mixer.data.prepare import from_source, from_tfrecord

log = logging.getLogger(__name__)

# If one of these is missing, TFDS silently prepares only the other splits.
MANUAL_FILES = {
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
    "imagenet2012_real": ("ILSVRC2012_img_val.tar",),
    "imagenet2012_corrupted": ("ILSVRC2012_img_val.tar",),
}
PACKED = ("folder", "wds", "hf")  # kinds of sources whose images are packed under a new name


class Prepared(NamedTuple):
    """A data set that `prepare` made or found.

    Attributes:
        source: the value for data.source in a config.
        folder: where its files are.
        examples: number of examples in each split.
        data_dir: the value that TFDS_DATA_DIR must have to find it; None if it has it already.
    """

    source: str
    folder: Path
    examples: dict[str, int]
    data_dir: Path | None


def prepare(
    source: str,
    *,
    name: str | None = None,
    data_dir: str | Path | None = None,
    manual_dir: str | Path | None = None,
) -> Prepared:
    """Prepares a data set as ArrayRecord files, which training reads without TensorFlow.

    Args:
        source: TFDS's name of a data set; or folder:PATH, wds:PATTERN or hf:NAME.
        name: name of the data set that such images are packed into.
        data_dir: where data sets are; by default $TFDS_DATA_DIR or ~/tensorflow_datasets.
        manual_dir: where the files are that must be downloaded by hand; by default
            DATA_DIR/downloads/manual.

    Raises:
        ValueError: the data set cannot be prepared; says what to do.
    """
    folder = epath.Path(data_dir).expanduser() if data_dir else prepared_files.data_dir()
    is_packed = source.partition(":")[0] in PACKED
    if is_packed and (not name or not name.isidentifier() or name != name.lower()):
        raise ValueError(
            f"{source} needs --name, in small letters, digits and underscores, such as "
            f"imagenet21k; got {name!r}"
        )
    if is_address(folder):
        return _prepare_in_bucket(folder, source, name, manual_dir)
    if name and is_packed:
        _pack(source, name, folder)
    elif name:
        raise ValueError(
            f"--name is for folder:PATH, wds:PATTERN and hf:NAME; a TFDS data set such as "
            f"{source} has its name"
        )
    else:
        name = source.removeprefix("tfds:").partition("#")[0]
        _prepare(name, folder, manual_dir)
    builder = prepared_files.find(name, folder)
    return Prepared(
        f"tfds:{name}",
        Path(builder.data_dir),
        {split: info.num_examples for split, info in builder.info.splits.items()},
        Path(folder) if folder != prepared_files.data_dir() else None,
    )


def _prepare_in_bucket(
    address: epath.Path, source: str, name: str | None, manual_dir: str | Path | None
) -> Prepared:
    """Prepares a data set on this machine's disk, and copies it to a bucket.

    What makes a folder a data set is its dataset_info.json, which is copied last.
    """
    there = prepared_files.find(name or source.removeprefix("tfds:").partition("#")[0], address)
    if there is not None:
        raise ValueError(f"{there.data_dir} is there already; choose another --name, or delete it")
    staging = place_for(f"{address}/staging")
    made = prepare(source, name=name, data_dir=staging, manual_dir=manual_dir)
    target = address / made.folder.relative_to(staging)
    files = sorted(made.folder.iterdir(), key=lambda path: path.name == "dataset_info.json")
    for path in tqdm(files, f"copying to {target}", unit=" files", disable=None):
        copy_to(path, str(target / path.name))
    shutil.rmtree(staging)
    return made._replace(folder=target, data_dir=address)


def _pack(source: str, name: str, folder: Path) -> None:
    target = Path(folder) / name / "1.0.0"
    if target.exists():
        raise ValueError(f"{target} is there already; choose another --name, or delete it")
    from_source.pack(from_source.open_splits(source), name, target)


def _prepare(name: str, folder: epath.Path, manual_dir: str | Path | None) -> None:
    builder = prepared_files.find(name, folder)
    if builder is None:
        _download(name, folder, manual_dir)
    elif prepared_files.is_array_record(builder):
        log.info("%s is prepared already", name)
    elif builder.info.file_format.value == "tfrecord":
        target = Path(folder, prepared_files.CONVERTED, Path(builder.data_dir).relative_to(folder))
        from_tfrecord.convert(builder, target)
    else:
        raise ValueError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which cannot "
            "be converted here; move it away to prepare the data set anew"
        )


def _download(name: str, folder: epath.Path, manual_dir: str | Path | None) -> None:
    import tensorflow_datasets

    try:
        builder: Any = tensorflow_datasets.builder(
            name, data_dir=folder, file_format="array_record"
        )
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS has no data set {name}, and there is none in {folder}") from error
    except (ValueError, AssertionError) as error:  # an unknown config or version
        text = (str(error) or type(error).__name__).splitlines()[0]
        reason = text.partition('": ')[2].partition(" Here are")[0] or text
        raise ValueError(f"TFDS has no {name}, and there is none in {folder}: {reason}") from error
    manual = Path(manual_dir or Path(folder) / "downloads" / "manual").expanduser()
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    needed = MANUAL_FILES.get(builder.name, ())
    missing = [file for file in needed if not (manual / file).is_file()]
    if missing or (instructions and not manual.is_dir()):
        raise ValueError(
            f"{name} needs files in {manual} (--manual-dir) that TFDS may not download"
            f"{': ' + ', '.join(missing) if missing else ''}.\n{' '.join(instructions.split())}"
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"preparing {name} needs TensorFlow: pip install tensorflow-cpu (tensorflow on a "
            f"Mac). Reading it does not; {folder} can be copied from another machine"
        )
    config = tensorflow_datasets.download.DownloadConfig(manual_dir=manual)
    try:
        builder.download_and_prepare(download_config=config)
    except Exception as error:  # the data set's own code may raise anything
        raise ValueError(
            f"TFDS could not prepare {name}: {type(error).__name__}: {error}"
        ) from error
