"""Draws accuracy against the compute of training and against throughput, as in figures 2 and 3.

    mlp-mixer tradeoff --out=tradeoff.png                                the paper's Table 3
    mlp-mixer tradeoff WORKDIR... --scalar=test/accuracy                 runs
    mlp-mixer tradeoff WORKDIR... --scalar=test/accuracy --paper         both

The paper's points are ImageNet accuracies after fine-tuning (--paper-accuracy: imagenet, real or
avg5) against the core-days of pretraining on TPUv3 and the images per second and core of inference.
A run's point is what its workdir says: the last value of --scalar; device-days, which are the
images that it has seen divided by the images per second and device of its training; and that speed
of training itself. Devices differ: compare days only where they are the same. --flops draws a run's
arithmetic instead of its days.

--numbers writes a CSV file with a row for each point: name, family, data, accuracy, device_days,
images_per_second_per_device, training_flops (empty for the paper's).
"""

import argparse

from mlp_mixer.analysis import tradeoff
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR")
    parser.add_argument("--scalar", default="test/accuracy", help="of the runs")
    parser.add_argument("--paper", action="store_true", help="draw the paper's points, too")
    parser.add_argument(
        "--paper-accuracy", default="imagenet", choices=list(tradeoff.PAPER_ACCURACIES)
    )
    parser.add_argument("--flops", action="store_true", help="compute of runs as operations")
    add_figure_arguments(parser, "tradeoff.png")


def main(args: argparse.Namespace) -> None:
    found = tradeoff.read_tradeoff(
        args.workdirs,
        args.scalar,
        paper=args.paper,
        paper_accuracy=args.paper_accuracy,
        flops=args.flops,
    )
    print(output.table(found.summary()))
    output.save_figure(found.figure(), args.out)
    output.save_numbers(found.rows(), args.numbers)
