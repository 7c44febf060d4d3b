"""Prints finished sweeps as one table, with the means that the paper reports: Avg 5 and VTAB-1k.

    mlp-mixer transfers sweeps/*

"Avg 5" is the mean over ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, "VTAB-1k" that over its 19
tasks. Which data set a sweep is on follows from its data source; where that is a folder, write
NAME=WORKDIR with a name of the table, such as Pets=sweeps/pets or dtd=sweeps/dtd. Of several sweeps
on one data set (the paper has three, here --config.seed=1 and so on) the mean counts. A mean
over data sets is printed when all of them are there.
"""

import argparse

from mlp_mixer.analysis import transfers
from mlp_mixer.cli import output
from mlp_mixer.training import sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR", help="of sweeps")


def main(args: argparse.Namespace) -> None:
    found = transfers.read_transfers(args.workdirs)
    print(output.table(found.summary()))
    for path in found.unfinished:
        print(f"{path} is no finished sweep: it has no {sweep.RESULT_FILE}")
