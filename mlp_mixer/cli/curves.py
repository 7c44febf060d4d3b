"""Draws the learning curves of one or more runs, and prints how they ended.

    mlp-mixer curves WORKDIR... [--scalars loss accuracy] --out=curves.png

Each scalar is a panel, with the means that training reports (pale) and every evaluation that has
it. Classification has loss, accuracy and top5; few-shot has 5shot and the like. A run that was not
evaluated yet has the means only, and one without metrics is left out. --numbers writes the points
to a CSV file: run, scalar, step, value.
"""

import argparse

from mlp_mixer.analysis import curves
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="WORKDIR")
    parser.add_argument("--scalars", nargs="+", default=["loss", "accuracy"], metavar="NAME")
    add_figure_arguments(parser, "curves.png")


def main(args: argparse.Namespace) -> None:
    found = curves.read_curves(args.workdirs, args.scalars)
    print(output.table(found.summary()))
    output.save_figure(found.figure(), args.out)
    output.save_numbers(found.rows(), args.numbers)
