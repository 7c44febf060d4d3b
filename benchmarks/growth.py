"""How a training step grows with the data set, the images, the depth, the classes and the devices.

    python -m benchmarks.growth [--out docs/images/growth.png] [--numbers growth.csv]

For a narrow Mixer on a CPU, one thing is varied at a time. Memory is what the compiler plans for
one device (state, batch and temporary arrays), work is its floating-point operations, and time is
CPU seconds of a step, which other programs on the machine hardly change; the devices are fake ones,
each with the same number of images. For the data set, which the step does not see, memory is the
process's peak, with file names and labels held as those of a folder are, and time is CPU seconds of
one batch. Slopes are fits of logarithms to the larger half of the points.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

DEVICES = (1, 2, 4, 8)
ROWS, PATCH = 8, 16  # images on each device, pixels of a patch
BASE = {"pixels": 128**2, "depth": 4, "classes": 100, "devices": 1}
POINTS = {
    "pixels": tuple(side**2 for side in (64, 128, 256, 512)),
    "depth": (2, 4, 8, 16),
    "classes": (10, 100, 1_000, 10_000, 100_000),
    "devices": DEVICES,
}
EXAMPLES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BATCH, BATCHES = 256, 8  # of the data set's part
LABELS = {"examples": "examples", "pixels": "pixels of an image", "depth": "blocks"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="docs/images/growth.png")
    parser.add_argument("--numbers", metavar="FILE.csv")
    parser.add_argument("--examples", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.examples:
        return read_batches(args.examples)
    rows = [data_set(count) for count in EXAMPLES]
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={max(DEVICES)}"
    for varied, values in POINTS.items():
        rows += [step(varied, value) for value in values]
    from mlp_mixer.cli import output

    output.save_figure(draw(rows), args.out)
    output.save_numbers(rows, args.numbers)


def data_set(count: int) -> dict:
    """Measures the pipeline on a data set of `count` examples, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--examples", str(count)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    memory, seconds = map(float, out.split())
    return dict(varied="examples", value=count, memory=memory, work="", seconds=seconds)


def read_batches(count: int) -> None:
    """Prints the peak memory, and the CPU seconds of a batch."""
    import numpy as np

    from mlp_mixer.data import pipeline
    from mlp_mixer.data.augment import Augment

    class Named:
        """The same small image under many names."""

        name, class_names = "named", ("a", "b")

        def __init__(self):
            self._names = np.arange(count).astype("S16")  # as `folders` holds them
            self._labels = np.zeros(count, np.int32)
            self._image = np.zeros((32, 32, 3), np.uint8)

        def __len__(self) -> int:
            return count

        def __getitem__(self, index: int) -> tuple:
            assert self._names[index]
            return self._image, int(self._labels[index])

    augment = Augment((32, 32), flip=True)
    batches = pipeline.train_batches(Named(), augment, batch_size=BATCH, seed=0)
    next(batches)
    start = time.process_time()
    for _ in range(BATCHES):
        next(batches)
    seconds = (time.process_time() - start) / BATCHES
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, seconds)


def step(varied: str, value: int) -> dict:
    """Compiles and runs the training step with one thing varied."""
    import jax
    import numpy as np
    import optax

    from mlp_mixer.models import mixer
    from mlp_mixer.models.init import init
    from mlp_mixer.runs.checkpoints import TrainState
    from mlp_mixer.training import layouts
    from mlp_mixer.training.step import make_train_step

    sizes = BASE | {varied: value}
    side = round(sizes["pixels"] ** 0.5)
    module = mixer.create(
        num_blocks=sizes["depth"], hidden_dim=128, tokens_mlp_dim=64, channels_mlp_dim=256,
        image_size=side, patch_size=PATCH, num_classes=sizes["classes"],
    )  # fmt: skip
    layout, tx = layouts.make_layout(devices=jax.devices()[: sizes["devices"]]), optax.adam(1e-3)
    params = init(module)
    state = TrainState(np.zeros((), np.int32), params, tx.init(params))
    rng, n = np.random.default_rng(0), ROWS * sizes["devices"]
    batch = {
        "image": rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8),
        "label": rng.integers(0, sizes["classes"], n).astype(np.int32),
    }
    like = jax.eval_shape(lambda: state)
    compiled: Any = layout.compile_step(
        make_train_step(module, tx, loss="softmax"), like, layout.to_devices(batch)
    )
    plan = compiled.memory_analysis()
    memory = plan.argument_size_in_bytes + plan.temp_size_in_bytes
    state = jax.device_put(state, layout.shardings(like))
    seconds = []
    for _ in range(6):
        start = time.process_time()
        state, metrics = compiled(state, layout.to_devices(batch))
        jax.block_until_ready((state, metrics))
        seconds.append((time.process_time() - start) / sizes["devices"])
    print(varied, value, memory, seconds[1:], file=sys.stderr)
    work = compiled.cost_analysis()["flops"]
    return dict(varied=varied, value=value, memory=memory, work=work,
                seconds=statistics.median(seconds[1:]))  # fmt: skip


def draw(rows: list[dict]):
    """Draws memory and time of each thing that is varied, with their slopes."""
    from mlp_mixer.analysis import figures

    kinds = list(dict.fromkeys(row["varied"] for row in rows))
    figure, axes = figures.new(2, len(kinds), figsize=(13, 5.4), sharex="col", sharey="row")
    for column, kind in zip(axes.T, kinds, strict=True):
        points = [row for row in rows if row["varied"] == kind]
        values = [row["value"] for row in points]
        upper, lower = column
        lines = [
            (upper, [row["memory"] / 2**20 for row in points], "#1d3557", "memory"),
            (lower, [row["seconds"] for row in points], "#e76f51", "CPU time"),
        ]
        if points[0]["work"]:
            lines.append((lower, [row["work"] / 1e10 for row in points], "#2a9d8f", "work"))
        for ax, numbers, color, name in lines:
            label = f"{name}, slope {round(slope(values, numbers), 2) + 0.0:.2f}"
            ax.loglog(values, numbers, "o-", color=color, ms=4, lw=1.5, label=label)
        for ax in column:
            ax.legend(frameon=False, fontsize=8)
            ax.spines[["top", "right"]].set_visible(False)
        lower.set_xlabel(LABELS.get(kind, kind))
        if max(values) < 100 * min(values):
            lower.set_xticks(values, [f"{value:,}" for value in values])
            lower.minorticks_off()
    axes[0, 0].set_ylabel("MiB")
    axes[1, 0].set_ylabel("CPU seconds, or 10 GFLOP")
    for row in axes:
        low, high = row[0].get_ylim()
        row[0].set_ylim(low / 1.5, high * 4)  # room for the legends
    return figure


def slope(values: list[float], numbers: list[float]) -> float:
    """Fits a power to the larger half of the points."""
    import numpy as np

    half = len(values) // 2
    return float(np.polyfit(np.log(values[half:]), np.log(numbers[half:]), 1)[0])


if __name__ == "__main__":
    main()
