"""Data sets as ArrayRecord files: TFDS's, converted or prepared by TFDS, or a folder of images."""

import importlib.util
import logging
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from mlp_mixer.data import prepared_files
from mlp_mixer.data.prepare import from_folder, from_tfrecord

log = logging.getLogger(__name__)

# Without one of these TFDS would prepare the others and say nothing.
MANUAL_FILES = {
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
    "imagenet2012_real": ("ILSVRC2012_img_val.tar",),
}


class Prepared(NamedTuple):
    """What `prepare` made, or found.

    Attributes:
        source: to be given to a config as data.source.
        folder: where its files are.
        examples: by split.
        data_dir: what TFDS_DATA_DIR has to be to find it; None where it is that already.
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
    """Makes a data set of ArrayRecord files, which training reads without TensorFlow.

    Args:
        source: TFDS's name of a data set, or folder:PATH.
        name: of the data set that a folder is made to.
        data_dir: where data sets are; $TFDS_DATA_DIR or ~/tensorflow_datasets where not given.
        manual_dir: where the files are that TFDS may not download; DATA_DIR/downloads/manual where
            not given.

    Raises:
        ValueError: it is not possible; says what to do.
    """
    folder = epath.Path(data_dir).expanduser() if data_dir else prepared_files.data_dir()
    if "://" in str(folder):
        raise ValueError(
            f"data sets are prepared on a disk, not in {folder}: give --data-dir, and copy what it "
            "makes, for instance with gcloud storage cp -r"
        )
    kind, _, path = source.partition(":")
    if kind == "folder":
        name = _prepare_folder(path, name, folder)
    elif name:
        raise ValueError("--name is for folder:PATH; a TFDS data set has its name")
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


def _prepare_folder(path: str, name: str | None, folder: Path) -> str:
    if not name or not name.isidentifier() or name != name.lower():
        raise ValueError(
            "folder:PATH needs --name, in small letters, digits and underscores, such as "
            f"imagenet21k; got {name!r}"
        )
    target = Path(folder) / name / "1.0.0"
    if target.exists():
        raise ValueError(f"{target} is there already; choose another --name, or delete it")
    from_folder.pack(path, name, target)
    return name


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
    except (ValueError, AssertionError) as error:  # another config, another version
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
    except Exception as error:  # of whatever the data set's own code does
        raise ValueError(
            f"TFDS could not prepare {name}: {type(error).__name__}: {error}"
        ) from error
