"""Evaluation on a TPU beside big_vision's Mixer, by the estimate of the TPU's compiler.

    python -m benchmarks.tpu_evaluation --big-vision CHECKOUT [--topologies v5e:1x1 v6e:1x1]

Forward passes on one device with 1,000 classes at 224 pixels: big_vision's model as it is written
(float32), ours in bfloat16 with the batch whole, and ours as evaluations compute it, in parts that
stay in on-chip memory (`models.parts.forward_parts`). Programs are kept in --results, which
compiles nothing twice. Needs libtpu, and a checkout of google-research/big_vision.
"""

import argparse
from pathlib import Path
from unittest import mock

from benchmarks.tpu_results import kept
from benchmarks.tpu_speed import CLASSES, big_vision_model
from mlp_mixer.cli.output import table
from mlp_mixer.planning import compiler
from mlp_mixer.planning.chips import parse_topology

CASES = (("B/32", 128), ("S/16", 128), ("B/16", 128), ("L/16", 128), ("B/16", 512))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--big-vision", metavar="CHECKOUT", required=True)
    parser.add_argument("--topologies", nargs="+", default=["v5e:1x1", "v6e:1x1"])
    parser.add_argument("--results", type=Path, default=Path("runs/tpu_evaluation.json"))
    args = parser.parse_args()
    rows = [("", "big_vision", "ours, whole", "ours", "to whole", "to big_vision")]
    for topology in args.topologies:
        for variant, images in CASES:
            where = f"{variant}, {images} images, {topology}"
            forms = {"big_vision": (big_vision, args.big_vision), "ours, whole": (ours, False),
                     "ours": (ours, True)}  # fmt: skip
            theirs, whole, in_parts = (
                kept(args.results, f"{form}: {where}", function, variant, images, topology, more)
                .cycles / 1e6
                for form, (function, more) in forms.items()
            )  # fmt: skip
            rows.append((
                where, f"{theirs:.1f}", f"{whole:.1f}", f"{in_parts:.1f}",
                f"{whole / in_parts:.2f}", f"{theirs / in_parts:.2f}",
            ))  # fmt: skip
    print("Mcycles of a batch; throughput in terms of the whole batch's and big_vision's")
    print(table(rows))


def ours(variant: str, images: int, topology: str, in_parts: bool) -> compiler.Program:
    import jax.numpy as jnp

    from mlp_mixer.models import mixer, parts

    [device, *_] = compiler.devices_of(parse_topology(topology))
    as_a_whole = parts.FORWARD_AS_A_WHOLE if in_parts else (device.device_kind,)
    with mock.patch.object(parts, "FORWARD_AS_A_WHOLE", as_a_whole):
        module = mixer.create(variant, num_classes=CLASSES, dtype=jnp.bfloat16)
        return compiler.forward_program(module, images, topology)


def big_vision(variant: str, images: int, topology: str, checkout: str) -> compiler.Program:
    import jax
    import jax.numpy as jnp

    from mlp_mixer.models.pixels import normalise

    model = big_vision_model(checkout, variant)
    [device, *_] = compiler.devices_of(parse_topology(topology))
    lies = jax.sharding.SingleDeviceSharding(device)
    pixels = jax.ShapeDtypeStruct((images, 224, 224, 3), jnp.uint8)
    one = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), one)["params"]
    jitted = jax.jit(
        lambda params, x: model.apply({"params": params}, normalise(x))[0],
        in_shardings=lies, out_shardings=lies,
    )  # fmt: skip
    parts = {"parameters": compiler.bytes_of(params), "batch": compiler.bytes_of(pixels)}
    return compiler.compile_program(jitted.lower(params, pixels), parts, 0.0)


if __name__ == "__main__":
    main()
