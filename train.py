"""Trains a model: python train.py --config=configs/digits.py --workdir=runs/digits

Every field of the config can be changed on the command line: --config.lr=3e-4. The same command
again continues a run that was stopped.
"""

from absl import app, flags
from ml_collections import config_flags

from mlp_mixer import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment, a file in configs/")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder for checkpoints, metrics and weights")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    from mlp_mixer.training import (
        loop,  # seconds to import; a wrong flag should fail before
    )

    result = loop.train(_CONFIG.value, _WORKDIR.value)
    print(f"test accuracy {result['accuracy']:.2%}; weights and curves are in {_WORKDIR.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
