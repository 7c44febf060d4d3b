"""Everything that waits for a GPU, in one call of less than ten minutes.

    python -m benchmarks.gpu_session --cifar10=FOLDER_OR_TAR --out=OUT [--old=CHECKOUT]

Run it wherever a GPU is at hand, and keep what OUT then holds:

    cifar10.tar.gz, cifar10_checkpoints.tar.gz   the workdir of configs/cifar10.py:nano
    PART.log                                     what each part printed

Its parts:

    cifar10  that training. It is killed with SIGKILL after --kill-after seconds and started again
             by the same command; what is not done after --train-minutes is saved by SIGTERM
    kills    benchmarks.kill_runs on the GPU, beside it: runs that were killed end bit-equal
    step     benchmarks.step_forms: a B/16 training step of this checkout beside that of --old
    timm     benchmarks.gpu_speed: a B/16 training step beside timm's with torch.compile

Speed is measured when the other parts are done, so that each has the GPU to itself. A part that
fails or takes too long does not stop those after it; the summary at the end says how each ended.

What follows -- goes to the training. Not run on a GPU yet: the recipe of cifar10.py:nano for 300
epochs, as long as github.com/omihub777/MLP-Mixer-CIFAR trains to its 90.83 %, and with SAM, with
which the weights went from 88.7 to 89.6 % on a CPU (docs/results/mixer_nano.md):

    ... --parts cifar10 --train-minutes=8 -- --config.total_epochs=300 \\
        --config.sam.rho_max=0.2 --config.sam.rho_min=0.2 \\
        --config.data.in_memory=False --config.data.workers=15
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Without it sums by atomic additions differ from run to run (docs/reference/reliability.md).
REPEATABLE = "--xla_gpu_exclude_nondeterministic_ops=true"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", type=Path, required=True, help="train/ and test/, or a tar")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is to be kept")
    parser.add_argument("--old", type=Path, help="another checkout, to compare the step with")
    parser.add_argument("rest", nargs="*", help="further arguments for train.py, after --")
    parser.add_argument("--train-minutes", type=float, default=4.5)
    parser.add_argument("--kill-after", type=float, default=45, metavar="SECONDS")
    parser.add_argument("--kills", type=int, default=4, help="of the runs that are compared")
    parser.add_argument("--parts", nargs="+", default=["cifar10", "kills", "step", "timm"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ends: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as temporary:
        kills = None
        if "kills" in args.parts:
            kills = start(
                args.out, "kills", python("benchmarks.kill_runs", f"--kills={args.kills}")
            )
        if "cifar10" in args.parts:
            ends["cifar10"] = train_cifar10(args, Path(temporary))
        if kills:
            ends["kills"] = wait(kills, 90)
    if "step" in args.parts and args.old:
        command = python(
            "benchmarks.step_forms", f"--old={args.old}", "--variant=B/16", "--batch=512"
        )
        ends["step"] = wait(start(args.out, "step", command), 150)
    if "timm" in args.parts:
        command = python(
            "benchmarks.gpu_speed", "--kinds=training", "--batches=512", "--rounds=1",
            "--forms", "timm default", "ours",
        )  # fmt: skip
        ends["timm"] = wait(start(args.out, "timm", command), 150)
    for part, end in ends.items():
        lines = (args.out / f"{part}.log").read_text().splitlines()
        print(f"\n--- {part}: {end}", *lines[-12:], sep="\n")


def train_cifar10(args: argparse.Namespace, temporary: Path) -> str:
    """Trains with a kill in between, puts the workdir into a tar, and says how it ended."""
    began, workdir = time.monotonic(), temporary / "cifar10"
    with unpacked(args.cifar10, temporary) as folder:
        command = [
            sys.executable, "train.py", "--config=configs/cifar10.py:nano", f"--workdir={workdir}",
            f"--config.data.source=folder:{folder}", "--config.keep_checkpoints=1", *args.rest,
        ]  # fmt: skip
        first = start(args.out, "cifar10", command)
        killed = wait(first, args.kill_after, signal.SIGKILL)
        left = 60 * args.train_minutes - (time.monotonic() - began)
        end = wait(start(args.out, "cifar10", command), left)
    # Two files, as what brings them back may limit their size.
    for name, is_checkpoint in (("cifar10", False), ("cifar10_checkpoints", True)):
        with tarfile.open(args.out / f"{name}.tar.gz", "w:gz") as tar:
            for path in sorted(workdir.glob("*")):
                if (path.name == "checkpoints") == is_checkpoint:
                    tar.add(path, f"cifar10/{path.name}")
    return f"first {killed}, then {end}"


@contextlib.contextmanager
def unpacked(path: Path, temporary: Path) -> Iterator[Path]:
    """The folder itself, or the one that a tar holds."""
    if path.is_dir():
        yield path
        return
    folder = temporary / "images"
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    yield folder


def python(module: str, *options: str) -> list[str]:
    return [sys.executable, "-m", module, *options]


def start(out: Path, part: str, command: Sequence[str]) -> subprocess.Popen:
    """Starts a command whose output goes to the end of OUT/PART.log."""
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {REPEATABLE * (part == 'kills')}".strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the GPU
        "PYTHONUNBUFFERED": "1",
    }
    with (out / f"{part}.log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def wait(process: subprocess.Popen, seconds: float, signal_then: int = signal.SIGTERM) -> str:
    """How the process ended, with a signal if it has not after so many seconds."""
    began, sent = time.monotonic(), ""
    try:
        process.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal_then)
        sent = f" after {signal.Signals(signal_then).name}"
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return f"status {process.returncode}{sent} in {time.monotonic() - began:.0f} s"


if __name__ == "__main__":
    main()
