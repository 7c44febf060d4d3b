"""Trains a model: python train.py --config=configs/digits.py --workdir=runs/digits

Every field of the config can be changed on the command line: --config.lr=3e-4. The same command
again continues a run that was stopped. On a TPU pod the same command is started on every host.
"""

import signal

if __name__ == "__main__":  # seconds of imports follow; Ctrl-C ends them without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from absl import app, flags
from ml_collections import config_flags

from mlp_mixer import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "the experiment, a file in configs/, or WORKDIR/config.json of a run"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder for checkpoints, metrics and weights")
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed", "auto", ["auto", "on", "off"], "join other processes; auto: on Cloud TPUs"
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "how many processes there are")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "the number of this one")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    # Seconds to import; a wrong flag should fail before.
    from mlp_mixer.evaluation import evaluators
    from mlp_mixer.training import distributed, loop

    distributed.initialise(
        _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _DISTRIBUTED.value
    )
    result = loop.train(_CONFIG.value, _WORKDIR.value)
    print(f"{evaluators.log_line(result)}; weights and curves are in {_WORKDIR.value}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    cli.run(main)
