"""Seconds from the start of a process until it is ready to step, beside big_vision.

    python -m benchmarks.start_up --big-vision ../big_vision [--variant H/14] [--rounds 3]

Every figure is of a fresh process (imports, model, parameters, optimizer state, the step's
compilation), with an empty and with a filled compilation cache, in turns. The peer is big_vision's
models/mlp_mixer.py from a checkout of google-research/big_vision, initialised and updated as its
train.py does, with our optimizer in place of its own; modules that the model itself does not call
(its TensorFlow utilities) are not imported, which favours it. Ours is what `train.py` runs. Both
have the compilation cache in the warm rows; big_vision turns none on itself.
"""

import argparse
import concurrent.futures
import importlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from unittest import mock

from mlp_mixer.cli import output

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
        return big_vision(args) if args.form == "big_vision" else ours(args)
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        for form in FORMS:
            with tempfile.TemporaryDirectory() as cache:
                for state in ("cold", "warm"):
                    found.setdefault((state, form), []).append(measure(args, form, cache))
                    print(state, form, found[state, form][-1], file=sys.stderr)
    rows = [("cache", "form", "wall s", "CPU s", "to big_vision: wall, CPU")]
    for (state, form), runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        ratio = [
            statistics.median(
                a[key] / b[key] for a, b in zip(runs, found[state, "big_vision"], strict=True)
            )
            for key in ("wall", "cpu")
        ]
        rows.append(
            (state, form, f"{middle['wall']:.1f}", f"{middle['cpu']:.1f}",
             ", ".join(f"{r:.2f}" for r in ratio))
        )  # fmt: skip
    print(output.table([rows[0], *sorted(rows[1:])]))


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
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def make_optimizer():
    """Clipping, Adam, decay of kernels and a schedule, as the ImageNet recipe has."""
    import ml_collections
    import optax

    from mlp_mixer.training import optimizer

    config = ml_collections.ConfigDict(dict(optimizer="adam", weight_decay=0.1))
    schedule = optimizer.make_schedule(1e-3, "linear", 1000, 100)
    return optax.chain(optax.clip_by_global_norm(1.0), optimizer.make_optimizer(config, schedule))


def ours(args: argparse.Namespace) -> None:
    from mlp_mixer.runtime import compile_cache, host_memory

    host_memory.keep()
    compile_cache.enable()
    import jax
    import jax.numpy as jnp

    from configs import imagenet
    from mlp_mixer.training import initial
    from mlp_mixer.training.recipe import make_recipe

    config = imagenet.get_config(args.variant)
    config.batch_size = BATCH
    config.mixup = config.model.stoch_depth = 0.0  # which big_vision's step does not have here
    recipe = make_recipe(config, num_classes=1000, num_examples=1_268_355)
    like = recipe.state_shapes()
    shardings = recipe.layout.shardings(like)

    def new_state():
        names = tuple(map(str, range(1000)))
        params = initial.parameters(config, recipe.module, names, shardings.params)
        return jax.device_put(recipe.new_state(params), shardings)

    batch = {
        "image": jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((BATCH,), jnp.int32),
    }
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        state = pool.submit(new_state)
        recipe.layout.compile_step(recipe.step, like, batch)
        jax.block_until_ready(state.result())


def big_vision(args: argparse.Namespace) -> None:
    import jax
    import jax.numpy as jnp
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

    rng = jax.random.PRNGKey(0)
    jax.eval_shape(tx.init, jax.eval_shape(init, rng))
    params = jax.jit(init)(rng)
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
        "image": jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.float32),
        "labels": jax.ShapeDtypeStruct((BATCH, 1000), jnp.float32),
    }
    jax.jit(update, donate_argnums=0).lower(state, rng, batch).compile()
    jax.block_until_ready(state)


if __name__ == "__main__":
    main()
