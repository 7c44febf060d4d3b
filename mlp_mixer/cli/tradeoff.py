"""Draws accuracy against training compute and throughput, as in figures 2 and 3 of the paper.

    mlp-mixer tradeoff --out=tradeoff.png                           # the paper's Table 3
    mlp-mixer tradeoff WORKDIR... --scalar=test/accuracy            # runs
    mlp-mixer tradeoff WORKDIR... --scalar=test/accuracy --paper    # both

The paper's points are accuracies after fine-tuning (--paper-accuracy: imagenet, real or avg5),
against TPUv3 core-days of pretraining and images per second per core of inference. A run's point
comes from its workdir: the last value of --scalar; device-days, which are the images seen divided
by the training speed (images per second per device); and that speed itself. Compare device-days
only between runs on the same kind of device, or use --flops, which draws a run's floating-point
operations instead.

--numbers writes a CSV file with a row for each point: name, family, data, accuracy, device_days,
images_per_second_per_device, training_flops (empty for the paper's).
"""

import argparse

from mlp_mixer.analysis import tradeoff
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_figure_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="*", metavar="WORKDIR")
    parser.add_argument("--scalar", default="test/accuracy", help="accuracy of the runs")
    parser.add_argument("--paper", action="store_true", help="draw the paper's points as well")
    parser.add_argument(
        "--paper-accuracy", default="imagenet", choices=list(tradeoff.PAPER_ACCURACIES)
    )
    parser.add_argument("--flops", action="store_true", help="compute in FLOPs; for runs only")
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
