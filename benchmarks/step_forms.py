"""The training step of this checkout beside another's, on the device that is here.

    git worktree add /tmp/old e108a84
    python -m benchmarks.step_forms --old /tmp/old [--variant B/16] [--batch 128] [--rounds 5]

For changes that must cost neither speed nor memory. Each checkout has a fresh process in every
round, one after the other, first one and then the other; compilation is not timed. The table has
the median over rounds of images a second, on the clock and of CPU time (what counts on a CPU that
others use, too), and the ratio of this checkout to the old one within a round: median, smallest and
largest. Memory is XLA's account of temporary arrays and, on a GPU, the
peak. The step is forward, backward and Adam, from pixels that are on the device already.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

FORMS = ("old", "new")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", metavar="CHECKOUT", required=True)
    parser.add_argument("--variant", default="B/16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dtype", help="bfloat16 on a GPU and float32 on a CPU if not given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args)
    checkouts = {"old": os.path.abspath(args.old), "new": os.getcwd()}
    found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for number in range(args.rounds):
        for form in FORMS if number % 2 == 0 else FORMS[::-1]:
            found[form].append(measure(checkouts[form]))
            print(form, found[form][-1], file=sys.stderr)
    print(f"{args.variant}, batch {args.batch}, {args.rounds} rounds")
    for form in FORMS:
        middle = {key: statistics.median(run[key] for run in found[form]) for key in found[form][0]}
        print(
            f"{form}: {middle['wall']:.2f} images/s, {middle['cpu']:.2f} a CPU-second, "
            f"temporary {middle['temp'] / 2**20:.1f} MiB, peak {middle['peak'] / 2**20:.1f} MiB, "
            f"traced and lowered in {middle['lower']:.2f} s"
        )
    for clock in ("wall", "cpu"):
        ratios = [new[clock] / old[clock] for old, new in zip(*found.values(), strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"new to old, {clock}: {statistics.median(ratios):.3f} ({spread})")
    print("loss of the second step, old and new:", *(found[form][0]["loss"] for form in FORMS))


def measure(checkout: str) -> dict[str, float]:
    """Runs the worker in a fresh process whose package is a checkout's."""
    # Not -m, for which the working folder's package would come before the checkout's.
    command = [sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker"]
    path = os.pathsep.join(filter(None, (checkout, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        command, cwd=checkout, env=environment, check=True, text=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout.splitlines()[-1])


def work(args: argparse.Namespace) -> None:
    from mlp_mixer.models.init import init
    from mlp_mixer.runtime import host_memory

    host_memory.keep()
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from mlp_mixer.models import mixer
    from mlp_mixer.runs.checkpoints import TrainState
    from mlp_mixer.training import layouts
    from mlp_mixer.training.step import make_train_step

    on_cpu = jax.default_backend() == "cpu"
    dtype = jnp.dtype(args.dtype or ("float32" if on_cpu else "bfloat16"))
    module = mixer.create(args.variant, num_classes=1000, dtype=dtype)
    layout, tx, params = layouts.make_layout(), optax.adam(1e-3), init(module)
    state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
    state = jax.device_put(state, layout.shardings(state))
    rng = np.random.default_rng(0)
    batch = layout.to_devices(
        {
            "image": rng.integers(0, 256, (args.batch, 224, 224, 3), dtype=np.uint8),
            "label": rng.integers(0, 1000, args.batch).astype(np.int32),
        }
    )
    step = layout.jit_step(make_train_step(module, tx, loss="softmax"), state)
    start = time.perf_counter()
    lowered = step.lower(state, batch)
    lower = time.perf_counter() - start
    compiled = lowered.compile()

    metrics = None

    def run(steps: int) -> tuple[float, float]:
        """Wall and CPU seconds."""
        nonlocal state, metrics
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        return time.perf_counter() - wall, time.process_time() - cpu

    run(1)
    once, _ = run(1)
    loss = float(metrics["loss"])
    steps = max(2, round(args.seconds / once))
    wall, cpu = (args.batch * steps / seconds for seconds in run(steps))
    memory = jax.devices()[0].memory_stats() or {}
    temp = compiled.memory_analysis().temp_size_in_bytes
    found = dict(wall=wall, cpu=cpu, temp=temp, peak=memory.get("peak_bytes_in_use", 0))
    print(json.dumps(found | dict(lower=lower, loss=loss)))


if __name__ == "__main__":
    main()
