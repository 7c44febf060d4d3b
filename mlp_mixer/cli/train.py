"""Trains a model.

    mlp-mixer train --config=digits --workdir=runs/digits

Every field of the config can be changed on the command line, as in --config.lr=3e-4. To continue a
run that was stopped, repeat the command. On a TPU pod, start the same command on every host.
"""

import argparse

from mlp_mixer.cli.arguments import add_config_argument
from mlp_mixer.runs.metrics import Picture
from mlp_mixer.runtime.storage import AnyPath


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--workdir", required=True, metavar="FOLDER",
        help="folder for checkpoints, metrics and weights, also gs://BUCKET/FOLDER",
    )  # fmt: skip
    parser.add_argument(
        "--distributed", default="auto", choices=("auto", "on", "off"),
        help="whether to join other processes; auto: on Cloud TPUs",
    )  # fmt: skip
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--num_processes", type=int, metavar="N", help="number of processes")
    parser.add_argument("--process_id", type=int, metavar="I", help="index of this process")


def draw_sheet(workdir: AnyPath, examples: int) -> Picture:
    """Draws the sheet of predictions; imports matplotlib only then."""
    from mlp_mixer.analysis import sheet

    return sheet.of_run(workdir, examples)


def main(args: argparse.Namespace) -> None:
    from mlp_mixer.evaluation import evaluators
    from mlp_mixer.runtime import processes
    from mlp_mixer.training import loop

    processes.initialise(args.coordinator, args.num_processes, args.process_id, args.distributed)
    result = loop.train(args.config, args.workdir, draw_sheet=draw_sheet)
    measured = f"{evaluators.log_line(result)}; " if result else ""
    print(f"{measured}weights and curves are in {args.workdir}")
