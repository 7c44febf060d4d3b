"""Arguments that several commands share."""

import argparse
import os
import re
from typing import get_args

from mlp_mixer.models.dtypes import Dtype
from mlp_mixer.runtime.storage import as_path, check_no_folder, in_words


def at_home(argument: str) -> str:
    """Replaces ~ by the home folder in ~/PATH and --NAME=~/PATH; shells only do the former."""
    name, equals, value = argument.rpartition("=")
    return name + equals + os.path.expanduser(value)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --config=FILE_OR_NAME[:ARGUMENT], whose fields --config.FIELD=VALUE changes."""
    parser.add_argument(
        "--config", required=True, metavar="FILE_OR_NAME[:ARGUMENT]",
        help="the experiment: a file such as configs/digits.py, the name of one that comes with "
        "mlp_mixer, such as digits, or WORKDIR/config.json of a run; --config.FIELD=VALUE changes "
        "a field",
    )  # fmt: skip


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --image-size, --patch-size and --resize, with the same meaning as for `load`."""
    parser.add_argument(
        "--image-size", type=size, metavar="H[xW]", help="in pixels; default: as in the source"
    )
    parser.add_argument(
        "--patch-size", type=size, metavar="H[xW]", help="in pixels; default: as in the source"
    )
    parser.add_argument(
        "--resize",
        default="auto",
        choices=("auto", "tile", "resample"),
        help="how to change the image size: as in the paper for whole multiples, or by resampling",
    )


def add_dtype_argument(parser: argparse.ArgumentParser, default: Dtype = "auto") -> None:
    """Adds --dtype, with the same meaning as for `load_classifier`."""
    parser.add_argument(
        "--dtype", choices=get_args(Dtype), default=default,
        help="number type of the computation; auto is the one in which the device is faster "
        f"(default: {default})",
    )  # fmt: skip


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --workers, with the same meaning as for `evaluate`."""
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="processes that load images, 0 for threads; default: as the run trained, or 0",
    )  # fmt: skip


def add_figure_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds --out for the figure, and --numbers for the values behind it."""
    parser.add_argument(
        "--out", type=file_to_write, default=out, metavar="FILE", help="file to draw to"
    )
    parser.add_argument(
        "--numbers", type=file_to_write, metavar="FILE.csv",
        help="write the numbers behind the figure",
    )  # fmt: skip


def file_to_write(text: str) -> str:
    """Refuses a folder at once, rather than after the work for what is to be written."""
    if text:
        try:
            check_no_folder(as_path(text))
        except (ValueError, OSError) as error:
            raise argparse.ArgumentTypeError(in_words(error)) from None
    return text


def size(text: str) -> tuple[int, int]:
    """Reads "224" or "160x256" as (height, width)."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 160x256")
    return int(found[1]), int(found[2] or found[1])
