"""Says what a run will need and cost on a TPU, by compiling its real program for that TPU.

    mlp-mixer plan --config=imagenet:B/16 --topology=v5e:4x4
    mlp-mixer plan --config=jft:H/14 --topology v5e:4x4 v5p:2x2x2 v6e:4x4
    mlp-mixer plan --config=imagenet:L/16 --topology=v5e:4x4 --compare
    mlp-mixer plan --config=imagenet:B/16 --topology=v5e:4x4 --eval

No TPU is needed, only libtpu (pip install libtpu), which has the compiler; neither is the data set,
if mlp_mixer/data/known_sizes.py knows it or --num-classes and --examples say how large it is.
Compiling takes half a minute (small models) to eight minutes for each topology or variant.

A topology is a kind of chip (v2, v3, v4, v5e, v5p, v6e, tpu7x) and the number of chips along each
axis. On v2, v3 and tpu7x a program sees the two cores of a chip as devices; memory is then that of
a core.
--compare tries layouts, accumulation and rematerialisation and recommends one.
"""

import argparse

from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_config_argument
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
    parser.add_argument("--num-classes", type=int, help="of the data set, if it is not known")
    parser.add_argument("--examples", type=int, help="of the data set to train on, likewise")
    parser.add_argument("--figure", help="file to draw memory and throughput to")


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
