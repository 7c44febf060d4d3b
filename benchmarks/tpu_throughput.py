"""The paper's throughput column: Mixer, ViT and BiT, published on TPU v3 and planned on others.

    python -m benchmarks.tpu_throughput [--topologies v3:2x2 v5e:1x1 v6e:1x1] [--models Mixer-B/16]

Forward passes on one device, by the estimate of the compiler. The paper sweeps the batch size and
gives the best; here it is fixed (--batch), to compile each model once. Programs are kept in
--results, which compiles nothing twice. Needs libtpu.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.tpu_results import kept
from mlp_mixer.planning import compiler
from mlp_mixer.planning.chips import parse_topology
from mlp_mixer.planning.estimate import Estimate

# Images a second and core of TPU v3 at 224 pixels: Table 3 of the paper; R152x4 is not in it at 224
# (26 at its resolution of fine-tuning).
PUBLISHED = {
    "Mixer-S/32": 11489, "Mixer-B/32": 4208, "Mixer-S/16": 3994, "Mixer-B/16": 1384,
    "Mixer-L/32": 1314, "Mixer-L/16": 419, "Mixer-H/14": 194,
    "ViT-B/16": 861, "ViT-L/16": 280, "ViT-H/14": 87,
    "BiT-R50x1": 2159, "BiT-R152x2": 356, "BiT-R152x4": None,
}  # fmt: skip
RATIOS = (("Mixer-B/16", "ViT-B/16"), ("Mixer-L/16", "ViT-L/16"), ("Mixer-H/14", "ViT-H/14"),
          ("Mixer-B/16", "BiT-R50x1"), ("Mixer-L/16", "BiT-R152x2"))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topologies", nargs="+", default=["v3:2x2", "v5e:1x1", "v6e:1x1"])
    parser.add_argument("--models", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--batch", type=int, default=32, help="images on a device")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="of the compiler; xla_tpu_dot_dot_fusion=false undoes what it estimates badly on v3",
    )  # fmt: skip
    parser.add_argument("--results", type=Path, default=Path("runs/tpu_throughput.json"))
    args = parser.parse_args()
    rates: dict[tuple[str, str], float] = {}
    for topology in args.topologies:
        for model in args.models:
            program = kept(
                args.results, ", ".join([model, f"{args.batch} images", topology, *args.option]),
                forward, model, args.batch, topology, dict(x.split("=") for x in args.option),
            )  # fmt: skip
            made = Estimate(program, parse_topology(topology), args.batch)
            rates[model, topology] = args.batch / made.step_seconds  # of one device
    heads = " | ".join(f"{t.split(':')[0]}, a {parse_topology(t).unit}" for t in args.topologies)
    print(f"| img/s | published, v3 core | {heads} |\n|---|---|{'---|' * len(args.topologies)}")
    for model in args.models:
        cells = " | ".join(f"{rates[model, t]:,.0f}" for t in args.topologies)
        print(f"| {model} | {PUBLISHED[model] or ''} | {cells} |")
    print(f"\n| ratio | published | {heads} |\n|---|---|{'---|' * len(args.topologies)}")
    for a, b in RATIOS:
        if a in args.models and b in args.models:
            cells = " | ".join(f"{rates[a, t] / rates[b, t]:.2f}" for t in args.topologies)
            print(f"| {a} : {b} | {PUBLISHED[a] / PUBLISHED[b]:.2f} | {cells} |")


def forward(model: str, batch: int, topology: str, options: dict[str, str]) -> compiler.Program:
    """The forward pass of a model in bfloat16, with 1,000 classes at 224 pixels."""
    return compiler.forward_program(make(model), batch, topology, options)


def make(model: str) -> Any:
    """The Flax module of a name such as Mixer-B/16."""
    import jax.numpy as jnp

    from mlp_mixer.models import bit, mixer, vit

    kind, _, variant = model.partition("-")
    create = {"Mixer": mixer.create, "ViT": vit.create, "BiT": bit.create}[kind]
    return create(variant, num_classes=1000, dtype=jnp.bfloat16)


if __name__ == "__main__":
    main()
