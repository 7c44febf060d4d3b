"""Images per second of an exported file beside those of the model that it was made from.

    python -m benchmarks.export_speed [--variant S/16] [--batch 16]

Both compute probabilities from uint8 images at 224 pixels with random weights, in float32 and in
bfloat16, in one process, in turns. Ratios are to the model in the same dtype within a round.
"""

import argparse
import statistics
import time
from functools import partial
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import mlp_mixer
from benchmarks.ratios import spread
from mlp_mixer.cli import output
from mlp_mixer.inference.export import serialise
from mlp_mixer.models.losses import to_probabilities
from mlp_mixer.models.mixer import MlpMixer
from mlp_mixer.models.pixels import forward
from mlp_mixer.runtime import host_memory


@partial(jax.jit, static_argnums=0)
def probabilities(module: MlpMixer, params: Any, images: np.ndarray) -> jax.Array:
    return to_probabilities(forward(module, params, images), "softmax")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="S/16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    host_memory.keep()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (args.batch, 224, 224, 3), dtype=np.uint8)
    forms = {}
    for dtype in ("float32", "bfloat16"):
        module = mlp_mixer.create(args.variant, num_classes=1000, dtype=jnp.dtype(dtype))
        params = jax.tree.map(
            lambda x: rng.normal(0, 0.02, x.shape).astype("f4"), mlp_mixer.init(module)
        )
        forms[f"model, {dtype}"] = partial(probabilities, module, jax.device_put(params))
        program = jax.export.deserialize(bytearray(serialise(module, params)))
        forms[f"export, {dtype}"] = jax.jit(program.call)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(args.rounds + 1):
        for name, form in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(form(images))
            if number:  # the first one compiles
                seconds[name].append(time.perf_counter() - start)
    rows = [("form", "images/s", "to the model (least to most)")]
    for name, found in seconds.items():
        model = seconds[name.replace("export", "model")]
        ratios = [a / b for a, b in zip(model, found, strict=True)]
        rows.append((name, f"{args.batch / statistics.median(found):.1f}", spread(ratios)))
    print(f"{args.variant}, batch {args.batch}, {args.rounds} rounds\n\n{output.table(rows)}")


if __name__ == "__main__":
    main()
