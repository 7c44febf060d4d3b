"""Describes a weight file: variant, sizes, parameters, origin, and statistics of each array.

    mlp-mixer inspect SRC

SRC is anything that mlp_mixer.load reads. Values that are not finite, which load refuses, are
counted.
"""

import argparse

from mlp_mixer.cli import output
from mlp_mixer.weights.describe import describe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SRC", help="file, address, short name, hf://USER/NAME, workdir"
    )


def main(args: argparse.Namespace) -> None:
    facts, arrays, bad = describe(args.source)
    for key, value in facts:
        print(f"{key:<14}{value}")
    print("\n" + output.table(arrays))
    if bad:
        some = ", ".join(bad[:4]) + (" and others" if len(bad) > 4 else "")
        print(f"\nNOT FINITE: {len(bad)} of {len(arrays) - 1} arrays: {some}; load refuses these")
