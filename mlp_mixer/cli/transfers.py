"""Prints finished sweeps as one table, with the means that the paper reports: Avg 5 and VTAB-1k.

    mlp-mixer transfers sweeps/*

"Avg 5" is the mean over ImageNet, CIFAR-10, CIFAR-100, Pets and Flowers, "VTAB-1k" the mean over
its 19 tasks. A mean over data sets is only printed if all of them are present.

The data set of a sweep follows from its data source. If that is a folder, write NAME=WORKDIR with a
name from the table, such as Pets=sweeps/pets or dtd=sweeps/dtd. Several sweeps on one data set
count with their mean; the paper has three, which here differ in --config.seed.
"""

import argparse

from mlp_mixer.analysis import transfers
from mlp_mixer.cli import output
from mlp_mixer.training import sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdirs", nargs="+", metavar="[NAME=]WORKDIR", help="folders of sweeps")


def main(args: argparse.Namespace) -> None:
    found = transfers.read_transfers(args.workdirs)
    print(output.table(found.summary()))
    for path in found.unfinished:
        hint = ""
        if "=" in path:
            hint = "; of NAME=WORKDIR, NAME must be a data set as in the table, such as Pets"
        print(f"{path} is not a finished sweep: it has no {sweep.RESULT_FILE}{hint}")
