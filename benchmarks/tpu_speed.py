"""Our training step beside big_vision's Mixer, by the estimate of the TPU's compiler.

    python -m benchmarks.tpu_speed --big-vision CHECKOUT [--topology v5e:2x4] [--only H/14]

Both are compiled in this run for the same topology with the same libtpu: big_vision's model as it
is written (float32) in the form of its training step (Adam, decoupled decay on kernels, clipping
at 1, sigmoid loss, one batch, jit over all devices), ours as configs/imagenet.py describes it on a
TPU, without mixup and stochastic depth, which big_vision's step does not have here either.
Throughput is from the compiler's cycles alone; see docs/guides/plan.md for what they leave
out. Programs are kept in --results, which compiles nothing twice. Needs libtpu, and a checkout of
google-research/big_vision.
"""

import argparse
import importlib
import math
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.tpu_results import kept
from mlp_mixer.cli.output import table
from mlp_mixer.planning import compiler
from mlp_mixer.planning.chips import GIB, Topology, parse_topology

# Variant: images for each device; throughput (at least) and memory (at most) that are wanted, in
# terms of big_vision's.
CASES = {"B/16": (128, 1.5, 0.6), "H/14": (32, 1.35, math.inf)}
CLASSES, EXAMPLES = 1000, 1_268_355


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--big-vision", metavar="CHECKOUT", required=True)
    parser.add_argument("--topology", default="v5e:2x4")
    parser.add_argument("--only", choices=CASES, help="one variant")
    parser.add_argument("--results", type=Path, default=Path("runs/tpu_speed.json"))
    args = parser.parse_args()
    topology = parse_topology(args.topology)
    rows = [("", "Mcycles", "images/s a chip", "GiB", "throughput", "wanted", "memory", "wanted")]
    for variant in [args.only] if args.only else CASES:
        rows += case(variant, topology, args.big_vision, args.results)
    print(table(rows))


def case(variant: str, topology: Topology, checkout: str, results: Path) -> list[tuple[str, ...]]:
    """Two lines of the table."""
    images, fast, small = CASES[variant]
    where = f"{variant}, {images} images a device, {topology.name}"
    theirs = kept(
        results, f"big_vision {where}", big_vision_program, checkout, variant, images, topology.name
    )
    config = our_config(variant, images * topology.devices)
    ours = kept(
        results, f"ours {where}", compiler.train_program, config, CLASSES, EXAMPLES, topology.name
    )

    def cells(program: compiler.Program) -> tuple[str, str, str]:
        if not program.fits:
            return "", "does not fit", f"{memory(program) / GIB:.2f}"
        seconds = program.cycles / (topology.chip.mhz * 1e6) / topology.chip.cores
        rate, size = f"{images / seconds:,.0f}", f"{memory(program) / GIB:.2f}"
        return f"{program.cycles / 1e6:.1f}", rate, size

    faster = theirs.cycles / ours.cycles if theirs.fits else math.inf
    return [
        (f"{where}: big_vision, float32", *cells(theirs), "1", "", "1", ""),
        (f"{where}: ours", *cells(ours), f"{faster:.2f}", f"{fast}",
         f"{memory(ours) / memory(theirs):.2f}", f"{small}"),
    ]  # fmt: skip


def memory(program: compiler.Program) -> float:
    """Bytes of a device but for the program itself, which is no part of either model."""
    return sum(size for name, size in program.memory.items() if name != "code")


def our_config(variant: str, batch_size: int) -> Any:
    """configs/imagenet.py with the optimizer and loss of both, and nothing that only one does."""
    from configs import imagenet

    config = imagenet.get_config(variant)
    config.batch_size = batch_size
    config.mixup = config.model.stoch_depth = 0.0
    return config


def big_vision_model(checkout: str, variant: str) -> Any:
    """The Flax module of a variant from a checkout of big_vision."""
    sys.path.insert(0, checkout)
    for name in ("big_vision.utils", "big_vision.models.common"):  # need TensorFlow
        sys.modules[name] = mock.MagicMock()
    return importlib.import_module("big_vision.models.mlp_mixer").Model(CLASSES, variant=variant)


def big_vision_program(checkout: str, variant: str, images: int, topology: str) -> compiler.Program:
    """big_vision's Mixer, its loss and its optimizer in one jitted step over all devices."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from jax.sharding import Mesh, NamedSharding
    from jax.sharding import PartitionSpec as P

    from mlp_mixer.training.optimizer import kernels

    model = big_vision_model(checkout, variant)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(0.1, mask=kernels),
        optax.scale(-1e-3),
    )
    mesh = Mesh(np.array(compiler.devices_of(parse_topology(topology))), ("data",))
    everywhere, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    def step(params, opt, images, labels):
        def loss(params):
            logits, _ = model.apply({"params": params}, images, train=True)
            return optax.sigmoid_binary_cross_entropy(logits, labels).sum(-1).mean()

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt = tx.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, value

    count = images * mesh.size
    batch = jax.ShapeDtypeStruct((count, 224, 224, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((count, CLASSES), jnp.float32)
    one = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), one)["params"]
    opt = jax.eval_shape(tx.init, params)
    jitted = jax.jit(
        step,
        in_shardings=(everywhere, everywhere, rows, rows),
        out_shardings=everywhere,
        donate_argnums=(0, 1),
    )
    parts = {
        "parameters": compiler.bytes_of(params),
        "optimizer": compiler.bytes_of(opt),
        "batch": compiler.bytes_of((batch, labels)) / mesh.size,
    }
    return compiler.compile_program(jitted.lower(params, opt, batch, labels), parts, 0.0)


if __name__ == "__main__":
    main()
