"""What a step of SAM and of GSAM costs beside a plain one, on the device that is here.

    python -m benchmarks.sam_cost [--variant S/16] [--image-size 64] [--batch 64] [--group-size 16]

All three steps are compiled in one process and take turns, so that other load meets them alike. The
table has the ratio to the plain step within a round, as the median with the smallest and largest:
of wall time, and of CPU time, which is what counts on a CPU that others use. Memory is XLA's
account of temporary arrays. Compilation is not timed. What a TPU's compiler says of the same steps:

    mlp-mixer plan --config=imagenet:B/16 --topology=v5e:1x1 --config.batch_size=128
    mlp-mixer plan --config=gsam:B/16 --topology=v5e:1x1 --config.batch_size=128
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mlp_mixer.models import mixer
from mlp_mixer.models.init import init
from mlp_mixer.runs.checkpoints import TrainState
from mlp_mixer.runtime import host_memory
from mlp_mixer.training import layouts
from mlp_mixer.training.sam import Sam
from mlp_mixer.training.step import make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="S/16")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--group-size", type=int, default=16, help="images of a perturbation")
    parser.add_argument("--accum-steps", type=int, default=1, help="parts of the plain step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--layout", default="replicated", choices=list(layouts.LAYOUTS))
    args = parser.parse_args()
    host_memory.keep()
    on_cpu = jax.default_backend() == "cpu"
    module = mixer.create(
        args.variant, num_classes=1000, image_size=args.image_size,
        dtype=jnp.float32 if on_cpu else jnp.bfloat16,
    )  # fmt: skip
    forms = {
        "plain": None,
        "SAM": Sam(lambda step: 0.5 + 0.0 * step, 0.0, args.group_size),
        "GSAM": Sam(lambda step: 0.5 + 0.0 * step, 0.1, args.group_size),
    }
    steps = {name: Step(module, sam, args) for name, sam in forms.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(args.rounds):
        for name, step in steps.items():
            times[name].append(step.take())
    print(
        f"{args.variant} at {args.image_size} px, batch {args.batch} on {jax.device_count()} "
        f"{jax.devices()[0].device_kind}, groups of {args.group_size}, {args.rounds} rounds"
    )
    for name, step in steps.items():
        words = [f"{name}: {step.temporary / 2**20:.1f} MiB temporary"]
        for number, clock in enumerate(("wall", "CPU")):
            seconds = statistics.median(pair[number] for pair in times[name])
            pairs = zip(times[name], times["plain"], strict=True)
            ratios = [pair[number] / plain[number] for pair, plain in pairs]
            words.append(
                f"{seconds:.3f} s {clock}, {statistics.median(ratios):.2f} of plain "
                f"({min(ratios):.2f} to {max(ratios):.2f})"
            )
        print("; ".join(words))


class Step:
    """A compiled step with its state."""

    def __init__(self, module, sam: Sam | None, args: argparse.Namespace):
        layout, tx = layouts.make_layout(args.layout), optax.adam(1e-3)
        params = init(module)
        state = TrainState(jnp.zeros((), jnp.int32), params, tx.init(params))
        self._state = jax.device_put(state, layout.shardings(state))
        rng = np.random.default_rng(0)
        size = (args.batch, args.image_size, args.image_size, 3)
        self._batch = layout.to_devices(
            {
                "image": rng.integers(0, 256, size, dtype=np.uint8),
                "label": rng.integers(0, 1000, args.batch).astype(np.int32),
            }
        )
        step = make_train_step(
            module, tx, loss="softmax", sam=sam, grad_clip=1.0, accum_steps=args.accum_steps
        )
        lowered = layout.jit_step(step, self._state).lower(self._state, self._batch)
        self._step = lowered.compile()
        self.temporary = self._step.memory_analysis().temp_size_in_bytes
        self.take()

    def take(self) -> tuple[float, float]:
        """Takes a step; returns its wall and CPU seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        self._state, _ = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)
        return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
