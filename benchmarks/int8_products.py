"""Would weights in int8 make inference on a CPU faster? Its products beside those of other dtypes.

    python -m benchmarks.int8_products

The product is that of channel mixing in S/16 with 8 images, on one core, in CPU seconds. Rows with
"int8 weights" start from weights in int8 and activations in the dtype that the row begins with.
"""

import os
import statistics
import time

ROWS, INNER, COLUMNS, ROUNDS = 8 * 196, 512, 2048, 15


def main() -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    import jax
    import jax.numpy as jnp
    import numpy as np

    from mlp_mixer.cli import output

    def dot(a, b, dtype):
        return jax.lax.dot(a, b, preferred_element_type=dtype)

    def quantised(a, b):
        largest = jnp.abs(a).max(1, keepdims=True)
        return dot(jnp.round(a * (127 / largest)).astype(jnp.int8), b, jnp.int32) * (largest / 127)

    rng = np.random.default_rng(0)
    a = jnp.asarray(rng.normal(size=(ROWS, INNER)), jnp.float32)
    b = jnp.asarray(rng.normal(size=(INNER, COLUMNS)), jnp.float32)
    a8, b8 = (jnp.round(x * (127 / jnp.abs(x).max())).astype(jnp.int8) for x in (a, b))
    a16, b16 = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    forms = {
        "float32": (lambda a, b: dot(a, b, jnp.float32), a, b),
        "bfloat16, float32 result": (lambda a, b: dot(a, b, jnp.float32), a16, b16),
        "bfloat16": (lambda a, b: dot(a, b, jnp.bfloat16), a16, b16),
        "int8, int32 result": (lambda a, b: dot(a, b, jnp.int32), a8, b8),
        "float32, int8 weights converted": (lambda a, b: dot(a, b * 0.01, jnp.float32), a, b8),
        "bfloat16, int8 weights converted": (
            lambda a, b: dot(a, b.astype(a.dtype), jnp.float32), a16, b8,
        ),
        "float32 quantised by rows, int8 weights": (quantised, a, b8),
    }  # fmt: skip
    functions = {name: (jax.jit(form[0]), *form[1:]) for name, form in forms.items()}
    seconds = {name: [] for name in forms}
    for number in range(ROUNDS + 1):
        for name, (function, *arguments) in functions.items():
            start = time.process_time()
            jax.block_until_ready(function(*arguments))
            if number:  # the first one compiles
                seconds[name].append(time.process_time() - start)
    rows = [("product", "GFLOP a CPU-second", "to float32 (least to most)")]
    for name, found in seconds.items():
        speed = 2e-9 * ROWS * INNER * COLUMNS / statistics.median(found)
        ratios = [x / y for x, y in zip(seconds["float32"], found, strict=True)]
        rows.append((name, f"{speed:.0f}", f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                     f"{max(ratios):.2f})"))  # fmt: skip
    print(output.table(rows))


if __name__ == "__main__":
    main()
