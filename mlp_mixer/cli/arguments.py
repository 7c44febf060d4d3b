"""Arguments that several commands have."""

import argparse
import os
import re


def at_home(argument: str) -> str:
    """Puts the home folder in place of ~ in ~/PATH and --NAME=~/PATH; shells leave the latter."""
    name, equals, value = argument.rpartition("=")
    return name + equals + os.path.expanduser(value)


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Adds --config=FILE_OR_NAME[:ARGUMENT], with --config.FIELD=VALUE for any field of it."""
    parser.add_argument(
        "--config", required=True, metavar="FILE_OR_NAME[:ARGUMENT]",
        help="the experiment: a file such as configs/digits.py, the name of one that comes with "
        "mlp_mixer, such as digits, or WORKDIR/config.json of a run; --config.FIELD=VALUE changes "
        "a field",
    )  # fmt: skip


def add_size_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --image-size, --patch-size and --resize, which mean what they mean to `load`."""
    parser.add_argument(
        "--image-size", type=size, metavar="H[xW]", help="pixels; default: as in the source"
    )
    parser.add_argument("--patch-size", type=size, metavar="H[xW]", help="likewise")
    parser.add_argument(
        "--resize",
        default="auto",
        choices=("auto", "tile", "resample"),
        help="the way to another image size: the paper's for whole multiples, or resampling",
    )


def add_figure_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds --out and --numbers, for the figure and what it was drawn from."""
    parser.add_argument("--out", default=out, metavar="FILE", help="file to draw to")
    parser.add_argument("--numbers", metavar="FILE.csv", help="write the numbers behind the figure")


def size(text: str) -> tuple[int, int]:
    """Reads "224" or "160x256" as (height, width)."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 224 or 160x256")
    return int(found[1]), int(found[2] or found[1])
