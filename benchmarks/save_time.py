"""What digests and verification add to the time of a save.

    python -m benchmarks.save_time [--variant=B/16] [--rounds=5]

Saves a training state (parameters and Adam's moments) with Orbax alone and with `Checkpoints`, in
turns, to a temporary folder. "blocked" is how long the training thread waits, "until safe" how
long until Orbax has committed it or, with `Checkpoints`, until it is read back, compared, flushed
to the disk and has its name. The parts are timed by themselves, on the same state.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp

from mlp_mixer.cli import table
from mlp_mixer.models import mixer
from mlp_mixer.training import checkpoint, digests
from mlp_mixer.training.checkpoint import Checkpoints
from mlp_mixer.training.step import TrainState


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="B/16")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def make_state(variant: str) -> TrainState:
    params = mixer.init(mixer.create(variant, num_classes=1000), 0)
    grads = mixer.init(mixer.create(variant, num_classes=1000), 1)
    tx = optax.adam(1e-3)
    _, opt_state = tx.update(grads, tx.init(params))  # moments that are not all zero
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def orbax_alone(folder: Path, state: TrainState) -> tuple[float, float]:
    items = {"params": state.params, "opt_state": state.opt_state}
    args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    with ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler()) as orbax:
        start = time.perf_counter()
        orbax.save(folder / "orbax", args=ocp.args.Composite(**args))
        blocked = time.perf_counter() - start
        orbax.wait_until_finished()
        return blocked, time.perf_counter() - start


def with_digests(folder: Path, state: TrainState) -> tuple[float, float]:
    with Checkpoints(folder) as checkpoints:
        start = time.perf_counter()
        checkpoints.save(1, state)
        blocked = time.perf_counter() - start
        checkpoints.wait()
        return blocked, time.perf_counter() - start


def parts(folder: Path, state: TrainState) -> tuple[float, float, float]:
    saved = folder / checkpoint.FOLDER / "1"
    like = jax.tree.map(checkpoint.on_host, {"params": state.params, "opt_state": state.opt_state})

    def read_back():
        return [digests.of_arrays(checkpoint.read_item(saved / name, like[name])) for name in like]

    return (
        seconds(lambda: digests.of_arrays(state)),
        seconds(read_back),
        seconds(lambda: digests.seal(saved)),
    )


def main() -> None:
    args = parse()
    state = make_state(args.variant)
    size = sum(x.nbytes for x in jax.tree.leaves(state))
    rows = []
    for _ in range(args.rounds + 1):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            alone, ours = orbax_alone(folder, state), with_digests(folder, state)
            rows.append((*alone, *ours, *parts(folder, state)))
    first, rows = rows[0], rows[1:]  # the first round compiles
    a_blocked, a_safe, blocked, safe, device, back, seal = map(
        statistics.median, zip(*rows, strict=True)
    )
    print(
        f"{args.variant} with Adam, {size / 2**20:.0f} MiB, {jax.default_backend()}, medians of "
        f"{args.rounds}; the first time, digests take {first[2] - first[0]:.1f} s more"
    )
    cells = [
        ("training thread blocked, Orbax alone", a_blocked),
        ("training thread blocked, with digests", blocked),
        ("until safe, Orbax alone", a_safe),
        ("until safe, verified, with digests", safe),
        ("  of that: digests of the arrays, on the device", device),
        ("  of that: reading back, digests of that, in the background", back),
        ("  of that: SHA-256 and flushing the files, in the background", seal),
    ]
    rows = [(name, f"{s:.3f}", f"{100 * s / a_safe:.1f} %") for name, s in cells]
    print(table([("", "seconds", "of Orbax's save"), *rows]))


if __name__ == "__main__":
    main()
