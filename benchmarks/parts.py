"""How much faster a CPU trains on a batch in parts that fit its caches (`accum_steps`).

    python -m benchmarks.parts --config=configs/cifar10.py:nano --batch=512
    python -m benchmarks.parts --config=configs/imagenet.py:S/16 --batch=32 --rounds=3

Times the training step of a config with one part and with several, in turns in one process, and
prints medians of images a second and of the ratios to the first of --parts within a round.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from benchmarks.ratios import spread
from mlp_mixer.cli import output
from mlp_mixer.runtime import host_memory
from mlp_mixer.training import config_files
from mlp_mixer.training.recipe import make_recipe, random_params


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    host_memory.keep()
    config = config_files.load(args.config)
    config.batch_size, config.mixup, config.data.in_memory = args.batch, 0.0, True
    steps = {}
    for parts in args.parts:
        config.accum_steps = parts
        recipe = make_recipe(config, num_classes=1000, num_examples=1_000_000)
        state = recipe.new_state(random_params(config, recipe.module))
        steps[parts] = recipe.layout.jit_step(recipe.step, state)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (args.batch, *config.image_size, 3), dtype=np.uint8),
        "label": rng.integers(0, 1000, args.batch).astype(np.int32),
    }
    seconds: dict[int, list[float]] = {parts: [] for parts in steps}
    for number in range(args.rounds + 1):
        for parts, step in steps.items():
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, recipe.layout.to_devices(batch)))
            if number:  # the first one compiles
                seconds[parts].append(time.perf_counter() - start)
    rows = [("parts", "images in each", "images/s", f"to {args.parts[0]} (least to most)")]
    for parts, found in seconds.items():
        ratios = [a / b for a, b in zip(seconds[args.parts[0]], found, strict=True)]
        speed = f"{args.batch / statistics.median(found):.1f}"
        rows.append((str(parts), str(args.batch // parts), speed, spread(ratios)))
    print(f"{args.config}, batch {args.batch}, {recipe.module.dtype}\n\n{output.table(rows)}")


if __name__ == "__main__":
    main()
