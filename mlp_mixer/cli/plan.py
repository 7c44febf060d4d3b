"""Predicts what a run needs and costs on a TPU, by compiling its actual program for that TPU.

    mlp-mixer plan --config=imagenet:B/16 --topology=v5e:4x4
    mlp-mixer plan --config=jft:H/14 --topology v5e:4x4 v5p:2x2x2 v6e:4x4
    mlp-mixer plan --config=imagenet:L/16 --topology=v5e:4x4 --compare
    mlp-mixer plan --config=imagenet:B/16 --topology=v5e:4x4 --eval

No TPU is needed, only its compiler in libtpu (pip install libtpu). The data set is not needed
either, if mlp_mixer/data/known_sizes.py lists it, or --num-classes and --examples give its size.
Compiling takes from half a minute (small models) to eight minutes per topology or variant.

A topology is a kind of chip (v2, v3, v4, v5e, v5p, v6e, tpu7x) and the number of chips along each
axis. On v2, v3 and tpu7x, the two cores of a chip are separate devices, and memory is given per
core. --compare tries layouts, accumulation and rematerialisation, and recommends one.
"""

import argparse

from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_config_argument, file_to_write
from mlp_mixer.planning import estimate
from mlp_mixer.planning.plan import plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--topology", required=True, nargs="+", metavar="KIND:AxB",
        help="chips and how they are linked, such as v5e:4x4 or v5p:2x2x1; several make a table",
    )  # fmt: skip
    parser.add_argument("--eval", action="store_true", help="the forward pass, not training")
    parser.add_argument("--compare", action="store_true", help="try variants, recommend one")
    parser.add_argument("--num-classes", type=int, help="needed if the data set is not known")
    parser.add_argument(
        "--examples", type=int, help="number to train on; needed if the data set is not known"
    )
    parser.add_argument(
        "--figure", type=file_to_write, help="file to draw memory and throughput to"
    )


def main(args: argparse.Namespace) -> None:
    plans = plan(
        args.config,
        args.topology,
        num_classes=args.num_classes,
        examples=args.examples,
        evaluation=args.eval,
        compare=args.compare,
        tell=lambda text: print(f"{text}\n", flush=True),
    )
    if len(plans.estimates) > 1:
        print(f"{output.table(plans.summary())}\n")
    if args.compare:
        for line in plans.recommendations():
            print(f"{line}\n")
    print(estimate.LEFT_OUT)
    if args.figure:
        output.save_figure(plans.figure(), args.figure)
