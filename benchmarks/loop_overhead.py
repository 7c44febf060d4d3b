"""What a run spends outside of the compiled step, and how long it takes until the first step.

    python -m benchmarks.loop_overhead [--config=configs/digits.py] [--steps=300]

Start-up is timed from the start of a fresh `train.py` process to its first finished step, as
written to metrics.jsonl. The overhead is the time of a step in the loop (median of the reports)
less that of the compiled step called by itself with a batch that is on the device already. Both are
measured in turns on the same machine.
"""

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax

from mlp_mixer.data import pipeline
from mlp_mixer.runs import metrics
from mlp_mixer.training.recipe import make_augment, make_recipe, open_data, random_params

ROUNDS = 3


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/digits.py")
    parser.add_argument("--steps", type=int, default=300)
    return parser.parse_args()


def run_loop(args: argparse.Namespace, steps: int, log_every: int) -> tuple[float, list[float]]:
    """Seconds until a process's first report, and seconds for a step from all of its reports."""
    with tempfile.TemporaryDirectory() as workdir:
        start = time.time()
        process = subprocess.Popen(
            [sys.executable, "train.py", f"--config={args.config}", f"--workdir={workdir}",
             "--config.total_epochs=0", f"--config.total_steps={steps}",
             "--config.warmup_epochs=0", "--config.warmup_steps=1",
             "--config.eval_every_epochs=0", f"--config.eval_every_steps={steps}",
             "--config.checkpoint_every_epochs=0", f"--config.checkpoint_every_steps={steps}",
             f"--config.log_every_steps={log_every}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        path, first = Path(workdir) / metrics.FILE, 0.0
        while process.poll() is None:
            if not first and path.exists() and path.read_text():
                first = time.time() - start
            time.sleep(0.01)
        speed = "train/images_per_second_per_device"
        batch_size = load_config(args).batch_size / jax.device_count()
        return first, [batch_size / x[speed] for x in metrics.read(workdir) if speed in x]


def load_config(args: argparse.Namespace):
    return importlib.import_module(args.config.removesuffix(".py").replace("/", ".")).get_config()


def run_step(args: argparse.Namespace) -> float:
    """Median seconds of the compiled step alone."""
    config = load_config(args)
    train_source = open_data(config)
    recipe = make_recipe(config, len(train_source.class_names), len(train_source))
    state = recipe.new_state(random_params(config, recipe.module))
    step = recipe.layout.jit_step(recipe.step, state)
    batches = pipeline.train_batches(
        train_source, make_augment(config), batch_size=config.batch_size, seed=0,
        in_memory=config.data.in_memory, reading=pipeline.Reading(threads=1),
    )  # fmt: skip
    batch = recipe.layout.to_devices(next(batches))
    seconds = []
    for _ in range(args.steps // 3 + 5):
        start = time.perf_counter()
        state, values = step(state, batch)
        jax.block_until_ready(values)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[5:])


def main() -> None:
    from mlp_mixer.runtime import host_memory

    host_memory.keep()
    args = parse()
    rows = [
        (
            run_loop(args, steps=3, log_every=1)[0],
            statistics.median(run_loop(args, args.steps, log_every=20)[1][1:]),
            run_step(args),
        )
        for _ in range(ROUNDS)
    ]
    first, loop, step = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"until the first step is reported   {first:8.1f} s")
    print(f"a step in the loop                 {1e3 * loop:8.1f} ms")
    print(f"the compiled step by itself        {1e3 * step:8.1f} ms")
    overhead = [100 * (a / b - 1) for _, a, b in rows]
    print(
        f"host overhead                      {statistics.median(overhead):8.1f} % "
        f"(from {min(overhead):.1f} to {max(overhead):.1f})"
    )


if __name__ == "__main__":
    main()
