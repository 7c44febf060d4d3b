"""Chooses a learning rate on held-out training images, trains on all of them, and tests once.

    mlp-mixer sweep --config=transfer:B/16,cifar10 --workdir=sweeps/cifar10 \\
        --config.init_from=imagenet21k/Mixer-B_16

Each rate of config.sweep.learning_rates is a run in WORKDIR/lr_RATE, trained on
config.sweep.train_split and judged by its final accuracy on config.sweep.dev_split. The best rate
(among equals, the one with the lower loss) is trained again in WORKDIR/full on
config.data.train_split, and evaluated as config.evals says, once, at the end. Rates whose runs
diverge are ruled out.

The sweep can be stopped at any time, and the same command continues it. If you add rates, only the
new ones are trained. If one of them beats the first winner, the command refuses to test again,
because the test images have been used. The result is printed and written to WORKDIR/sweep.json,
sweep.md and sweep.png. mlp-mixer transfers shows several sweeps in one table with the paper's
means.
"""

import argparse

import jax

from mlp_mixer.analysis import sweep_figure
from mlp_mixer.cli import output
from mlp_mixer.cli.arguments import add_config_argument
from mlp_mixer.runtime import processes
from mlp_mixer.runtime.storage import as_path
from mlp_mixer.training import sweep

PICTURE_FILE = "sweep.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--workdir", required=True, help="folder for all of its runs")


def main(args: argparse.Namespace) -> None:
    processes.initialise()
    workdir = as_path(args.workdir)
    result = sweep.sweep(args.config, workdir)
    if jax.process_index() == 0:
        print(sweep.markdown(result))
        output.save_figure(sweep_figure.draw(result), workdir / PICTURE_FILE)
        print(f"weights are in {workdir / sweep.FULL}")
