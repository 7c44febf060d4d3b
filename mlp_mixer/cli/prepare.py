"""Prepares a data set once, as ArrayRecord files that training reads without TensorFlow.

    mlp-mixer prepare cifar10
    mlp-mixer prepare imagenet2012 --manual-dir=FOLDER_WITH_THE_TARS
    mlp-mixer prepare folder:PATH --name=imagenet21k

A TFDS data set that is there as TFRecord already is converted, which needs no TensorFlow and leaves
the original alone. Otherwise TFDS downloads and prepares it, which does need it (pip install
tensorflow-cpu). The images of a folder (train/, and val/ or test/, with a folder for each class)
are packed into few large files under a name of your choice. Stopped, the same command goes on with
the files that are still to write; docs/data.md has the whole story.
"""

import argparse

from mlp_mixer.data.prepare.prepare import prepare


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
    made = prepare(args.source, name=args.name, data_dir=args.data_dir, manual_dir=args.manual_dir)
    examples = ", ".join(f"{split} {count:,}" for split, count in made.examples.items())
    print(f"{made.folder}\n  examples: {examples}\nIn a config: --config.data.source={made.source}")
    if made.data_dir:
        print(f"with the environment variable TFDS_DATA_DIR={made.data_dir}")
