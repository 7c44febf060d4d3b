"""Into how many parts a batch is cut, so that what lies between layers stays in fast memory."""

from typing import Any

import jax

# The largest part. On a TPU, by its activations between layers: those of 16 images in H/14, or 34
# in B/16, fit the on-chip memory of a v5e; with parts of 8 images a step of H/14 takes 6 % more
# cycles (docs/lab/tpu_compiler.md). On a CPU, by its tokens: fewer leave caches earlier, but
# summing the gradients of many parts costs more (docs/lab/speed.md). A GPU gains nothing from
# parts.
MOST_ACTIVATIONS_ON_TPU = 16 * 256 * 1280
MOST_TOKENS_ON_CPU = 2048

# In parts, a forward pass of 128 images of B/16 takes 0.88 of the cycles on a v5e and 0.68 on a
# v6e, by the compiler, but more on these (docs/lab/tpu_compiler.md). "TPU v5" is the v5p.
FORWARD_AS_A_WHOLE = ("TPU v2", "TPU v3", "TPU v4", "TPU v5")


def best_parts(module: Any, rows: int, platform: str) -> int:
    """Returns into how many equal parts a batch is best cut, to be computed one after the other.

    That is the fewest that fit. A number of rows such as 509 could only be cut into single rows,
    which would take longer than the batch as a whole; it is left whole.

    Args:
        module: a model; all but Mixers are computed whole.
        rows: a device's share of the batch.
        platform: of the device, in JAX's words.
    """
    tokens = getattr(module, "num_tokens", 0)  # only the Mixer has it
    if platform not in ("tpu", "cpu") or not rows or not tokens:
        return 1
    if platform == "tpu":
        most = MOST_ACTIVATIONS_ON_TPU // (tokens * module.hidden_dim)
    else:
        most = MOST_TOKENS_ON_CPU // tokens
    fewest = -(-rows // max(1, most))
    return next((parts for parts in range(fewest, 4 * fewest) if rows % parts == 0), 1)


def forward_parts(module: Any, rows: int, device: jax.Device) -> int:
    """Returns into how many equal parts a forward pass without gradients is best cut.

    Args:
        module: a model.
        rows: the device's share of the batch.
        device: a jax.Device.
    """
    if device.device_kind in FORWARD_AS_A_WHOLE:
        return 1
    return best_parts(module, rows, device.platform)
