"""Kills a run at random moments, over and over, and compares its end with an uninterrupted one.

    python -m benchmarks.kill_runs [--kills=50] [--devices=1] [-- --config.X=Y ...]
    python -m benchmarks.kill_runs --workdir=gs://BUCKET/FOLDER [--failures=1000] ...
    python -m benchmarks.kill_runs --server --failures=1000 --kills=0

The run is a small Mixer on the digits that saves every 20 steps, so most kills hit a checkpoint
that is being written. Each process is killed with SIGKILL after a random time, one in ten of them
while it starts. Where a run ends before all kills are spent, it is compared and another is begun.
Arguments after `--` go to train.py, such as a layout.

With --workdir the killed runs are there, for instance in a bucket; the uninterrupted one is on this
machine's disk. --server starts a bucket on this machine. With --failures so many of its requests
fail (5xx, or the connection is cut before or after the work is done), one in ten, and runs are
begun until they have. A run that such a failure ends, with a message, is started again, as the
message says.

A table says what the kills hit. The exit status is 1 unless every run ended with the same digests
of parameters and optimizer state, the same model.npz and the same metrics as the uninterrupted one.
"""

import argparse
import collections
import contextlib
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
from mlp_mixer.runtime import storage
from tests.bucket import Faults, Proxy, serving

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
    parser.add_argument("--workdir", help="of the killed runs; a temporary folder by default")
    parser.add_argument("--server", action="store_true", help="start a bucket gs://runs")
    parser.add_argument("--failures", type=int, default=0, help="requests of --server that fail")
    parser.add_argument("rest", nargs="*", help="further arguments for train.py")
    return parser.parse_args()


def start(args: argparse.Namespace, workdir: storage.AnyPath, log_file: Path) -> subprocess.Popen:
    """Starts train.py and returns; what it says goes to a file."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={args.devices}",
        "JAX_COMPILATION_CACHE_DIR": str(log_file.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with log_file.open("w") as log:
        return subprocess.Popen(
            [sys.executable, "train.py", *SMALL, *args.rest, f"--workdir={workdir}"],
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip


def finish(process: subprocess.Popen, log_file: Path) -> None:
    if process.wait():
        sys.exit(f"train.py failed:\n{log_file.read_text()}")


def training(log_file: Path) -> bool:
    """Whether the process has taken its first steps."""
    return "  loss " in log_file.read_text()


def phase(workdir: storage.AnyPath, log_file: Path) -> str:
    """What a killed run was doing, by what it has left behind."""
    if not training(log_file):
        return "starting"
    folder, newest = checkpoints.folder_of(workdir), checkpoints.latest_step(workdir) or 0
    for step in (int(name) for name in storage.names(folder) if name.isdecimal()):
        if not digests.is_sealed(folder / str(step)):
            written = (folder / str(step) / "commit_success.txt").exists()
            if step < newest:
                return "deleting a checkpoint"
            return "verifying one" if written else "writing one"
    return "training"


def result(workdir: storage.AnyPath) -> tuple:
    """All that a run leaves, in a form that can be compared."""
    folder = checkpoints.latest(workdir)
    scalars = [
        {name: value for name, value in line.items() if not name.endswith(("device", "left"))}
        for line in metrics.read(workdir)
    ]
    with storage.local(workdir / "model.npz") as file, np.load(file) as weights:
        arrays = {name: weights[name].tobytes() for name in weights}
    return digests.read_arrays(folder), arrays, scalars


def main() -> None:
    args = parse()
    if args.server:
        args.workdir = args.workdir or "gs://runs/kills"
    with (
        tempfile.TemporaryDirectory() as temporary,
        serving() if args.server else contextlib.nullcontext() as proxy,
    ):
        folder = Path(temporary)
        straight = folder / "straight"
        finish(start(args, straight, folder / "log"), folder / "log")
        equal, runs = compare(args, folder, result(straight), proxy)
    sys.exit(equal != runs)


def compare(
    args: argparse.Namespace, folder: Path, wanted: tuple, proxy: Proxy | None
) -> tuple[int, int]:
    """Kills runs, prints what was hit, and returns how many of how many ended as `wanted`."""
    moments, hits = random.Random(args.seed), collections.Counter()
    equal, runs, began, ends = 0, 0, time.monotonic(), []
    while sum(hits.values()) < args.kills or (proxy and proxy.failures < args.failures):
        workdir = storage.as_path(args.workdir or folder) / f"killed{runs}"
        log_file = folder / f"killed{runs}.log"
        runs += 1
        if proxy and args.failures:
            proxy.faults = Faults(0.1)
        while True:
            process = start(args, workdir, log_file)
            if sum(hits.values()) == args.kills:
                if process.wait() == 1 and args.failures:
                    ends.append(log_file.read_text().split("error: ")[-1].splitlines()[0])
                    print(f"started again after: {ends[-1]}", file=sys.stderr)
                    continue
                finish(process, log_file)
                break
            while_it_starts = moments.random() < 0.1
            while not (while_it_starts or training(log_file)) and process.poll() is None:
                time.sleep(0.02)
            time.sleep(moments.uniform(0, args.longest))
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                finish(process, log_file)
                break
            hits[phase(workdir, log_file)] += 1
            print(f"kill {sum(hits.values())}: step {checkpoints.latest_step(workdir)} saved",
                  file=sys.stderr)  # fmt: skip
        if proxy:
            proxy.faults = Faults()
            print(f"run {runs} is done; {proxy.failures} requests failed", file=sys.stderr)
        equal += result(workdir) == wanted
        storage.remove_tree(workdir)
    print(table([("killed while", "times"), *((k, str(n)) for k, n in hits.most_common())]))
    if proxy:
        print(f"{proxy.failures} of {sum(proxy.counts.values())} requests were made to fail, which "
              f"ended a run with a message {len(ends)} times")  # fmt: skip
    print(f"{equal} of {runs} runs ended bit-equal; {time.monotonic() - began:.0f} s")
    return equal, runs


if __name__ == "__main__":
    main()
