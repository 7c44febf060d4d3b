"""What it brings on a CPU to keep freed memory (mlp_mixer/runtime/host_memory.py).

    python -m benchmarks.host_memory

Times the training step of configs/cifar10.py with and without it, in fresh processes in turns.
"""

import statistics
import subprocess
import sys
import time

ROUNDS, STEPS = 3, 15


def measure(keep: bool) -> None:
    """Prints seconds of wall and of system time for a step; runs in a process of its own."""
    import resource

    if keep:
        from mlp_mixer.runtime import host_memory

        host_memory.keep()
    import jax
    import numpy as np

    from configs import cifar10
    from mlp_mixer.training.recipe import make_recipe, random_params

    config = cifar10.get_config()
    recipe = make_recipe(config, num_classes=10, num_examples=50_000)
    state = recipe.new_state(random_params(config, recipe.module))
    step = recipe.layout.jit_step(recipe.step, state)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (config.batch_size, 32, 32, 3), dtype=np.uint8),
        "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
    }
    state, _ = step(state, batch)
    walls, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_stime
    for _ in range(STEPS):
        start = time.perf_counter()
        state, values = step(state, batch)
        jax.block_until_ready(values)
        walls.append(time.perf_counter() - start)
    system = (resource.getrusage(resource.RUSAGE_SELF).ru_stime - before) / STEPS
    print(statistics.median(walls), system)


def main() -> None:
    results = {}
    for _ in range(ROUNDS):
        for keep in ("True", "False"):
            code = f"from benchmarks import host_memory as h; h.measure({keep})"
            out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            results.setdefault(keep, []).append([float(x) for x in out.stdout.split()])
    for keep, name in (("True", "memory kept"), ("False", "as glibc does it")):
        wall, system = (statistics.median(column) for column in zip(*results[keep], strict=True))
        print(f"{name:<18} {1e3 * wall:6.0f} ms a step; {1e3 * system:4.0f} CPU-ms in the kernel")
    ratios = [b[0] / a[0] for a, b in zip(results["True"], results["False"], strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
