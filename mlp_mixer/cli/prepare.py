"""Prepares a data set as ArrayRecord files, which training reads without TensorFlow.

    mlp-mixer prepare cifar10
    mlp-mixer prepare imagenet2012 --manual-dir=FOLDER_WITH_THE_TARS
    mlp-mixer prepare folder:PATH --name=imagenet21k
    mlp-mixer prepare 'wds:PATTERN' --name=NAME
    mlp-mixer prepare hf:NAME_OR_FOLDER --name=NAME

If a TFDS data set exists as TFRecord, it is converted, which needs no TensorFlow and leaves the
original unchanged. Otherwise TFDS downloads and prepares it, which needs TensorFlow (pip install
tensorflow-cpu). The images of a folder (train/, and val/ or test/, with a folder per class), of
WebDataset's tar files or of a Hugging Face data set are packed into a few large files under a name
of your choice. You can stop the command at any time: an incomplete data set is never visible, and
the same command continues. See docs/reference/data.md.
"""

import argparse

from mlp_mixer.data.prepare.prepare import prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="NAME|KIND:PLACE",
        help="TFDS's name, or folder:PATH, wds:PATTERN or hf:NAME_OR_FOLDER",
    )
    parser.add_argument("--name", help="name of the data set that such images are packed into")
    parser.add_argument(
        "--data-dir", help="where data sets are; default: $TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    parser.add_argument(
        "--manual-dir",
        help="folder of files downloaded by hand; default: DATA_DIR/downloads/manual",
    )


def main(args: argparse.Namespace) -> None:
    made = prepare(args.source, name=args.name, data_dir=args.data_dir, manual_dir=args.manual_dir)
    examples = ", ".join(f"{split} {count:,}" for split, count in made.examples.items())
    print(f"{made.folder}\n  examples: {examples}\nIn a config: --config.data.source={made.source}")
    if made.data_dir:
        print(f"with the environment variable TFDS_DATA_DIR={made.data_dir}")
