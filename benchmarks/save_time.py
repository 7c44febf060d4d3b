"""What digests and verification add to the time of a save.

    python -m benchmarks.save_time [--variant=B/16] [--rounds=5]

Saves a training state (parameters and Adam's moments) with Orbax alone and with `Checkpointer`, in
turns, to a temporary folder. "blocked" is how long the training thread waits, "until safe" how
long until Orbax has committed it or, with `Checkpointer`, until it is read back, compared, flushed
to the disk and has its name. The parts are timed by themselves, on the same state. CPU seconds are
those of all threads, which other work on the machine changes less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from mlp_mixer.cli.output import table
from mlp_mixer.models import mixer
from mlp_mixer.models.init import init
from mlp_mixer.runs import checkpoints, digests
from mlp_mixer.runs.checkpointer import Checkpointer
from mlp_mixer.runs.checkpoints import TrainState


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="B/16")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def make_state(variant: str) -> TrainState:
    params = init(mixer.create(variant, num_classes=1000), 0)
    grads = init(mixer.create(variant, num_classes=1000), 1)
    tx = optax.adam(1e-3)
    _, opt_state = tx.update(grads, tx.init(params))  # moments that are not all zero
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


def measure(function: Callable[[], object]) -> np.ndarray:
    """Seconds that pass, and seconds of CPU, until the result is there."""
    clocks = (time.perf_counter, time.process_time)
    start = [clock() for clock in clocks]
    jax.block_until_ready(function())
    return np.array([clock() for clock in clocks]) - start


def orbax_alone(folder: Path, state: TrainState) -> tuple[np.ndarray, np.ndarray]:
    items = {"params": state.params, "opt_state": state.opt_state}
    args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
    with ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler()) as orbax:
        blocked = measure(
            lambda: orbax.save(folder / "orbax", args=ocp.args.Composite(**args)) or ()
        )
        return blocked, blocked + measure(lambda: orbax.wait_until_finished() or ())


def with_digests(folder: Path, state: TrainState) -> tuple[np.ndarray, np.ndarray]:
    with Checkpointer(folder) as run:
        blocked = measure(lambda: run.save(1, state) or ())
        return blocked, blocked + measure(lambda: run.wait() or ())


def parts(folder: Path, state: TrainState) -> tuple[np.ndarray, ...]:
    saved = folder / checkpoints.FOLDER / "1"
    like = jax.tree.map(checkpoints.on_host, {"params": state.params, "opt_state": state.opt_state})

    def read_back():
        return [digests.of_arrays(checkpoints.read_item(saved / name, like[name])) for name in like]

    started = []
    in_training_thread = measure(lambda: started.append(digests.start(state)) or ())
    jax.block_until_ready(started)
    return (
        measure(lambda: digests.of_arrays(state) and ()),
        in_training_thread,
        measure(lambda: read_back() and ()),
        measure(lambda: digests.seal(saved, digests.of_files(saved)) or ()),
    )


NAMES = (
    "training thread blocked, Orbax alone",
    "until safe, Orbax alone",
    "training thread blocked, with digests",
    "until safe, verified, with digests",
    "  digests of the arrays, on the device",
    "    of that in the training thread",
    "  reading back, digests of that, in the background",
    "  SHA-256 and flushing of the files, in the background",
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
    medians = np.median(rows[1:], axis=0)  # the first round compiles
    print(
        f"{args.variant} with Adam, {size / 2**20:.0f} MiB, {jax.default_backend()}, medians of "
        f"{args.rounds}; the first time, digests take {rows[0][2][0] - rows[0][0][0]:.1f} s more"
    )
    cells = [
        (name, f"{wall:.2f}", f"{100 * wall / medians[1][0]:.0f} %", f"{cpu:.2f}",
         f"{100 * cpu / medians[1][1]:.1f} %")
        for name, (wall, cpu) in zip(NAMES, medians, strict=True)
    ]  # fmt: skip
    print(table([("", "seconds", "of Orbax's", "CPU seconds", "of Orbax's"), *cells]))


if __name__ == "__main__":
    main()
