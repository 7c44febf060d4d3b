"""Kills a run at random moments, over and over, and compares its end with an uninterrupted one.

    python -m benchmarks.kill_runs [--kills=50] [--devices=1] [-- --config.X=Y ...]

The run is a small Mixer on the digits that saves every 20 steps, so most kills hit a checkpoint
that is being written. Each process is killed with SIGKILL after a random time, one in ten of them
while it starts. Where a run ends before all kills are spent, it is compared and another is begun.
Arguments after `--` go to train.py, such as a layout.

A table says what the kills hit. The exit status is 1 unless every run ended with the same digests
of parameters and optimizer state, the same model.npz and the same metrics as the uninterrupted one.
"""

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mlp_mixer.cli.output import table
from mlp_mixer.runs import checkpoints, digests, metrics

STEPS = 1000
SMALL = [
    "--config=configs/digits.py", "--config.model.num_blocks=2", "--config.model.hidden_dim=16",
    "--config.model.tokens_mlp_dim=8", "--config.model.channels_mlp_dim=32",
    "--config.model.stoch_depth=0.5", "--config.batch_size=32", "--config.log_every_steps=10",
    "--config.total_epochs=0", f"--config.total_steps={STEPS}", "--config.eval_every_epochs=0",
    "--config.eval_every_steps=250", "--config.checkpoint_every_epochs=0",
    "--config.checkpoint_every_steps=20",
]  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--devices", type=int, default=1, help="fake devices on the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--longest", type=float, default=4, help="seconds that a process may train")
    parser.add_argument("rest", nargs="*", help="further arguments for train.py")
    return parser.parse_args()


def start(args: argparse.Namespace, workdir: Path) -> subprocess.Popen:
    """Starts train.py and returns; what it says goes to WORKDIR.log."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={args.devices}",
        "JAX_COMPILATION_CACHE_DIR": str(workdir.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with workdir.with_suffix(".log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "train.py", *SMALL, *args.rest, f"--workdir={workdir}"],
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip


def finish(process: subprocess.Popen, workdir: Path) -> None:
    if process.wait():
        sys.exit(f"train.py failed:\n{workdir.with_suffix('.log').read_text()}")


def training(workdir: Path) -> bool:
    """Whether the process has taken its first steps."""
    return "  loss " in workdir.with_suffix(".log").read_text()


def phase(workdir: Path) -> str:
    """What a killed run was doing, by what it has left behind."""
    folder = workdir / checkpoints.FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if not training(workdir):
        return "starting"
    for mark, doing in (("checkpoint-tmp", "writing a checkpoint"),
                        ("unverified", "verifying one"), ("deleting", "deleting one")):  # fmt: skip
        if any(mark in name for name in names):
            return doing
    return "training"


def result(workdir: Path) -> tuple:
    """All that a run leaves, in a form that can be compared."""
    folder = checkpoints.latest(workdir)
    scalars = [
        {name: value for name, value in line.items() if not name.endswith(("device", "left"))}
        for line in metrics.read(workdir)
    ]
    with np.load(workdir / "model.npz") as weights:
        arrays = {name: weights[name].tobytes() for name in weights}
    return digests.read_arrays(folder), arrays, scalars


def main() -> None:
    args = parse()
    moments, hits = random.Random(args.seed), collections.Counter()
    with tempfile.TemporaryDirectory() as temporary:
        straight = Path(temporary) / "straight"
        finish(start(args, straight), straight)
        wanted, equal, runs, began = result(straight), 0, 0, time.monotonic()
        while sum(hits.values()) < args.kills:
            workdir = Path(temporary) / f"killed{runs}"
            runs += 1
            while True:
                process = start(args, workdir)
                if sum(hits.values()) == args.kills:
                    finish(process, workdir)
                    break
                while_it_starts = moments.random() < 0.1
                while not (while_it_starts or training(workdir)) and process.poll() is None:
                    time.sleep(0.02)
                time.sleep(moments.uniform(0, args.longest))
                process.send_signal(signal.SIGKILL)
                if process.wait() != -signal.SIGKILL:
                    finish(process, workdir)
                    break
                hits[phase(workdir)] += 1
                print(f"kill {sum(hits.values())}: step {checkpoints.latest_step(workdir)} saved",
                      file=sys.stderr)  # fmt: skip
            equal += result(workdir) == wanted
        print(table([("killed while", "times"), *((k, str(n)) for k, n in hits.most_common())]))
        print(f"{equal} of {runs} runs ended bit-equal; {time.monotonic() - began:.0f} s")
        sys.exit(equal != runs)


if __name__ == "__main__":
    main()
