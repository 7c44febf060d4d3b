"""Draws the permutation experiment (figure 4 of the paper) from runs of configs/permutation.py.

    mlp-mixer permutation WORKDIR... [--scalar fewshot/5shot] --out=permutation.png

One panel for each architecture, one line for each order of the pixels. Prints how the runs ended,
and how much of the original's accuracy each permutation costs. --numbers writes the points as a CSV
file: architecture, order, step, value.
"""

import argparse

from mlp_mixer.analysis import permutation
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--scalar", default="fewshot/5shot", help="the accuracy that is drawn")
    add_figure_arguments(parser, "permutation.png")


def main(args: argparse.Namespace) -> None:
    found = permutation.read_experiment(args.workdirs, args.scalar)
    print(output.table(found.summary()))
    output.save_figure(found.figure(), args.out)
    output.save_numbers(found.rows(), args.numbers)
