"""Seconds from the start of a process to the end of its first training step, beside big_vision.

    python -m benchmarks.start_up --big-vision ../big_vision [--variant H/14] [--rounds 3]

Every figure is of a fresh process (imports, model, parameters, optimizer state, the step's
compilation, the first step), with an empty and with a filled compilation cache, in turns. The
peer is big_vision's models/mlp_mixer.py from a checkout of google-research/big_vision, initialised
and updated as its train.py does, with our optimizer in place of its own; modules that the model
itself does not call (its TensorFlow utilities) are not imported, which favours it. Ours is what
`train.py` runs. Both have the compilation cache in the warm rows; big_vision turns none on itself.
"""

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from unittest import mock

from mlp_mixer import cli

BATCH = 2
FORMS = ("big_vision", "ours")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big-vision", metavar="CHECKOUT", required=True)
    parser.add_argument("--variant", default="H/14")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.form:
        print(json.dumps(big_vision(args) if args.form == "big_vision" else ours(args)))
        return
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for form in FORMS:
            with tempfile.TemporaryDirectory() as cache:
                for state in ("cold", "warm"):
                    found.setdefault((state, form), []).append(measure(args, form, cache))
                    print(state, form, found[state, form][-1], file=sys.stderr)
    rows = [("cache", "form", "wall s", "CPU s", "parameters CPU s", "to big_vision: wall, CPU")]
    for (state, form), runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        ratio = [
            statistics.median(
                a[key] / b[key] for a, b in zip(runs, found[state, "big_vision"], strict=True)
            )
            for key in ("wall", "cpu")
        ]
        rows.append(
            (state, form, *(f"{middle[key]:.1f}" for key in ("wall", "cpu", "parameters")),
             ", ".join(f"{r:.2f}" for r in ratio))
        )  # fmt: skip
    print(cli.table([rows[0], *sorted(rows[1:])]))


def measure(args: argparse.Namespace, form: str, cache: str) -> dict[str, float]:
    """Runs one form in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.start_up", "--form", form,
        "--big-vision", args.big_vision, "--variant", args.variant,
    ]  # fmt: skip
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_PLATFORMS": "cpu",
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu} | json.loads(output)


def make_optimizer():
    """Clipping, Adam, decay of kernels and a schedule, as the ImageNet recipe has."""
    import ml_collections

    from mlp_mixer.training import optimizer

    config = ml_collections.ConfigDict(dict(optimizer="adam", grad_clip=1.0, weight_decay=0.1))
    schedule = optimizer.make_schedule(1e-3, "linear", 1000, 100)
    return optimizer.make_optimizer(config, schedule)


def ours(args: argparse.Namespace) -> dict[str, float]:
    from mlp_mixer.training import compile_cache, host_memory

    host_memory.keep()
    compile_cache.enable()
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mlp_mixer.models import mixer, parameters
    from mlp_mixer.training import parallel
    from mlp_mixer.training.step import TrainState, make_train_step

    module = mixer.create(args.variant, num_classes=1000, head_bias=-6.9)
    layout, tx = parallel.make_layout(), make_optimizer()
    start = time.process_time()
    params = parameters.init(module)
    jax.block_until_ready(params)
    spent = time.process_time() - start
    state = TrainState(jnp.zeros((), jnp.int32), params, jax.jit(tx.init)(params))
    step = layout.jit_step(make_train_step(module, tx, loss="sigmoid"), state)
    batch = {
        "image": np.zeros((BATCH, *module.image_size, 3), np.uint8),
        "label": np.zeros(BATCH, np.int32),
    }
    state, metrics = step(state, layout.to_devices(batch))
    jax.block_until_ready((state, metrics))
    return {"parameters": spent}


def big_vision(args: argparse.Namespace) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    sys.path.insert(0, args.big_vision)
    for name in ("big_vision.utils", "big_vision.models.common"):
        sys.modules[name] = mock.MagicMock()
    model = importlib.import_module("big_vision.models.mlp_mixer").Model(1000, variant=args.variant)
    tx = make_optimizer()

    def init(rng):
        params = model.init(rng, jnp.zeros((BATCH, 224, 224, 3)))["params"]
        params["head"]["bias"] = jnp.full_like(params["head"]["bias"], -6.9)
        return params

    start = time.process_time()
    rng = jax.random.PRNGKey(0)
    jax.eval_shape(tx.init, jax.eval_shape(init, rng))
    params = jax.jit(init)(rng)
    jax.block_until_ready(params)
    spent = time.process_time() - start
    state = {"params": params, "opt": jax.jit(tx.init)(params)}

    def update(state, rng, batch):
        def loss_fn(params):
            logits, _ = model.apply(
                {"params": params}, batch["image"], train=True, rngs={"dropout": rng}
            )
            return optax.sigmoid_binary_cross_entropy(logits, batch["labels"]).sum(-1).mean()

        loss, grads = jax.value_and_grad(loss_fn)(state["params"])
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        measured = {
            name: optax.tree.norm(tree)
            for name, tree in (("grads", grads), ("params", params), ("updates", updates))
        }
        return {"params": params, "opt": opt}, measured | {"loss": loss}

    batch = {
        "image": np.zeros((BATCH, 224, 224, 3), np.float32),
        "labels": np.zeros((BATCH, 1000), np.float32),
    }
    jax.block_until_ready(jax.jit(update, donate_argnums=0)(state, rng, batch))
    return {"parameters": spent}


if __name__ == "__main__":
    main()
