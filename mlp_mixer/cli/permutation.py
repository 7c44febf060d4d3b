"""Draws the permutation experiment (figure 4 of the paper) from runs of configs/permutation.py.

    mlp-mixer permutation WORKDIR... [--scalar fewshot/5shot] --out=permutation.png

There is one panel per architecture, with one line per order of the pixels. The command also prints
the final accuracies, and how much each permutation costs. --numbers writes the points to a CSV
file: architecture, order, step, value.
"""

import argparse

from mlp_mixer.analysis import permutation
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--scalar", default="fewshot/5shot", help="the accuracy to draw")
    add_figure_arguments(parser, "permutation.png")


def main(args: argparse.Namespace) -> None:
    found = permutation.read_experiment(args.workdirs, args.scalar)
    print(output.table(found.summary()))
    output.save_figure(found.figure(), args.out)
    output.save_numbers(found.rows(), args.numbers)
