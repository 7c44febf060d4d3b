"""Prepare a data set once, as ArrayRecord files that training reads without TensorFlow.

    python -m mlp_mixer prepare cifar10
    python -m mlp_mixer prepare imagenet2012 --manual-dir=FOLDER_WITH_THE_TARS
    python -m mlp_mixer prepare folder:PATH --name=imagenet21k

A TFDS data set that is there as TFRecord already is converted, which needs no TensorFlow and leaves
the original alone. Otherwise TFDS downloads and prepares it, which does need it (pip install
tensorflow-cpu). The images of a folder (train/, and val/ or test/, with a folder for each class)
are packed into few large files under a name of your choice. Stopped, the same command goes on with
the files that are still to write; docs/data.md has the whole story.
"""

import argparse
import importlib.util
from pathlib import Path
from typing import Any

from etils import epath

from mlp_mixer.data import pack, prepared, tfrecord

# Without one of these TFDS would prepare the others and say nothing.
MANUAL_FILES = {
    "imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"),
    "imagenet2012_real": ("ILSVRC2012_img_val.tar",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="NAME|folder:PATH", help="TFDS's name, or a folder")
    parser.add_argument("--name", help="of the data set that a folder is made to")
    parser.add_argument(
        "--data-dir", help="where data sets are; default: $TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    parser.add_argument(
        "--manual-dir",
        help="where the files are that TFDS may not download; default: DATA_DIR/downloads/manual",
    )


def main(args: argparse.Namespace) -> None:
    folder = epath.Path(args.data_dir).expanduser() if args.data_dir else prepared.data_dir()
    if "://" in str(folder):
        raise ValueError(
            f"data sets are prepared on a disk, not in {folder}: give --data-dir, and copy what it "
            "makes, for instance with gcloud storage cp -r"
        )
    kind, _, path = args.source.partition(":")
    if kind == "folder":
        name = _prepare_folder(path, args.name, folder)
    elif args.name:
        raise ValueError("--name is for folder:PATH; a TFDS data set has its name")
    else:
        name = args.source.removeprefix("tfds:").partition("#")[0]
        _prepare(name, folder, args.manual_dir)
    builder = prepared.find(name, folder)
    splits = ", ".join(
        f"{split} {info.num_examples:,}" for split, info in builder.info.splits.items()
    )
    print(
        f"{builder.data_dir}\n  examples: {splits}\nIn a config: --config.data.source=tfds:{name}"
    )
    if folder != prepared.data_dir():
        print(f"with the environment variable TFDS_DATA_DIR={folder}")


def _prepare_folder(path: str, name: str | None, folder: Path) -> str:
    if not name or not name.isidentifier() or name != name.lower():
        raise ValueError(
            "folder:PATH needs --name, in small letters, digits and underscores, such as "
            f"imagenet21k; got {name!r}"
        )
    target = Path(folder) / name / "1.0.0"
    if target.exists():
        raise ValueError(f"{target} is there already; choose another --name, or delete it")
    pack.pack(path, name, target)
    return name


def _prepare(name: str, folder: epath.Path, manual_dir: str | None) -> None:
    builder = prepared.find(name, folder)
    if builder is None:
        _download(name, folder, manual_dir)
    elif prepared.is_array_record(builder):
        print(f"{name} is prepared already:")
    elif builder.info.file_format.value == "tfrecord":
        target = Path(folder, prepared.CONVERTED, Path(builder.data_dir).relative_to(folder))
        tfrecord.convert(builder, target)
    else:
        raise ValueError(
            f"{builder.data_dir} is in the format {builder.info.file_format.value}, which cannot "
            "be converted here; move it away to prepare the data set anew"
        )


def _download(name: str, folder: epath.Path, manual_dir: str | None) -> None:
    import tensorflow_datasets

    try:
        builder: Any = tensorflow_datasets.builder(
            name, data_dir=folder, file_format="array_record"
        )
    except tensorflow_datasets.core.DatasetNotFoundError as error:
        raise ValueError(f"TFDS has no data set {name}, and there is none in {folder}") from error
    except (ValueError, AssertionError) as error:  # another config, another version
        reason = str(error).splitlines()[0].partition('": ')[2].partition(" Here are")[0]
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
